"""The ratchet tree, its public side: nodes in an array, their hashes, and what commits do to them (RFC 9420 section 7).

A tree is copied before it is changed; a copy shares all nodes, and the hash of every subtree that the change does not
touch, so a commit costs a few hashes for each level and one copy of two lists. Recursion goes as deep as the tree is
high, 13 levels at most.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from linmatrix.protocol.mls import tree_math
from linmatrix.protocol.mls.ciphersuite import digest
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.leaves import DeviceName, LeafNode, device_of
from linmatrix.protocol.mls.tls import opaque, u32, u32s

MAX_LEAVES = 4096
"""Leaves of a group, blank ones included: half a second to check as a whole, some 15 ms to hash if all are blank. And
all but one of so many fit into one commit that removes them, or somebody could fill a group for good."""

LEAF, PARENT = 1, 2
"""Types of nodes as they are written."""

_BLANK = b"\0"


class Leaf(NamedTuple):
    """A leaf in a tree: what the group needs of it, and all its bytes."""

    encoded: bytes
    encryption_key: bytes
    signature_key: bytes
    identity: bytes

    @property
    def device(self) -> DeviceName:
        """Whose it is."""
        return device_of(self.identity, self.signature_key)

    @classmethod
    def of(cls, leaf: LeafNode) -> "Leaf":
        """What a tree keeps of a leaf node."""
        return cls(leaf.encoded, leaf.encryption_key, leaf.signature_key, leaf.identity)


class Parent(NamedTuple):
    """A parent node; `unmerged` are the leaves below, in order, that do not know its secret."""

    encryption_key: bytes
    parent_hash: bytes
    unmerged: tuple[int, ...]

    def encode(self) -> bytes:
        """The ParentNode as it is sent and hashed."""
        return opaque(self.encryption_key) + opaque(self.parent_hash) + opaque(u32s(self.unmerged))


class Step(NamedTuple):
    """A parent on a filtered path, its child on the other side than the leaf, and that child's resolution."""

    place: int
    beside: int
    resolution: list[int]


Node = Leaf | Parent | None


class RatchetTree:
    """A tree of `width` leaves. Whoever holds one may read it; only `copy` may be changed, by the one who made it."""

    __slots__ = ("_filled", "_hashes", "nodes")

    def __init__(self, nodes: list[Node], hashes: list[bytes | None] | None = None, filled: int = 0) -> None:
        """`nodes` is the array, leaves at even places; `hashes` those of its subtrees that are known; no leaf before
        `filled` is blank, so that many adds do not look through the same leaves many times."""
        self.nodes = nodes
        self._filled = filled
        self._hashes: list[bytes | None] = [None] * len(nodes) if hashes is None else hashes

    def copy(self) -> "RatchetTree":
        """Another tree with the same nodes, which may be changed."""
        return RatchetTree(self.nodes.copy(), self._hashes.copy(), self._filled)

    @property
    def width(self) -> int:
        """How many leaves there are, with blank ones; a power of two."""
        return (len(self.nodes) + 1) // 2

    def leaf(self, index: int) -> Leaf | None:
        """The leaf there, None where it is blank or beyond the tree."""
        node = self.nodes[2 * index] if index < self.width else None
        assert not isinstance(node, Parent)
        return node

    def leaves(self) -> Iterator[tuple[int, Leaf]]:
        """All leaves that are not blank, by their index."""
        for index, node in enumerate(self.nodes[::2]):
            if isinstance(node, Leaf):
                yield index, node

    def parents(self) -> Iterator[tuple[int, Parent]]:
        """All parents that are not blank, by their place in the array."""
        for index, node in enumerate(self.nodes[1::2]):
            if isinstance(node, Parent):
                yield 2 * index + 1, node

    def resolution(self, node: int) -> list[int]:
        """The nodes that stand for all devices below `node` (RFC 9420 section 4.1.1), by their places in the array."""
        found: list[int] = []
        waiting = [node]
        while waiting:
            place = waiting.pop()
            content = self.nodes[place]
            if isinstance(content, Parent):
                found.append(place)
                found.extend(2 * leaf for leaf in content.unmerged)
            elif content is not None:
                found.append(place)
            elif place % 2:
                waiting += (tree_math.right(place), tree_math.left(place))
        return found

    def filtered_path(self, index: int) -> list["Step"]:
        """The parents above a leaf that get a key in its path, from the lowest (RFC 9420 section 4.1.2)."""
        path, child = [], 2 * index
        for node in tree_math.direct_path(index, self.width):
            beside = tree_math.sibling(child)
            resolution = self.resolution(beside)
            if resolution:
                path.append(Step(node, beside, resolution))
            child = node
        return path

    def hash(self) -> bytes:
        """The tree hash (RFC 9420 section 7.8)."""
        return self.subtree_hash(tree_math.root(self.width))

    def subtree_hash(self, node: int) -> bytes:
        """The hash of what is below `node`, itself included; it is computed once."""
        known = self._hashes[node]
        if known is None:
            content = self.nodes[node]
            if isinstance(content, Parent):
                encoded = b"\1" + content.encode()
            else:
                encoded = _BLANK if content is None else b"\1" + content.encoded
            known = self._hashes[node] = (
                _parent_hash_input(
                    encoded, self.subtree_hash(tree_math.left(node)), self.subtree_hash(tree_math.right(node))
                )
                if node % 2
                else _leaf_hash_input(node // 2, encoded)
            )
        return known

    def knows_hash(self, node: int) -> bool:
        """Whether the hash of what is below `node` need not be computed again."""
        return self._hashes[node] is not None

    def original_hash(self, node: int, without: Sequence[int]) -> bytes:
        """The hash of what is below `node` as it was before the leaves `without`, in order, came in (section 7.9)."""
        first, end = tree_math.leaves_below(node)
        without = without[bisect_left(without, first) : bisect_left(without, end)]
        if not without:
            return self.subtree_hash(node)
        if node % 2 == 0:
            return _leaf_hash_input(node // 2, _BLANK)
        content = self.nodes[node]
        encoded = _BLANK
        if isinstance(content, Parent):
            later = frozenset(without)
            kept = tuple(leaf for leaf in content.unmerged if leaf not in later)
            encoded = b"\1" + content._replace(unmerged=kept).encode()
        below = (tree_math.left(node), tree_math.right(node))
        return _parent_hash_input(encoded, *(self.original_hash(child, without) for child in below))

    def add(self, leaf: Leaf) -> int:
        """Put a leaf at the first blank place, or beyond a full tree (RFC 9420 section 12.1.1); its index."""
        index = self._filled
        while index < self.width and self.nodes[2 * index] is not None:
            index += 1
        self._filled = index
        if index == self.width:
            if 2 * self.width > MAX_LEAVES:
                raise InvalidMls(Rule.SIZE, f"the group has {self.width} leaves, and there can be {MAX_LEAVES}")
            self.nodes += [None] * (len(self.nodes) + 1)
            self._hashes += [None] * (len(self._hashes) + 1)
        self.set(2 * index, leaf)
        for place in tree_math.direct_path(index, self.width):
            content = self.nodes[place]
            if isinstance(content, Parent):
                at = bisect_left(content.unmerged, index)
                unmerged = (*content.unmerged[:at], index, *content.unmerged[at:])
                self.set(place, content._replace(unmerged=unmerged))
            else:
                self._hashes[place] = None
        return index

    def remove(self, index: int) -> None:
        """Blank a leaf and all above it (RFC 9420 section 12.1.3). `truncate` when no more are to be removed."""
        self.set(2 * index, None)
        self._filled = min(self._filled, index)
        self.blank_path(index)

    def blank_path(self, index: int) -> None:
        """Blank all parents above a leaf."""
        for place in tree_math.direct_path(index, self.width):
            self.set(place, None)

    def truncate(self) -> None:
        """Leave out the right half for as long as it has no leaf (RFC 9420 section 7.7)."""
        last = max((index for index, _ in self.leaves()), default=0)
        size = 2 * tree_math.width_for(last + 1) - 1
        del self.nodes[size:]
        del self._hashes[size:]

    def set(self, place: int, node: Node) -> None:
        """Change one node. Hashes above it are for the caller to forget: every verb here changes whole paths."""
        self.nodes[place] = node
        self._hashes[place] = None

    def encode(self) -> bytes:
        """The tree as the `ratchet_tree` extension carries it (RFC 9420 section 12.4.3.3): no blanks at the end."""
        parts = []
        for node in self.nodes:
            if node is None:
                parts.append(_BLANK)
            elif isinstance(node, Leaf):
                parts.append(b"\1\1" + node.encoded)
            else:
                parts.append(b"\1\2" + node.encode())
        while parts and parts[-1] == _BLANK:
            parts.pop()
        return opaque(b"".join(parts))


def parent_hash(encryption_key: bytes, above: bytes, sibling_hash: bytes) -> bytes:
    """What a node holds of the parent that it was made with (section 7.9): its key, its own parent hash, and the
    original hash of the child on the other side."""
    return digest(opaque(encryption_key) + opaque(above) + opaque(sibling_hash))


def _leaf_hash_input(index: int, encoded: bytes) -> bytes:
    return digest(b"\1" + u32(index) + encoded)


def _parent_hash_input(encoded: bytes, left: bytes, right: bytes) -> bytes:
    return digest(b"\2" + encoded + opaque(left) + opaque(right))
