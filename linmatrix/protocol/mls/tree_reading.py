"""Reading a tree as somebody sent it (RFC 9420 sections 7.1 and 12.4.3.3); `tree_checks` says whether it is one."""

from dataclasses import dataclass
from itertools import pairwise

from linmatrix.protocol.mls import tree_math
from linmatrix.protocol.mls.ciphersuite import read_encryption_key
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.leaves import LeafNode, read_leaf
from linmatrix.protocol.mls.tls import Reader
from linmatrix.protocol.mls.tree import LEAF, MAX_LEAVES, PARENT, Leaf, Node, Parent, RatchetTree


@dataclass(frozen=True, slots=True)
class ReadTree:
    """A tree as somebody sent it, of which nothing is true yet but its form; `leaves` are its leaf nodes by index."""

    tree: RatchetTree
    leaves: dict[int, LeafNode]


def read_tree(data: bytes) -> ReadTree:
    """Read what the `ratchet_tree` extension carries (RFC 9420 section 12.4.3.3). Raises `InvalidMls`."""
    outer = Reader(data)
    elements = outer.vector()
    outer.finish()
    nodes: list[Node] = []
    leaves: dict[int, LeafNode] = {}
    while elements.more:
        place = len(nodes)
        if place == 2 * MAX_LEAVES - 1:
            raise InvalidMls(Rule.SIZE, f"a tree of more than {MAX_LEAVES} leaves")
        if not elements.optional():
            nodes.append(None)
            continue
        kind = elements.u8()
        if kind != (PARENT if place % 2 else LEAF):
            raise InvalidMls(Rule.TREE, f"node {place} of the tree is of type {kind}")
        if kind == PARENT:
            nodes.append(read_parent(elements))
        else:
            leaves[place // 2] = leaf = read_leaf(elements)
            nodes.append(Leaf.of(leaf))
    if not leaves or nodes[-1] is None:
        raise InvalidMls(Rule.TREE, "a tree without leaves, or one that ends with a blank node")
    width = tree_math.width_for(len(nodes) // 2 + 1)
    nodes += [None] * (2 * width - 1 - len(nodes))
    return ReadTree(RatchetTree(nodes), leaves)


def read_parent(reader: Reader) -> Parent:
    """Read a parent node, the leaves in it in order and each once."""
    key = read_encryption_key(reader, "a parent's encryption key")
    parent_hash, unmerged = reader.opaque(), reader.u32s()
    if any(first >= second for first, second in pairwise(unmerged)):
        raise InvalidMls(Rule.TREE, "the unmerged leaves of a parent are not in order")
    return Parent(key, parent_hash, unmerged)
