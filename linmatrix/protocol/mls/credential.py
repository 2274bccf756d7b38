"""The credential by which a device is known in MLS: who it is and the key that it signs with.

Draft section "Device Credentials": a struct of three variable-length fields. The same bytes stand in a device
object under the key `m.mls.v1.credential.ed25519` and, as the identity of a basic credential, in every leaf of
the device's (RFC 9420 section 5.3).
"""

from typing import NamedTuple

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import is_device_id, is_user_id
from linmatrix.protocol.mls.errors import InvalidMls
from linmatrix.protocol.mls.tls import Reader, opaque
from linmatrix.protocol.signing import KEY_LENGTH


class Credential(NamedTuple):
    """What a device says of itself; `signature_key` is 32 bytes of Ed25519."""

    user_id: str
    device_id: str
    signature_key: bytes

    def to_bytes(self) -> bytes:
        """The struct that `read_credential` reads."""
        fields = (self.user_id.encode("ascii"), self.device_id.encode("ascii"), self.signature_key)
        return b"".join(map(opaque, fields))


def read_credential(data: bytes) -> Credential:
    """Read the struct, of which the bytes must be all.

    Raises `Malformed`: an encoding that is not the only one, bytes missing or left over, ids outside of their grammar,
    a key that is not 32 bytes.
    """
    reader = Reader(data)
    try:
        user_id, device_id, signature_key = reader.opaque(), reader.opaque(), reader.opaque()
        reader.finish()
    except InvalidMls as error:
        raise Malformed(f"the credential is none: {error.reason}") from None
    # Other characters than those of the grammars become one that neither allows.
    user, device = user_id.decode("ascii", "replace"), device_id.decode("ascii", "replace")
    if not is_user_id(user):
        raise Malformed("the credential's user_id is not a user id")
    if not is_device_id(device):
        raise Malformed("the credential's device_id is not a device id")
    if len(signature_key) != KEY_LENGTH:
        raise Malformed(f"the credential's signature_key has {len(signature_key)} bytes instead of {KEY_LENGTH}")
    return Credential(user, device, signature_key)
