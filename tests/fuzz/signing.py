"""Odd events with right signatures, so that what is odd about them is looked at and not their signatures."""

from typing import Any

from linmatrix.protocol.completion import complete, make_lpdu
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.signing import SigningKey

UNSIGNABLE = (ProtocolError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What our own functions raise for fields that they are never given: no dict, numbers and texts that JSON lacks."""


def signed(fields: Any, *, hub: str, key: SigningKey) -> Any:
    """The fields as an LPDU of their sender's server, or as they are where they cannot be signed."""
    try:
        return make_lpdu(fields, hub_server=hub, key=key).event
    except UNSIGNABLE:
        return fields


def completed(event: Any, *, hub: str, key: SigningKey, auth_events: list[str], prev_event: str | None) -> Any:
    """An event with what its hub adds, or as it is where that cannot be."""
    try:
        return complete(event, auth_events=auth_events, prev_event=prev_event, server=hub, key=key).event
    except UNSIGNABLE:
        return event
