"""A named peer: whether it is found, whether it has keys, and whether it takes what we sign."""

from collections.abc import Iterator

from federation import paths
from federation.client import federation_client
from federation.doctor import names, served
from federation.doctor.finding import PATIENCE, Finding
from linmatrix.transport.errors import TransportError

UNKNOWN_EVENT = "$doctor-asks-for-an-event-that-nobody-has"
AUTHENTICATED = (200, 403, 404)
"""Who gets to hear that there is no such event, or that it is none of his business, was believed who he is."""


def look(server_name: str) -> Iterator[Finding]:
    """All of it, until something keeps the rest from being looked at."""
    target, found = names.look(server_name)
    yield found
    if target is None:
        return
    yield from served.look(server_name)
    yield _round_trip(server_name)


def _round_trip(server_name: str) -> Finding:
    subject = f"a signed request to {server_name}"
    try:
        answer = federation_client().call(server_name, "GET", paths.event(UNKNOWN_EVENT), stable=True, timeout=PATIENCE)
    except TransportError as error:
        return Finding(subject, error.reason, "See what is wrong above; the peer may be down.")
    if answer.unrecognized:
        return Finding(subject, str(answer), "It answers, and does not know this endpoint: it may be no such server.")
    if answer.status in AUTHENTICATED:
        return Finding(subject, f"it was answered with {answer}, so our signature was taken")
    if answer.status == 401:
        advice = "It cannot check our signature: see above whether others can get our keys, and ask its operator."
        return Finding(subject, str(answer), advice)
    if answer.status == 429:
        return Finding(subject, str(answer), "It has had enough requests of ours: try again later.")
    return Finding(subject, str(answer), "It answered, and not as a server should: ask its operator.")
