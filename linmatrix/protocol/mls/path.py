"""What an update path does to the tree (RFC 9420 sections 7.5, 7.9 and 12.4.2)."""

from collections.abc import Collection

from linmatrix.protocol.mls.commits import UpdatePath
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.extensions import Required
from linmatrix.protocol.mls.leaves import Source, check_leaf
from linmatrix.protocol.mls.tree import Leaf, Parent, RatchetTree, parent_hash
from linmatrix.protocol.mls.tree_checks import Names


def apply_path(
    tree: RatchetTree,
    index: int,
    path: UpdatePath,
    *,
    names: Names,
    added: Collection[int],
    group_id: bytes,
    required: Required,
) -> None:
    """Put a committer's new leaf at `index`, and new keys above it.

    `names` knows the leaf's own already; `added` are the leaves that the same commit adds, who get their secret in a
    Welcome instead. Raises `InvalidMls`, with the tree half changed.
    """
    check_leaf(path.leaf, source=Source.COMMIT, group_id=group_id, index=index, required=required)
    merge_path(tree, index, path, names=names, added=added)


def merge_path(tree: RatchetTree, index: int, path: UpdatePath, *, names: Names, added: Collection[int]) -> None:
    """Put in a path that fits the tree, each key of it with its hash; raises `InvalidMls`."""
    steps = tree.filtered_path(index)
    if len(path.nodes) != len(steps):
        raise InvalidMls(Rule.PATH, f"the path has {len(path.nodes)} nodes instead of {len(steps)}")
    newcomers = {2 * leaf for leaf in added}
    for step, node in zip(steps, path.nodes, strict=True):
        readers = sum(place not in newcomers for place in step.resolution)
        if node.sealed_secrets != readers:
            raise InvalidMls(
                Rule.PATH, f"the path has {node.sealed_secrets} secrets at node {step.place} instead of {readers}"
            )
        names.enter_key(node.encryption_key)
    tree.blank_path(index)
    above = b""
    for step, node in zip(reversed(steps), reversed(path.nodes), strict=True):
        tree.set(step.place, Parent(node.encryption_key, above, ()))
        above = parent_hash(node.encryption_key, above, tree.subtree_hash(step.beside))
    if path.leaf.parent_hash != above:
        raise InvalidMls(Rule.PARENT_HASH, "the path's leaf does not hold the hash of the node above it")
    tree.set(2 * index, Leaf.of(path.leaf))
