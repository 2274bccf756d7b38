"""Ed25519 signatures over canonical JSON (draft section "Signing", decisions 22, 26 to 28)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as Ed25519SigningKey
from nacl.signing import VerifyKey as Ed25519VerifyKey

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.identifiers import is_key_id

SIGNATURE_LENGTH = 64
KEY_LENGTH = 32

MAX_KEY_VALIDITY_MS = 7 * 24 * 3600 * 1000
"""However long a server says its key is valid, it is asked again after a week, so that it can revoke."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One of our own signing keys under its key id (`ed25519:version`)."""

    key_id: str
    key: Ed25519SigningKey

    @classmethod
    def from_seed(cls, key_id: str, seed: bytes) -> "SigningKey":
        """The key of a 32-byte seed."""
        return cls(key_id, Ed25519SigningKey(seed))

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that others verify with."""
        return bytes(self.key.verify_key)

    def sign(self, message: bytes) -> str:
        """The signature of `message`, in unpadded base64."""
        return encode_base64(self.key.sign(message).signature)


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A server's public key and when it may be used; times in milliseconds since the epoch.

    `valid_until_ts` is already the lesser of what the server said and a week after it was fetched.
    `expired_ts` is set for a key listed under `old_verify_keys`; it then bounds the key instead.
    """

    key: Ed25519VerifyKey
    valid_until_ts: int
    expired_ts: int | None = None

    @classmethod
    def from_bytes(cls, public_key: bytes, *, valid_until_ts: int, expired_ts: int | None = None) -> "VerifyKey":
        """The key of 32 public bytes."""
        return cls(Ed25519VerifyKey(public_key), valid_until_ts, expired_ts)

    def valid_at(self, ts: int) -> bool:
        """Whether an event with this `origin_server_ts` may be signed by the key (decision 27)."""
        return ts <= (self.valid_until_ts if self.expired_ts is None else self.expired_ts)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `message`."""
        try:
            self.key.verify(message, signature)
        except (BadSignatureError, ValueError):
            return False
        return True


KnownKeys = Mapping[tuple[str, str], Sequence[VerifyKey]]
"""Known keys by (server name, key id). Several under one id where a server changed a key's material."""


def signature_ids(signatures: object, server: str) -> list[str]:
    """The ids of the ed25519 keys with which `server` signed; what else is there does not count."""
    by_server = signatures.get(server) if isinstance(signatures, dict) else None
    return [key_id for key_id in by_server if is_key_id(key_id)] if isinstance(by_server, dict) else []


def check_signature(message: bytes, signatures: Any, *, server: str, keys: KnownKeys, ts: int) -> None:
    """Check that `server` signed `message` with a key of its own that was valid at `ts` (milliseconds).

    At least one signature by a known key must verify, and none by a known key may fail; unknown key ids
    are ignored (decision 26). Raises `BadSignature`.
    """
    verified = False
    for key_id in signature_ids(signatures, server):
        candidates = [key for key in keys.get((server, key_id), ()) if key.valid_at(ts)]
        if not candidates:
            continue
        try:
            signature = decode_base64(signatures[server][key_id], length=SIGNATURE_LENGTH)
        except Malformed:
            raise BadSignature(f"the signature by {server} {key_id} is not base64 of 64 bytes") from None
        if not any(key.verifies(message, signature) for key in candidates):
            raise BadSignature(f"the signature by {server} {key_id} does not verify")
        verified = True
    if not verified:
        raise BadSignature(f"no signature by a known and valid key of {server}")


def object_bytes(value: dict[str, Any]) -> bytes:
    """What a signature over an arbitrary object covers: its canonical JSON without `signatures`."""
    return canonical_json.dumps({key: member for key, member in value.items() if key != "signatures"})


def sign_object(value: dict[str, Any], *, server: str, key: SigningKey) -> dict[str, Any]:
    """A copy of `value` with our signature added (draft section "Signing Arbitrary Objects")."""
    signatures = {name: dict(by_key) for name, by_key in value.get("signatures", {}).items()}
    signatures.setdefault(server, {})[key.key_id] = key.sign(object_bytes(value))
    return {**value, "signatures": signatures}
