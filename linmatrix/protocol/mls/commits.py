"""Commits as they are sent: a PublicMessage with the proposals in it (RFC 9420 sections 6, 12.1 and 12.4).

Only forms are decided here, and which kinds of proposals there may be at all; `group` says what they do. Those that no
commit may have are refused at their type, whatever follows.
"""

from dataclasses import dataclass
from typing import NamedTuple

from linmatrix.protocol.mls.ciphersuite import (
    MAC_BYTES,
    PUBLIC_KEY_BYTES,
    SEALED_SECRET_BYTES,
    VERSION,
    read_encryption_key,
)
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.framing import WireFormat, check_size, unwrap
from linmatrix.protocol.mls.group_info import GroupContext
from linmatrix.protocol.mls.key_packages import KeyPackage, parse_key_package
from linmatrix.protocol.mls.leaves import LeafNode, read_leaf
from linmatrix.protocol.mls.tls import Reader, u16

_MEMBER, _EXTERNAL, _NEW_MEMBER_PROPOSAL, _NEW_MEMBER_COMMIT = 1, 2, 3, 4
_COMMIT = 3
_BY_VALUE, _BY_REFERENCE = 1, 2
_ADD, _REMOVE, _EXTERNAL_INIT = 1, 3, 6
_REFUSED_PROPOSALS = {2: Rule.UPDATE, 4: Rule.PSK, 5: Rule.REINIT, 7: Rule.GROUP_CONTEXT_EXTENSIONS}


class Add(NamedTuple):
    """Brings a device in."""

    key_package: KeyPackage


class Remove(NamedTuple):
    """Takes the device at a leaf out."""

    leaf: int


class ExternalInit(NamedTuple):
    """Makes an external commit one; what it holds is for members."""

    kem_output: bytes


Proposal = Add | Remove | ExternalInit


class PathNode(NamedTuple):
    """A parent's new public key, and how often its secret is sealed for those below."""

    encryption_key: bytes
    sealed_secrets: int


@dataclass(frozen=True, slots=True)
class UpdatePath:
    """The committer's new leaf, and the keys of the parents above it from the lowest to the root."""

    leaf: LeafNode
    nodes: tuple[PathNode, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit. `sender` is the committer's leaf, None where a new member commits itself in (an external commit).

    `content` is the encoded FramedContent, which signature and transcript cover.
    """

    group_id: bytes
    epoch: int
    sender: int | None
    proposals: tuple[Proposal, ...]
    path: UpdatePath | None
    content: bytes
    signature: bytes
    confirmation_tag: bytes


def read_commit(data: bytes) -> Commit:
    """Read a PublicMessage with a commit in it, bare or within an MLSMessage. Raises `InvalidMls`."""
    check_size(data)
    reader = unwrap(data, WireFormat.PUBLIC_MESSAGE)
    start = reader.position
    group_id = reader.opaque()
    epoch = reader.u64()
    sender = _read_sender(reader)
    reader.opaque()  # authenticated_data: the clients' own
    content_type = reader.u8()
    if content_type != _COMMIT:
        raise InvalidMls(Rule.CONTENT, f"content of type {content_type} instead of a commit")
    proposals = _read_proposals(reader.vector())
    path = read_path(reader) if reader.optional() else None
    content = reader.since(start)
    signature = reader.opaque()
    confirmation_tag = reader.exactly(MAC_BYTES, "the confirmation tag")
    if sender is not None:
        reader.exactly(MAC_BYTES, "the membership tag")
    reader.finish()
    return Commit(group_id, epoch, sender, proposals, path, content, signature, confirmation_tag)


def signed_content(content: bytes, context: GroupContext) -> bytes:
    """What a commit's signature covers: its encoded FramedContent in the state before it (section 6.1)."""
    return u16(VERSION) + u16(WireFormat.PUBLIC_MESSAGE) + content + context.encode()


def _read_sender(reader: Reader) -> int | None:
    """The committer's leaf, None for one who comes in by committing. Others propose only (RFC 9420 section 6.1)."""
    kind = reader.u8()
    if kind == _MEMBER:
        return reader.u32()
    if kind == _NEW_MEMBER_COMMIT:
        return None
    if kind in (_EXTERNAL, _NEW_MEMBER_PROPOSAL):
        raise InvalidMls(Rule.SENDER, f"a sender of type {kind}, who cannot commit")
    raise InvalidMls(Rule.ENCODING, f"a sender of the unknown type {kind}")


def _read_proposals(elements: Reader) -> tuple[Proposal, ...]:
    proposals = []
    while elements.more:
        kind = elements.u8()
        if kind == _BY_REFERENCE:
            raise InvalidMls(Rule.REFERENCE, "a proposal is named by its reference, and there is no way to send one")
        if kind != _BY_VALUE:
            raise InvalidMls(Rule.ENCODING, f"a proposal is given in the unknown way {kind}")
        proposals.append(_read_proposal(elements))
    return tuple(proposals)


def _read_proposal(reader: Reader) -> Proposal:
    kind = reader.u16()
    if kind == _ADD:
        return Add(parse_key_package(reader))
    if kind == _REMOVE:
        return Remove(reader.u32())
    if kind == _EXTERNAL_INIT:
        return ExternalInit(reader.exactly(PUBLIC_KEY_BYTES, "the secret of an ExternalInit"))
    rule = _REFUSED_PROPOSALS.get(kind, Rule.PROPOSAL)
    raise InvalidMls(rule, f"a commit may hold no proposal of type {kind}")


def read_path(reader: Reader) -> UpdatePath:
    """Read an update path (section 7.6), of which sealed secrets are only counted."""
    leaf = read_leaf(reader)
    nodes = []
    elements = reader.vector()
    while elements.more:
        key = read_encryption_key(elements, "the key of a path's node")
        sealed, count = elements.vector(), 0
        while sealed.more:
            sealed.exactly(PUBLIC_KEY_BYTES, "the key of a sealed path secret")
            sealed.exactly(SEALED_SECRET_BYTES, "a sealed path secret")
            count += 1
        nodes.append(PathNode(key, count))
    return UpdatePath(leaf, tuple(nodes))
