"""What an MLS client is to a test, whichever library does the work; bytes in and out are those of the wire."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

DAY = 24 * 3600

SUITE = "dhkemx25519-aes128gcm-sha256-ed25519"
"""The one ciphersuite of the draft, as its algorithms name it."""
ALGORITHM = f"m.mls.v1.{SUITE}"
WELCOME = f"m.mls.v1.welcome.{SUITE}"
KEY_PACKAGE = f"m.mls.v1.key_package.{SUITE}"


class Device(NamedTuple):
    """Who a client is."""

    user_id: str
    device_id: str


class Proposed(NamedTuple):
    """A commit as its maker has it before the hub's word: MLSMessages, and a GroupInfo of the epoch it begins."""

    commit: bytes
    group_info: bytes
    welcome: bytes | None = None


class Lifetime(NamedTuple):
    """From when until when a key package may be used, in seconds of Unix time."""

    not_before: int
    not_after: int

    @classmethod
    def of_days(cls, days: int = 30) -> "Lifetime":
        """From an hour ago, for clocks that are a little late."""
        now = int(time.time())
        return cls(now - 3600, now + days * DAY)


class Refused(Exception):
    """A client's library would not do it; the message is the library's."""


class Client(Protocol):
    """One device. It is in at most one group; what it commits changes its group only with `accept`."""

    device: Device
    signature_key: bytes

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature by the device's key."""

    def key_package(self) -> bytes:
        """A new one; its private keys stay here until a Welcome uses it."""

    def create(self, group_id: bytes) -> None:
        """Begin a group with nobody else in it, at epoch 0."""

    def commit(self, *, add: Sequence[bytes] = (), remove: Sequence[Device] = ()) -> Proposed:
        """Key packages to add and members to remove; with neither, new keys for this device."""

    def join_external(self, group_info: bytes) -> Proposed:
        """Join by a commit of one's own, which ends with `accept` (RFC 9420 section 12.4.3.2)."""

    def accept(self) -> None:
        """The hub has taken the commit."""

    def discard(self) -> None:
        """The hub has refused it."""

    def process(self, commit: bytes) -> None:
        """Somebody else's commit, as the room's line has it."""

    def join(self, welcome: bytes) -> None:
        """Take part in a group, from the epoch of the welcome on."""

    def encrypt(self, plaintext: bytes) -> bytes:
        """A PrivateMessage."""

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises `Refused` for what this device has no keys for."""

    def epoch(self) -> int:
        """Of the group."""

    def members(self) -> Mapping[int, Device]:
        """By leaf index."""


def credential(device: Device, signature_key: bytes) -> bytes:
    """The draft's BasicCredential ("Device Credentials"): three fields, each after its length."""
    fields = (device.user_id.encode(), device.device_id.encode(), signature_key)
    return b"".join(vector(field) for field in fields)


def vector(field: bytes) -> bytes:
    """Bytes after their length (RFC 9420 section 2.1.2), for up to 2^30 of them."""
    size = len(field)
    if size < 0x40:
        return bytes([size]) + field
    return ((size | 0x4000).to_bytes(2) if size < 0x4000 else (size | 0x80000000).to_bytes(4)) + field


def read_credential(identity: bytes) -> Device:
    """The device that a leaf's identity names; lengths below 2^14."""
    fields = []
    while identity:
        size = 2 if identity[0] & 0x40 else 1
        length = int.from_bytes(identity[:size]) & (0x3FFF if size == 2 else 0x3F)
        fields.append(identity[size : size + length])
        identity = identity[size + length :]
    return Device(fields[0].decode(), fields[1].decode())
