"""Content hashes and event ids (draft section "Hashes", decisions 16 to 21).

The content hash covers the whole event, so that a change in transit shows; the reference hash covers the
redacted event and is its id. An LPDU has both of its own: they survive in the PDU that the hub makes of it.
"""

from hashlib import sha256
from typing import Any

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64, encode_base64, encode_base64url
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.redaction import redact, redact_as_elsewhere

SHA256_LENGTH = 32


def lpdu_of(event: dict[str, Any]) -> dict[str, Any]:
    """The LPDU within a PDU: without the fields that the hub added; signatures stay (decision 16)."""
    lpdu = {key: value for key, value in event.items() if key not in ("auth_events", "prev_events")}
    lpdu["hashes"] = {"lpdu": event["hashes"]["lpdu"]}
    return lpdu


def lpdu_hashed_bytes(event: dict[str, Any]) -> bytes:
    """What the content hash of an LPDU, or of the LPDU within a PDU, covers: no signatures, no hashes (decision 17)."""
    covered = event.copy()
    for field in ("signatures", "hashes", "auth_events", "prev_events"):
        covered.pop(field, None)
    return canonical_json.dumps(covered)


def lpdu_content_hash(event: dict[str, Any]) -> bytes:
    """SHA-256 over an LPDU, or the LPDU within a PDU."""
    return sha256(lpdu_hashed_bytes(event)).digest()


def pdu_content_hash(event: dict[str, Any]) -> bytes:
    """SHA-256 over a PDU without signatures and with `hashes` reduced to `lpdu`.

    Where no LPDU hash is present `hashes` is left out altogether (decision 18).
    """
    covered = event.copy()
    covered.pop("signatures", None)
    hashes = covered.pop("hashes", {})
    if "lpdu" in hashes:
        covered["hashes"] = {"lpdu": hashes["lpdu"]}
    return sha256(canonical_json.dumps(covered)).digest()


def signed_bytes(event: dict[str, Any]) -> bytes:
    """What signatures and the reference hash both cover: the redacted event without `signatures`."""
    redacted = redact(event)
    redacted.pop("signatures", None)
    return canonical_json.dumps(redacted)


def event_id_of(covered: bytes) -> str:
    """The event id for the bytes that `signed_bytes` made."""
    return "$" + encode_base64url(sha256(covered).digest())


def event_id_elsewhere(event: dict[str, Any]) -> str:
    """The id that servers give an event whose redaction keeps more than the draft's (`redact_as_elsewhere`)."""
    redacted = redact_as_elsewhere(event)
    redacted.pop("signatures", None)
    return event_id_of(canonical_json.dumps(redacted))


def event_id(event: dict[str, Any]) -> str:
    """The id of an LPDU or PDU (draft section "Reference Hash Calculation")."""
    return event_id_of(signed_bytes(event))


def matches(expected: object, digest: bytes) -> bool:
    """Whether a hash from an event's `hashes` is `digest`; compared decoded, padding allowed (decision 21)."""
    if expected == encode_base64(digest):
        return True
    try:
        return decode_base64(expected, length=SHA256_LENGTH) == digest
    except Malformed:
        return False
