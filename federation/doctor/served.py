"""The keys that a server publishes, and its clock, as others get to see them."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from django.conf import settings

from federation.doctor.finding import PATIENCE, Finding
from keys.http import http_client
from keys.local import signing_key
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.errors import ProtocolError
from linmatrix.transport.errors import TransportError

PATH = "/_matrix/key/v2/server"
SKEW_SECONDS = 30.0
"""A Date header counts whole seconds, and the answer was under way."""


def look(server_name: str) -> Iterator[Finding]:
    """Its keys, and its clock by the answer's Date header."""
    subject = f"keys that {server_name} publishes"
    try:
        response = http_client().request(
            server_name, "GET", PATH, headers={}, timeout=PATIENCE, max_response_bytes=settings.LIMITS.key_answer_bytes
        )
    except TransportError as error:
        yield Finding(subject, error.reason, "See what is wrong above, and that the server runs.")
        return
    if response.status != 200:
        yield Finding(subject, f"HTTP {response.status}", f"See that {PATH} leads to the server: another one answered.")
        return
    try:
        answer = canonical_json.loads_object(response.body)
    except ProtocolError as error:
        yield Finding(subject, error.reason, f"See that {PATH} leads to the server: another one answered.")
        return
    yield _keys(subject, server_name, answer)
    yield from _clock(server_name, response.headers.get("date", ""))


def _keys(subject: str, server_name: str, answer: dict[str, Any]) -> Finding:
    if answer.get("server_name") != server_name:
        advice = "See that the name leads to this server, and what LINMATRIX_SERVER_NAME is there."
        return Finding(subject, f"they are those of {str(answer.get('server_name'))[:255]!r}", advice)
    keys, until = answer.get("verify_keys"), answer.get("valid_until_ts")
    if not isinstance(keys, dict) or not isinstance(until, int):
        return Finding(subject, "the answer has no keys", "Another program answers there, or it is broken.")
    hours = (until / 1000 - time.time()) / 3600
    if hours <= 0:
        return Finding(subject, f"they were valid until {-hours:.1f} hours ago", "See the clock of that machine.")
    if server_name == settings.SERVER_NAME:
        ours = signing_key()
        shown = keys.get(ours.key_id)
        if not isinstance(shown, dict) or shown.get("key") != encode_base64(ours.public_key):
            advice = "Another server answers under our name, or one with another key file: look for old processes."
            return Finding(subject, f"{ours.key_id}, which signs here, is not among them", advice)
    return Finding(subject, f"{', '.join(map(repr, list(keys)[:4]))}, valid for {hours:.0f} hours")


def _clock(server_name: str, date: str) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return
    apart = time.time() - theirs
    if abs(apart) > SKEW_SECONDS:
        which = "ahead of" if apart > 0 else "behind"
        says = f"ours is {abs(apart):.0f} s {which} that of {server_name}"
        yield Finding("clock", says, "Find out which of the two is wrong, and set it by NTP.")
    else:
        yield Finding("clock", f"that of {server_name} agrees with ours")
