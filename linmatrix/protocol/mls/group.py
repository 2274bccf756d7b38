"""A group's public state, and what a commit makes of it (RFC 9420 sections 8.2, 12.2 and 12.4.2; decision 115)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from linmatrix.protocol.mls import proposals
from linmatrix.protocol.mls.ciphersuite import check_signature, digest
from linmatrix.protocol.mls.commits import Commit, signed_content
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.extensions import Required, read_extensions, required_of
from linmatrix.protocol.mls.group_info import GroupContext, GroupInfo
from linmatrix.protocol.mls.leaves import DeviceName
from linmatrix.protocol.mls.path import apply_path
from linmatrix.protocol.mls.storage import dump_tree, load_tree
from linmatrix.protocol.mls.tls import Reader, opaque, u64
from linmatrix.protocol.mls.transcript import confirmed_hash, interim_hash
from linmatrix.protocol.mls.tree import Leaf, RatchetTree
from linmatrix.protocol.mls.tree_checks import Names, check_tree
from linmatrix.protocol.mls.tree_reading import read_tree

MAX_EPOCH = 2**53 - 1
"""Of a group's first GroupInfo. Epochs are counted from 0 by one; so large a one was made up, to overflow somewhere."""

_STORED = b"\1"
"""What the storage form begins with: its version."""


@dataclass(frozen=True, eq=False)
class Group:
    """A group in one epoch. Nothing of it changes; `apply` gives the next.

    `extensions` is the encoded list of the group's extensions, the tree may be read and not changed.
    """

    group_id: bytes
    epoch: int
    confirmed_transcript_hash: bytes
    interim_transcript_hash: bytes
    extensions: bytes
    tree: RatchetTree

    @cached_property
    def members(self) -> Mapping[int, DeviceName]:
        """The devices in it, by their leaves."""
        return MappingProxyType({index: leaf.device for index, leaf in self.tree.leaves()})

    @cached_property
    def context(self) -> GroupContext:
        """What the members sign as the group's state (RFC 9420 section 8.1)."""
        return GroupContext(
            self.group_id, self.epoch, self.tree.hash(), self.confirmed_transcript_hash, self.extensions
        )

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that are equal for equal states and for no others: tree, epoch and the whole history are in it."""
        return digest(self.context.encode() + opaque(self.interim_transcript_hash))

    def apply(self, commit: Commit, group_info: GroupInfo) -> "Change":
        """What the commit does, where `group_info` is the one that came with it. Raises `InvalidMls`."""
        if commit.group_id != self.group_id:
            raise InvalidMls(Rule.GROUP, "the commit is to another group")
        if commit.epoch != self.epoch:
            when = "is over" if commit.epoch < self.epoch else "has not begun"
            raise InvalidMls(Rule.EPOCH, f"the commit is to epoch {commit.epoch}, which {when}: it is {self.epoch}")
        change = self._of_joiner(commit) if commit.sender is None else self._of_member(commit, commit.sender)
        _check_group_info(change.group, commit, group_info, signer=change.leaf)
        return change

    def to_bytes(self) -> bytes:
        """A form to store it in, which `from_bytes` reads."""
        return b"".join(
            (
                _STORED,
                opaque(self.group_id),
                u64(self.epoch),
                opaque(self.confirmed_transcript_hash),
                opaque(self.interim_transcript_hash),
                opaque(self.extensions),
                dump_tree(self.tree),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Group":
        """The group again. What `to_bytes` gave is trusted: nothing is checked but that it is of this form."""
        if not data.startswith(_STORED):
            raise ValueError("a stored group of another form than this version writes")
        reader = Reader(data, len(_STORED))
        return cls(reader.opaque(), reader.u64(), reader.opaque(), reader.opaque(), reader.opaque(), load_tree(reader))

    @cached_property
    def _required(self) -> Required:
        return required_of(read_extensions(Reader(self.extensions)))

    def _of_member(self, commit: Commit, sender: int) -> "Change":
        committer = self.tree.leaf(sender)
        if committer is None:
            raise InvalidMls(Rule.SENDER, f"the commit is by leaf {sender}, where nobody is")
        self._check_signature(commit, committer.signature_key)
        proposals.check_of_member(commit)
        tree = self.tree.copy()
        removed = proposals.remove(tree, commit)
        names = Names.of(tree)
        added = proposals.add(tree, commit, names=names, required=self._required)
        if commit.path is not None:
            if commit.path.leaf.device != committer.device:
                raise InvalidMls(
                    Rule.DEVICE_CHANGED, f"the leaf of {committer.device} becomes one of {commit.path.leaf.device}"
                )
            names.replace(committer, commit.path.leaf)
            apply_path(
                tree,
                sender,
                commit.path,
                names=names,
                added=added,
                group_id=self.group_id,
                required=self._required,
            )
        updated = () if commit.path is None else (committer.device,)
        group = self._next(commit, tree)
        return Change(committer.device, False, tuple(added.values()), removed, updated, group, sender)

    def _of_joiner(self, commit: Commit) -> "Change":
        path = commit.path
        if path is None:
            raise InvalidMls(Rule.PATH_MISSING, "an external commit without a path")
        self._check_signature(commit, path.leaf.signature_key)
        proposals.check_of_joiner(commit, path, self.tree)
        tree = self.tree.copy()
        removed = proposals.remove(tree, commit)
        names = Names.of(tree)
        names.enter(path.leaf)
        index = tree.add(Leaf.of(path.leaf))
        apply_path(tree, index, path, names=names, added=(), group_id=self.group_id, required=self._required)
        device = path.leaf.device
        return Change(device, True, (device,), removed, (), self._next(commit, tree), index)

    def _check_signature(self, commit: Commit, key: bytes) -> None:
        """The signature covers the group's state, so it verifies for this epoch of this history only (section 6.1)."""
        check_signature(
            key,
            "FramedContentTBS",
            signed_content(commit.content, self.context),
            commit.signature,
            rule=Rule.SIGNATURE,
            whose="the committer",
        )

    def _next(self, commit: Commit, tree: RatchetTree) -> "Group":
        confirmed = confirmed_hash(self.interim_transcript_hash, commit.content, commit.signature)
        return Group(
            group_id=self.group_id,
            epoch=self.epoch + 1,
            confirmed_transcript_hash=confirmed,
            interim_transcript_hash=interim_hash(confirmed, commit.confirmation_tag),
            extensions=self.extensions,
            tree=tree,
        )


class Change(NamedTuple):
    """What a commit does: whose it is, who comes in and goes out, whose leaf is replaced, and the group after it.

    In an external commit `added` is the committer, and `removed` the same device if it had an old leaf. `leaf` is the
    committer's in the next group.
    """

    committer: DeviceName
    external: bool
    added: tuple[DeviceName, ...]
    removed: tuple[DeviceName, ...]
    updated: tuple[DeviceName, ...]
    group: Group
    leaf: int


def first_group(group_info: GroupInfo, *, group_id: bytes) -> Group:
    """The group that a GroupInfo with its tree describes, all of it checked (RFC 9420 section 12.4.3.1).

    That its members are who they say, and that it began as it should, is for others to know. Raises `InvalidMls`.
    """
    if group_info.group_id != group_id:
        raise InvalidMls(Rule.GROUP, "the GroupInfo is of another group")
    if group_info.epoch > MAX_EPOCH:
        raise InvalidMls(Rule.EPOCH, f"nobody has counted to epoch {group_info.epoch}")
    if group_info.ratchet_tree is None:
        raise InvalidMls(Rule.GROUP_INFO_TREE, "the GroupInfo carries no tree")
    read = read_tree(group_info.ratchet_tree)
    _check_signer(read.tree, group_info)
    context = group_info.context
    required = required_of(read_extensions(Reader(context.extensions)))
    check_tree(read, group_id=group_id, required=required)
    if read.tree.hash() != context.tree_hash:
        raise InvalidMls(Rule.TREE_HASH, "the GroupInfo's tree has not the hash that it names")
    return Group(
        group_id=group_id,
        epoch=context.epoch,
        confirmed_transcript_hash=context.confirmed_transcript_hash,
        interim_transcript_hash=interim_hash(context.confirmed_transcript_hash, group_info.confirmation_tag),
        extensions=context.extensions,
        tree=read.tree,
    )


def _check_group_info(group: Group, commit: Commit, group_info: GroupInfo, *, signer: int) -> None:
    """The GroupInfo that came with a commit is of the state that it leads to, and its committer signed it."""
    if group_info.context != group.context:
        fields = ("group_id", "epoch", "tree_hash", "confirmed_transcript_hash", "extensions")
        other = [field for field in fields if getattr(group_info.context, field) != getattr(group.context, field)]
        raise InvalidMls(Rule.GROUP_INFO_CONTEXT, f"the GroupInfo has another {', '.join(other)} than the commit gives")
    if group_info.confirmation_tag != commit.confirmation_tag:
        raise InvalidMls(Rule.GROUP_INFO_TAG, "GroupInfo and commit differ in their confirmation tag")
    if group_info.signer != signer:
        raise InvalidMls(Rule.GROUP_INFO_SIGNER, f"the GroupInfo is by leaf {group_info.signer} instead of {signer}")
    _check_signer(group.tree, group_info)
    if group_info.ratchet_tree is not None and group_info.ratchet_tree != group.tree.encode():
        raise InvalidMls(Rule.GROUP_INFO_TREE, "the GroupInfo carries another tree than the commit leads to")


def _check_signer(tree: RatchetTree, group_info: GroupInfo) -> None:
    signer = tree.leaf(group_info.signer)
    if signer is None:
        raise InvalidMls(Rule.GROUP_INFO_SIGNER, f"the GroupInfo is by leaf {group_info.signer}, where nobody is")
    group_info.check_signature(signer.signature_key)
