"""Events as other implementations make, name and check them: redaction may keep more, `prev_events` may be several.

Content hashes and signatures are the draft's; what of the content redaction keeps beyond the draft's list is an
argument, and so decides over ids and signatures there (decision 29).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.hashes import event_id_of, lpdu_content_hash, lpdu_of, matches, pdu_content_hash
from linmatrix.protocol.redaction import redact
from linmatrix.protocol.signing import KnownKeys, SigningKey, check_signature

Event = dict[str, Any]

Kept = Mapping[str, Sequence[str]]
"""Fields of `content` that redaction keeps beside the draft's, by event type."""


class BadEvent(Exception):
    """An event that the other implementation does not take."""


def signed_there(event: Event, kept: Kept) -> bytes:
    """What signatures and ids cover where redaction keeps `kept`, too."""
    redacted = redact(event)
    more = {name: event["content"][name] for name in kept.get(event["type"], ()) if name in event["content"]}
    redacted["content"] = {**redacted["content"], **more}
    redacted.pop("signatures", None)
    return canonical_json.dumps(redacted)


def id_there(event: Event, kept: Kept) -> str:
    """The id of an event where redaction keeps `kept`, too."""
    return event_id_of(signed_there(event, kept))


def seal(
    event: Event, *, auth_events: Sequence[str], prev_events: Sequence[str], server: str, key: SigningKey, kept: Kept
) -> Event:
    """A PDU of a new event or of an LPDU, as the hub `server` completes it."""
    pdu = {**event, "auth_events": list(auth_events), "prev_events": list(prev_events)}
    pdu["hashes"] = {**event.get("hashes", {}), "sha256": encode_base64(pdu_content_hash(pdu))}
    signature = key.sign(signed_there(pdu, kept))
    pdu["signatures"] = {**event.get("signatures", {}), server: {key.key_id: signature}}
    return pdu


def check_lpdu(event: Event, *, keys: KnownKeys, kept: Kept) -> None:
    """Check the signature and hash of an LPDU, or of the one within a PDU. Raises `BadSignature`, `BadEvent`."""
    lpdu = lpdu_of(event)
    sender = event["sender"].partition(":")[2]
    check_signature(
        signed_there(lpdu, kept), lpdu["signatures"], server=sender, keys=keys, ts=event["origin_server_ts"]
    )
    if not matches(lpdu["hashes"]["lpdu"].get("sha256"), lpdu_content_hash(lpdu)):
        raise BadEvent("the LPDU's hash is wrong")


def check_pdu(event: Event, *, hub: str, keys: KnownKeys, kept: Kept) -> None:
    """Check a PDU that the hub sent. Raises `BadSignature`, `BadEvent`."""
    signatures, ts = event["signatures"], event["origin_server_ts"]
    check_signature(signed_there(event, kept), signatures, server=hub, keys=keys, ts=ts)
    if "hub_server" in event:
        check_lpdu(event, keys=keys, kept=kept)
    if not matches(event["hashes"]["sha256"], pdu_content_hash(event)):
        raise BadEvent("the content hash is wrong")
