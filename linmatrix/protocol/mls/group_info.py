"""GroupContext and GroupInfo: a group's state as its members sign it for others (RFC 9420 sections 8.1 and 12.4.3)."""

from dataclasses import dataclass

from linmatrix.protocol.mls.ciphersuite import (
    CIPHERSUITE,
    MAC_BYTES,
    VERSION,
    check_signature,
    read_ciphersuite,
    read_version,
)
from linmatrix.protocol.mls.errors import Rule
from linmatrix.protocol.mls.extensions import RATCHET_TREE, Extensions, read_extensions
from linmatrix.protocol.mls.framing import MAX_MESSAGE_BYTES, WireFormat, check_size, unwrap
from linmatrix.protocol.mls.tls import Reader, opaque, u16, u64


@dataclass(frozen=True, slots=True)
class GroupContext:
    """What all members agree on in an epoch; `extensions` is the encoded list, which no commit changes here."""

    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: bytes

    def encode(self) -> bytes:
        """As it is signed and hashed."""
        return b"".join(
            (
                u16(VERSION),
                u16(CIPHERSUITE),
                opaque(self.group_id),
                u64(self.epoch),
                opaque(self.tree_hash),
                opaque(self.confirmed_transcript_hash),
                self.extensions,
            )
        )


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group's state for who comes in. `ratchet_tree` is the encoded tree where it is carried; `signer` a leaf."""

    context: GroupContext
    ratchet_tree: bytes | None
    extensions: Extensions
    confirmation_tag: bytes
    signer: int
    signed: bytes
    signature: bytes

    @property
    def group_id(self) -> bytes:
        """The group's id."""
        return self.context.group_id

    @property
    def epoch(self) -> int:
        """The epoch that it is of."""
        return self.context.epoch

    def check_signature(self, key: bytes) -> None:
        """Raises `InvalidMls` unless it is signed with this key."""
        check_signature(
            key,
            "GroupInfoTBS",
            self.signed,
            self.signature,
            rule=Rule.GROUP_INFO_SIGNATURE,
            whose=f"leaf {self.signer} under the GroupInfo",
        )


def read_group_info(data: bytes, *, max_bytes: int = MAX_MESSAGE_BYTES) -> GroupInfo:
    """Read a GroupInfo, bare or within an MLSMessage. Raises `InvalidMls`.

    `max_bytes` is for one that did not come in an event, up to `MAX_GROUP_INFO_BYTES`. The tree is not looked at yet.
    """
    check_size(data, max_bytes)
    reader = unwrap(data, WireFormat.GROUP_INFO)
    start = reader.position
    context = read_group_context(reader)
    extensions = read_extensions(reader)
    confirmation_tag = reader.exactly(MAC_BYTES, "the confirmation tag")
    signer = reader.u32()
    signed = reader.since(start)
    signature = reader.opaque()
    reader.finish()
    return GroupInfo(context, extensions.get(RATCHET_TREE), extensions, confirmation_tag, signer, signed, signature)


def read_group_context(reader: Reader) -> GroupContext:
    """Read a GroupContext, of which the extensions are checked for their form."""
    read_version(reader)
    read_ciphersuite(reader)
    group_id, epoch = reader.opaque(), reader.u64()
    tree_hash, confirmed_transcript_hash = reader.opaque(), reader.opaque()
    start = reader.position
    read_extensions(reader)
    return GroupContext(group_id, epoch, tree_hash, confirmed_transcript_hash, reader.since(start))
