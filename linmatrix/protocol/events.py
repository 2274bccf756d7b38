"""The schema of LPDUs and PDUs (draft sections "Events" and "Linearized PDU").

What passes here has the shape that all other modules rely on; type-specific content is not looked at.
Decisions 7, 11 to 15, 19, 34 to 37.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, NewType

from linmatrix.protocol.canonical_json import MAX_CONTENT_DEPTH, MAX_SAFE_INTEGER, nesting
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import domain_of, is_event_id, is_room_id, is_server_name, is_user_id

MAX_EVENT_BYTES = 65536
"""Canonical JSON of one event, signatures included (draft, "Events")."""

MAX_TYPE_LENGTH = 255
"""Characters of `type` and of `state_key` (draft, "Events"; decision 7)."""

MAX_REFERENCES = 20
"""Entries of `auth_events` and of `prev_events`. The selection algorithm names five at most and a hub
one predecessor; a hub that takes in several branches of a DAG names more, but not a hundred."""

ALL_ADDED = 3
"""What only the hub can set, and an LPDU has nothing of: `auth_events`, `prev_events` and hashes beside the LPDU's."""


CheckedEvent = NewType("CheckedEvent", dict[str, Any])
"""An event object that has passed `check_schema`: its members have the types that all else relies on."""


class Lpdu(NamedTuple):
    """A checked LPDU: schema, signature and hash are right (or it is the redacted copy, decision 20).

    `event` carries the sender's server's signatures only. `lpdu_id` is its id as it was received.
    """

    event: dict[str, Any]
    lpdu_id: str
    redacted: bool = False


class Pdu(NamedTuple):
    """A complete event: `encoded` is its canonical JSON, which is kept and served as it is.

    `lpdu_id` is the id of the LPDU within it, None for an event that a hub made by itself.
    `redacted` says that a content hash did not match and this is the redacted copy; `altered`, that what came was not
    that copy already, so that somebody has changed what was signed.
    """

    event: dict[str, Any]
    event_id: str
    lpdu_id: str | None
    encoded: bytes
    redacted: bool = False
    altered: bool = False

    @property
    def sender_server(self) -> str:
        """The server of the event's sender."""
        return domain_of(self.event["sender"])


def without_unsigned(event: CheckedEvent) -> dict[str, Any]:
    """The event without `unsigned`, which is outside of every hash and signature (decision 19)."""
    return {key: value for key, value in event.items() if key != "unsigned"} if "unsigned" in event else event


def is_lpdu(event: dict[str, Any]) -> bool:
    """Whether an event object is meant as an LPDU rather than as a PDU (decision 14).

    An LPDU names its hub and has none of what the hub adds; a PDU has all of it. Anything between is
    neither and raises `Malformed`.
    """
    hashes = event.get("hashes")
    hashed_by_hub = isinstance(hashes, dict) and len(hashes) > ("lpdu" in hashes)
    added = ("auth_events" in event) + ("prev_events" in event) + hashed_by_hub
    if added == ALL_ADDED:
        return False
    if added == 0 and "hub_server" in event:
        return True
    raise Malformed("neither an LPDU nor a PDU: some of auth_events, prev_events, hashes, hub_server are missing")


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TYPE_LENGTH and "\0" not in value


def _is_timestamp(value: object) -> bool:
    return type(value) is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_hash_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_reference_list(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_REFERENCES and all(map(is_event_id, value))


_REQUIRED: dict[str, Callable[[object], bool]] = {
    "room_id": is_room_id,
    "type": _is_short_text,
    "sender": is_user_id,
    "origin_server_ts": _is_timestamp,
    "content": _is_object,
    "hashes": _is_object,
    "signatures": _is_object,
}
_OPTIONAL: dict[str, Callable[[object], bool]] = {
    "state_key": _is_short_text,
    "hub_server": is_server_name,
    "auth_events": _is_reference_list,
    "prev_events": _is_reference_list,
}


def check_schema(event: object) -> CheckedEvent:
    """Return `event` when it has the schema of an LPDU or PDU; raise `Malformed` with the field's name."""
    if not isinstance(event, dict):
        raise Malformed("an event must be a JSON object")
    for field, valid in _REQUIRED.items():
        if field not in event:
            raise Malformed(f"the event has no {field}")
        if not valid(event[field]):
            raise Malformed(f"the event's {field} is invalid")
    for field, valid in _OPTIONAL.items():
        if field in event and not valid(event[field]):
            raise Malformed(f"the event's {field} is invalid")
    _check_hashes(event, lpdu=is_lpdu(event))
    if nesting(event, MAX_CONTENT_DEPTH) > MAX_CONTENT_DEPTH:
        raise Malformed(f"the event is nested deeper than {MAX_CONTENT_DEPTH}")
    return CheckedEvent(event)


def _check_hashes(event: dict[str, Any], *, lpdu: bool) -> None:
    hashes = event["hashes"]
    if "hub_server" in event:
        if not _is_hash_map(hashes.get("lpdu")):
            raise Malformed("an event with a hub_server must have an LPDU hash")
    elif "lpdu" in hashes:
        raise Malformed("an event without a hub_server must not have an LPDU hash")
    if not lpdu and not isinstance(hashes.get("sha256"), str):
        raise Malformed("a PDU must have a sha256 hash")
