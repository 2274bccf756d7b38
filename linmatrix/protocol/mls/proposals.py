"""Which proposals a commit may hold, and what they do to the tree (RFC 9420 sections 12.1 and 12.2; decision 115)."""

from collections.abc import Iterable

from linmatrix.protocol.mls.commits import Add, Commit, ExternalInit, Remove, UpdatePath
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.extensions import Required
from linmatrix.protocol.mls.key_packages import KeyPackage, check_key_package
from linmatrix.protocol.mls.leaves import DeviceName, LeafNode
from linmatrix.protocol.mls.tree import Leaf, RatchetTree
from linmatrix.protocol.mls.tree_checks import Names


def check_of_member(commit: Commit) -> None:
    """A member adds, removes others, and leaves its path out only where all it does is add (section 12.4)."""
    only_adds = True
    for proposal in commit.proposals:
        if isinstance(proposal, ExternalInit):
            raise InvalidMls(Rule.EXTERNAL_INIT, "a member's commit holds an ExternalInit")
        if isinstance(proposal, Remove):
            only_adds = False
            if proposal.leaf == commit.sender:
                raise InvalidMls(Rule.REMOVE_COMMITTER, "the committer removes itself")
    if commit.path is None and not (commit.proposals and only_adds):
        raise InvalidMls(Rule.PATH_MISSING, "a commit without a path, which does more or less than to add devices")


def check_of_joiner(commit: Commit, path: UpdatePath, tree: RatchetTree) -> None:
    """A joiner comes in with one ExternalInit, and may remove its own device's old leaf (section 12.4.3.2)."""
    inits = sum(isinstance(proposal, ExternalInit) for proposal in commit.proposals)
    if inits != 1:
        raise InvalidMls(Rule.EXTERNAL_INIT, f"an external commit with {inits} ExternalInit proposals instead of 1")
    for proposal in commit.proposals:
        if isinstance(proposal, Add):
            raise InvalidMls(Rule.EXTERNAL_PROPOSAL, "an external commit adds a device besides its own")
        if isinstance(proposal, Remove):
            old = tree.leaf(proposal.leaf)
            if old is not None:
                _check_own(old, path.leaf)


def _check_own(old: Leaf, new: LeafNode) -> None:
    """The leaf that a joiner removes is one that it could have replaced as a member (sections 12.2 and 12.1.2)."""
    if old.device != new.device:
        raise InvalidMls(Rule.EXTERNAL_PROPOSAL, f"{new.device} comes in and removes {old.device}, another device")
    if old.encryption_key == new.encryption_key:
        raise InvalidMls(Rule.KEY_PRESENT, f"{new.device} comes in with the encryption key of its old leaf")


def remove(tree: RatchetTree, commit: Commit) -> tuple[DeviceName, ...]:
    """Take out all leaves that the commit removes; whose they were."""
    removed = []
    for proposal in commit.proposals:
        if isinstance(proposal, Remove):
            leaf = tree.leaf(proposal.leaf)
            if leaf is None:
                raise InvalidMls(Rule.REMOVE_BLANK, f"leaf {proposal.leaf} is removed, where nobody is")
            tree.remove(proposal.leaf)
            removed.append(leaf.device)
    if removed:
        tree.truncate()
    return tuple(removed)


def add(tree: RatchetTree, commit: Commit, *, names: Names, required: Required) -> dict[int, DeviceName]:
    """Put in the devices that the commit adds; by their new leaves. Each key package is checked."""
    added = {}
    for package in _packages(commit):
        check_key_package(package, required=required)
        names.enter(package.leaf)
        added[tree.add(Leaf.of(package.leaf))] = package.device
    return added


def _packages(commit: Commit) -> Iterable[KeyPackage]:
    return (proposal.key_package for proposal in commit.proposals if isinstance(proposal, Add))
