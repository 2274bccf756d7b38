"""Making events: LPDUs as a participant, PDUs as a hub.

Draft sections "Linearized PDU", "Signing Events" and "Hashes"; decisions 11, 12, 15 to 18, 36. Clock and
key are arguments.
"""

from collections.abc import Sequence
from typing import Any

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.errors import TooLarge
from linmatrix.protocol.events import MAX_EVENT_BYTES, Lpdu, Pdu
from linmatrix.protocol.hashes import event_id_of, lpdu_content_hash, pdu_content_hash, signed_bytes
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.redaction import redact
from linmatrix.protocol.signing import SigningKey

INVITEE_SIGNATURE_BYTES = 512
"""Kept free in an invite for the signature that the invited server adds (decision 36): a server name of
255 characters, a key id and 86 characters of base64."""


def new_event(
    *,
    room_id: str,
    sender: str,
    type: str,
    content: dict[str, Any],
    origin_server_ts: int,
    state_key: str | None = None,
) -> dict[str, Any]:
    """The fields of an event that its author decides; `state_key` None makes it no state event."""
    event: dict[str, Any] = {
        "room_id": room_id,
        "type": type,
        "sender": sender,
        "origin_server_ts": origin_server_ts,
        "content": content,
    }
    if state_key is not None:
        event["state_key"] = state_key
    return event


def make_lpdu(event: dict[str, Any], *, hub_server: str, key: SigningKey) -> Lpdu:
    """Hash and sign a new event as an LPDU for `hub_server`. Raises `TooLarge`."""
    lpdu = {**event, "hub_server": hub_server}
    lpdu["hashes"] = {"lpdu": {"sha256": encode_base64(lpdu_content_hash(lpdu))}}
    covered = signed_bytes(lpdu)
    lpdu["signatures"] = {domain_of(event["sender"]): {key.key_id: key.sign(covered)}}
    _check_size(canonical_json.dumps(lpdu), event)
    return Lpdu(lpdu, event_id_of(covered))


def complete(
    event: dict[str, Any],
    *,
    auth_events: Sequence[str],
    prev_event: str | None,
    server: str,
    key: SigningKey,
    lpdu: Lpdu | None = None,
) -> Pdu:
    """Make a PDU as the hub `server`: add what precedes and allows it, hash it, sign it.

    `event` is an LPDU's event (with `lpdu` given) or a new event of our own, which carries neither
    `hub_server` nor an LPDU hash (decision 12). `prev_event` is None for the create event only.
    Raises `TooLarge` when it no longer fits.
    """
    pdu = event.copy()
    pdu["auth_events"] = list(auth_events)
    pdu["prev_events"] = [] if prev_event is None else [prev_event]
    pdu["hashes"] = {**pdu.get("hashes", {}), "sha256": encode_base64(pdu_content_hash(pdu))}
    covered = signed_bytes(pdu)
    signatures = {name: by_key for name, by_key in event.get("signatures", {}).items() if name != server}
    signatures[server] = {key.key_id: key.sign(covered)}
    pdu["signatures"] = signatures
    encoded = canonical_json.dumps(pdu)
    _check_size(encoded, pdu)
    return Pdu(pdu, event_id_of(covered), lpdu.lpdu_id if lpdu else None, encoded, lpdu.redacted if lpdu else False)


def add_signature(pdu: Pdu, *, server: str, key: SigningKey) -> Pdu:
    """The same event, same id, signed by `server` too, as an invited user's server does (decision 23)."""
    signatures = {**pdu.event["signatures"], server: {key.key_id: key.sign(signed_bytes(pdu.event))}}
    event = {**pdu.event, "signatures": signatures}
    return Pdu(event, pdu.event_id, pdu.lpdu_id, canonical_json.dumps(event), pdu.redacted)


def redacted_copy(pdu: Pdu) -> Pdu:
    """The event as redaction leaves it; its id does not change."""
    event = redact(pdu.event)
    return Pdu(event, pdu.event_id, pdu.lpdu_id, canonical_json.dumps(event), redacted=True)


def _check_size(encoded: bytes, event: dict[str, Any]) -> None:
    is_invite = event["type"] == "m.room.member" and event["content"].get("membership") == "invite"
    limit = MAX_EVENT_BYTES - (INVITEE_SIGNATURE_BYTES if is_invite else 0)
    if len(encoded) > limit:
        raise TooLarge(f"the event has {len(encoded)} bytes, at most {limit} are allowed")
