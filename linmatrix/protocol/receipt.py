"""The checks that every received event passes before authorization.

Draft section "Receiving Events/PDUs": schema (`events.check_schema`), then signatures, then content hashes. What
fails the first two is dropped; what fails the third is processed as its redacted copy (decision 20). One function
for LPDUs and one for PDUs, whatever endpoint brought them (threat T34).
"""

from hashlib import sha256
from typing import Any

from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import BadSignature, Malformed, TooLarge
from linmatrix.protocol.events import MAX_EVENT_BYTES, CheckedEvent, Lpdu, Pdu, is_lpdu, without_unsigned
from linmatrix.protocol.hashes import (
    event_id_of,
    lpdu_content_hash,
    lpdu_hashed_bytes,
    lpdu_of,
    matches,
    pdu_content_hash,
    signed_bytes,
)
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.redaction import redact
from linmatrix.protocol.signing import KnownKeys, check_signature, signature_ids

MAX_SIGNATURES_PER_SERVER = 4
"""Keys of one server that are looked up for one event. Servers have one or two, during a rotation."""


def required_signers(event: CheckedEvent) -> list[str]:
    """The servers that must have signed an event: the sender's, and for a PDU its hub's."""
    signers = [domain_of(event["sender"])]
    if "auth_events" in event and "hub_server" in event and event["hub_server"] not in signers:
        signers.append(event["hub_server"])
    return signers


def keys_needed(event: CheckedEvent) -> set[tuple[str, str]]:
    """The (server, key id) pairs whose keys the checks of this event may use; few, whatever it lists."""
    return {
        (server, key_id)
        for server in required_signers(event)
        for key_id in signature_ids(event["signatures"], server)[:MAX_SIGNATURES_PER_SERVER]
    }


def receive_lpdu(checked: CheckedEvent, *, keys: KnownKeys) -> Lpdu:
    """Check an LPDU as its hub.

    Raises `Malformed`, `TooLarge` or `BadSignature`. Signatures by others than the sender's server are
    taken off: they are nothing the hub could vouch for (decision 15).
    """
    event = without_unsigned(checked)
    if not is_lpdu(event):
        raise Malformed("the event is a PDU, not an LPDU")
    hashed = lpdu_hashed_bytes(event)
    # Two objects without a member in common, merged into one: that is the event.
    rest = {"hashes": event["hashes"], "signatures": event["signatures"]}
    if len(hashed) + len(canonical_json.dumps(rest)) - 1 > MAX_EVENT_BYTES:
        raise TooLarge(f"the event is larger than {MAX_EVENT_BYTES} bytes")
    server = domain_of(event["sender"])
    covered = signed_bytes(event)
    check_signature(covered, event["signatures"], server=server, keys=keys, ts=event["origin_server_ts"])
    lpdu = {**event, "signatures": {server: event["signatures"][server]}}
    redacted = not matches(event["hashes"]["lpdu"].get("sha256"), sha256(hashed).digest())
    return Lpdu(redact(lpdu) if redacted else lpdu, event_id_of(covered), redacted)


def receive_pdu(checked: CheckedEvent, *, hub: str, keys: KnownKeys) -> Pdu:
    """Check a PDU of a room whose hub is `hub`, as a participant.

    Raises `Malformed`, `TooLarge` or `BadSignature`. An event without `hub_server` must be the hub's own
    (decision 13); the hub's own event may carry `hub_server` too, and then needs its one signature
    (decision 12). The hub's signature is what binds an event to its place (decision 25). A foreign `event_id`
    member is dropped when the hashes only match without it (decision 19).
    """
    event = without_unsigned(checked)
    if is_lpdu(event):
        raise Malformed("the event is an LPDU, not a PDU")
    sender_server = domain_of(event["sender"])
    if event.get("hub_server", sender_server) != hub:
        raise BadSignature(f"the event did not come through the hub {hub}")
    event = _without_foreign_event_id(event)
    encoded = canonical_json.dumps(event)
    if len(encoded) > MAX_EVENT_BYTES:
        raise TooLarge(f"the event is larger than {MAX_EVENT_BYTES} bytes")
    covered = signed_bytes(event)
    check_signature(covered, event["signatures"], server=hub, keys=keys, ts=event["origin_server_ts"])
    lpdu_id = _check_lpdu_within(event, hub=hub, keys=keys)
    event_id = event_id_of(covered)
    if _hashes_match(event):
        return Pdu(event, event_id, lpdu_id, encoded)
    copy = redact(event)
    return Pdu(copy, event_id, lpdu_id, canonical_json.dumps(copy), redacted=True, altered=copy != event)


def _check_lpdu_within(event: dict[str, Any], *, hub: str, keys: KnownKeys) -> str | None:
    """Check the sender's signature over the LPDU within a PDU; its id, or None where there is none."""
    if "hub_server" not in event:
        return None
    covered = signed_bytes(lpdu_of(event))
    server = domain_of(event["sender"])
    if server != hub:
        check_signature(covered, event["signatures"], server=server, keys=keys, ts=event["origin_server_ts"])
    return event_id_of(covered)


def _hashes_match(event: dict[str, Any]) -> bool:
    hashes = event["hashes"]
    if "hub_server" in event and not matches(hashes["lpdu"].get("sha256"), lpdu_content_hash(event)):
        return False
    return matches(hashes["sha256"], pdu_content_hash(event))


def _without_foreign_event_id(event: dict[str, Any]) -> dict[str, Any]:
    if "event_id" not in event or _hashes_match(event):
        return event
    stripped = {key: value for key, value in event.items() if key != "event_id"}
    return stripped if _hashes_match(stripped) else event
