"""What MLS messages come in (RFC 9420 section 6): bare, or within an MLSMessage that says what they are."""

from enum import IntEnum

from linmatrix.protocol.mls.ciphersuite import CIPHERSUITE, VERSION, read_version
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.tls import Reader, u16

MAX_MESSAGE_BYTES = 65_536
"""A commit, key package or GroupInfo that came in an event or a device's upload: neither is larger itself."""

MAX_GROUP_INFO_BYTES = 2 * 1024 * 1024
"""A GroupInfo from elsewhere, with the tree of a group of `MAX_LEAVES` devices: some 400 bytes each, and the rest."""


class WireFormat(IntEnum):
    """What an MLSMessage holds."""

    PUBLIC_MESSAGE = 1
    PRIVATE_MESSAGE = 2
    WELCOME = 3
    GROUP_INFO = 4
    KEY_PACKAGE = 5


def check_size(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> None:
    """Raises `InvalidMls` for more bytes than are read."""
    if len(data) > limit:
        raise InvalidMls(Rule.SIZE, f"{len(data)} bytes where {limit} are the most")


def unwrap(data: bytes, expected: WireFormat) -> Reader:
    """A reader of the message itself, bare or wrapped.

    No bytes can be both. A wrapped one begins with the version and its wire format. A bare GroupInfo or KeyPackage
    begins with the version and its ciphersuite, 1, which is the wire format of neither; a bare PublicMessage begins
    with the length of its group id, and a group id is not empty.
    """
    reader = Reader(data)
    is_message = expected is WireFormat.PUBLIC_MESSAGE
    if data[:1] == b"\0" if is_message else data[:4] != u16(VERSION) + u16(CIPHERSUITE):
        read_version(reader)
        found = reader.u16()
        if found != expected:
            raise InvalidMls(Rule.WIRE_FORMAT, f"a message of wire format {found} instead of {int(expected)}")
    return reader
