"""The credential by which a device is known in MLS: who it is and the key that it signs with.

Draft section "Device Credentials": a struct of three variable-length fields. The same bytes stand in a device
object under the key `m.mls.v1.credential.ed25519` and, as the identity of a basic credential, in every leaf of
the device's (RFC 9420 section 5.3).
"""

from typing import NamedTuple

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import is_device_id, is_user_id
from linmatrix.protocol.signing import KEY_LENGTH


class Credential(NamedTuple):
    """What a device says of itself; `signature_key` is 32 bytes of Ed25519."""

    user_id: str
    device_id: str
    signature_key: bytes

    def to_bytes(self) -> bytes:
        """The struct that `read_credential` reads."""
        fields = (self.user_id.encode("ascii"), self.device_id.encode("ascii"), self.signature_key)
        return b"".join(_length(len(field)) + field for field in fields)


def read_credential(data: bytes) -> Credential:
    """Read the struct, of which the bytes must be all.

    Raises `Malformed`: lengths that are not the shortest of their kind (RFC 9420 section 2.1.2), bytes missing or
    left over, ids outside of their grammar, a key that is not 32 bytes.
    """
    user_id, rest = _take(data)
    device_id, rest = _take(rest)
    signature_key, rest = _take(rest)
    if rest:
        raise Malformed(f"the credential has {len(rest)} bytes too many")
    # Other characters than those of the grammars become one that neither allows.
    user, device = user_id.decode("ascii", "replace"), device_id.decode("ascii", "replace")
    if not is_user_id(user):
        raise Malformed("the credential's user_id is not a user id")
    if not is_device_id(device):
        raise Malformed("the credential's device_id is not a device id")
    if len(signature_key) != KEY_LENGTH:
        raise Malformed(f"the credential's signature_key has {len(signature_key)} bytes instead of {KEY_LENGTH}")
    return Credential(user, device, signature_key)


def _take(data: bytes) -> tuple[bytes, bytes]:
    """The first variable-length field and what follows it. A field of more than 2^14 bytes cannot be one of ours."""
    if not data:
        raise Malformed("the credential ends too early")
    size = 1 << (data[0] >> 6)
    if size > 2 or len(data) < size:
        raise Malformed("the credential has no valid length")
    length = int.from_bytes(data[:size], "big") & (0x3F if size == 1 else 0x3FFF)
    if size == 2 and length < 64:
        raise Malformed("the credential has a length that is not in its shortest form")
    if len(data) < size + length:
        raise Malformed("the credential ends too early")
    return data[size : size + length], data[size + length :]


def _length(number: int) -> bytes:
    return bytes([number]) if number < 64 else (number | 0x4000).to_bytes(2, "big")
