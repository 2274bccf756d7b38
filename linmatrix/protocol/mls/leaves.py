"""Leaf nodes: the devices of a group, with their credentials and capabilities (RFC 9420 sections 5.3, 7.2, 7.3).

Whether a leaf's lifetime is running is not looked at: there is no clock here, and members of a group stay valid.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.mls.ciphersuite import (
    CIPHERSUITE,
    PUBLIC_KEY_BYTES,
    VERSION,
    check_signature,
    read_encryption_key,
)
from linmatrix.protocol.mls.credential import read_credential
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.extensions import DEFAULT_EXTENSIONS, Extensions, Required, read_extensions
from linmatrix.protocol.mls.tls import Reader, opaque, u32

BASIC = 1
"""The type of the only credentials that the draft knows (RFC 9420 section 5.3)."""

MAX_LEAF_BYTES = 2048
"""A leaf as it is sent. Real ones have 200 to 400 bytes, and some 800 with the longest ids. All leaves of a group are
stored with every commit, so without a bound one who is joined could make that hundreds of megabytes."""

NOTHING_REQUIRED = Required(frozenset(), frozenset(), frozenset())


class DeviceName(NamedTuple):
    """A user's device. A leaf belongs to one, and one has no second leaf."""

    user_id: str
    device_id: str

    def __str__(self) -> str:
        return f"{self.user_id} {self.device_id}"


class Source(IntEnum):
    """What a leaf was made for, which its signature covers."""

    KEY_PACKAGE = 1
    UPDATE = 2
    COMMIT = 3


class Capabilities(NamedTuple):
    """What a leaf says that its client supports, each as numbers of the registry."""

    versions: frozenset[int]
    ciphersuites: frozenset[int]
    extensions: frozenset[int]
    proposals: frozenset[int]
    credentials: frozenset[int]


@dataclass(frozen=True, slots=True)
class LeafNode:
    """A leaf as it is sent. `encoded` is all of it, `signed` what of it the signature covers.

    `not_before` and `not_after` (seconds since the epoch) are 0 but in leaves of key packages; `parent_hash` is empty
    but in leaves of commits.
    """

    encoded: bytes
    signed: bytes
    encryption_key: bytes
    signature_key: bytes
    identity: bytes
    capabilities: Capabilities
    source: Source
    not_before: int
    not_after: int
    parent_hash: bytes
    extensions: Extensions
    signature: bytes

    @property
    def device(self) -> DeviceName:
        """Whose it is. Raises `InvalidMls`, until `check_leaf` has passed it."""
        return device_of(self.identity, self.signature_key)


def read_leaf(reader: Reader) -> LeafNode:
    """Read a leaf node; nothing is checked of it but its form."""
    start = reader.position
    encryption_key = read_encryption_key(reader, "a leaf's encryption key")
    signature_key = reader.exactly(PUBLIC_KEY_BYTES, "a leaf's signature key")
    identity = read_identity(reader)
    capabilities = Capabilities(reader.u16s(), reader.u16s(), reader.u16s(), reader.u16s(), reader.u16s())
    source = _read_source(reader)
    not_before = not_after = 0
    parent_hash = b""
    if source is Source.KEY_PACKAGE:
        not_before, not_after = reader.u64(), reader.u64()
    elif source is Source.COMMIT:
        parent_hash = reader.opaque()
    extensions = read_extensions(reader)
    signed = reader.since(start)
    signature = reader.opaque()
    encoded = reader.since(start)
    if len(encoded) > MAX_LEAF_BYTES:
        raise InvalidMls(Rule.SIZE, f"a leaf of {len(encoded)} bytes where {MAX_LEAF_BYTES} are the most")
    return LeafNode(
        encoded=encoded,
        signed=signed,
        encryption_key=encryption_key,
        signature_key=signature_key,
        identity=identity,
        capabilities=capabilities,
        source=source,
        not_before=not_before,
        not_after=not_after,
        parent_hash=parent_hash,
        extensions=extensions,
        signature=signature,
    )


def read_identity(reader: Reader) -> bytes:
    """What a credential says, which must be a basic one."""
    kind = reader.u16()
    if kind != BASIC:
        raise InvalidMls(Rule.CREDENTIAL, f"a credential of type {kind} instead of basic")
    return reader.opaque()


@lru_cache(maxsize=16384)
def device_of(identity: bytes, signature_key: bytes) -> DeviceName:
    """Whose a leaf with this identity and key is (draft, "Device Credentials"). Raises `InvalidMls`."""
    try:
        user_id, device_id, certified = read_credential(identity)
    except Malformed as error:
        raise InvalidMls(Rule.CREDENTIAL, error.reason) from None
    if certified != signature_key:
        raise InvalidMls(Rule.CREDENTIAL, f"the credential of {user_id} {device_id} names another signature key")
    return DeviceName(user_id, device_id)


def check_leaf(
    leaf: LeafNode,
    *,
    source: Source | None,
    group_id: bytes = b"",
    index: int = 0,
    required: Required = NOTHING_REQUIRED,
) -> None:
    """Check what RFC 9420 section 7.3 asks of a leaf by itself, and that its credential is the draft's.

    `source` is what it must have been made for, None for any; `group_id` and `index` are what a leaf of an update or
    commit is signed for. Raises `InvalidMls`.
    """
    device = leaf.device
    if source is not None and leaf.source is not source:
        raise InvalidMls(Rule.LEAF_SOURCE, f"the leaf of {device} is of source {leaf.source} instead of {source:d}")
    check_capabilities(leaf, required)
    check_leaf_signature(leaf, group_id=group_id, index=index)


def check_leaf_signature(leaf: LeafNode, *, group_id: bytes, index: int) -> None:
    """A leaf of an update or commit is signed for its place, one of a key package for any (section 7.2)."""
    signed = leaf.signed
    if leaf.source is not Source.KEY_PACKAGE:
        signed += opaque(group_id) + u32(index)
    check_signature(
        leaf.signature_key,
        "LeafNodeTBS",
        signed,
        leaf.signature,
        rule=Rule.LEAF_SIGNATURE,
        whose="a leaf",
    )


def check_capabilities(leaf: LeafNode, required: Required) -> None:
    """A leaf supports version, ciphersuite and credential, its own extensions, and what its group requires."""
    can = leaf.capabilities
    unsupported = {
        "version": {VERSION} - can.versions,
        "ciphersuite": {CIPHERSUITE} - can.ciphersuites,
        "credential": ({BASIC} | required.credentials) - can.credentials,
        "extension": (leaf.extensions.keys() - DEFAULT_EXTENSIONS | required.extensions) - can.extensions,
        "proposal": required.proposals - can.proposals,
    }
    for what, numbers in unsupported.items():
        if numbers:
            raise InvalidMls(Rule.CAPABILITIES, f"{leaf.device} does not support {what} {min(numbers)}")


def _read_source(reader: Reader) -> Source:
    number = reader.u8()
    try:
        return Source(number)
    except ValueError:
        raise InvalidMls(Rule.ENCODING, f"a leaf of the unknown source {number}") from None
