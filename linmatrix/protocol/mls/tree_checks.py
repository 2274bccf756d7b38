"""Whether a ratchet tree that somebody sent is one (RFC 9420 sections 7.3, 7.9.2 and 12.4.3.1).

All checks together take time in proportion to the tree's bytes and its height: every node is in one resolution of a
node above it, and once more for each place where it stands as an unmerged leaf.
"""

from bisect import bisect_left

from linmatrix.protocol.mls import tree_math
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.extensions import Required
from linmatrix.protocol.mls.leaves import DeviceName, LeafNode, check_leaf
from linmatrix.protocol.mls.tree import Leaf, Parent, RatchetTree, parent_hash
from linmatrix.protocol.mls.tree_reading import ReadTree


class Names:
    """What no two nodes of a tree share: encryption keys, and of leaves also signature keys and devices (7.3)."""

    def __init__(self) -> None:
        self._encryption_keys: set[bytes] = set()
        self._signature_keys: set[bytes] = set()
        self._devices: set[DeviceName] = set()

    @classmethod
    def of(cls, tree: RatchetTree) -> "Names":
        """Those of a tree that is known to be valid."""
        names = cls.keys_of(tree)
        names._devices.update(leaf.device for _, leaf in tree.leaves())
        return names

    @classmethod
    def keys_of(cls, tree: RatchetTree) -> "Names":
        """The keys of such a tree, whoever's they are."""
        names = cls()
        leaves = [leaf for _, leaf in tree.leaves()]
        names._encryption_keys.update(leaf.encryption_key for leaf in leaves)
        names._encryption_keys.update(node.encryption_key for _, node in tree.parents())
        names._signature_keys.update(leaf.signature_key for leaf in leaves)
        return names

    def enter(self, leaf: LeafNode | Leaf) -> None:
        """A leaf comes in. Raises `InvalidMls` if its device is there, or one of its keys."""
        if leaf.device in self._devices:
            raise InvalidMls(Rule.DEVICE_PRESENT, f"{leaf.device} has a leaf already")
        if leaf.signature_key in self._signature_keys:
            raise InvalidMls(Rule.KEY_PRESENT, f"the signature key of {leaf.device} is another leaf's")
        self.enter_key(leaf.encryption_key)
        self._devices.add(leaf.device)
        self._signature_keys.add(leaf.signature_key)

    def enter_key(self, encryption_key: bytes) -> None:
        """A node's encryption key comes in."""
        if encryption_key in self._encryption_keys:
            raise InvalidMls(Rule.KEY_PRESENT, "an encryption key stands in two nodes")
        self._encryption_keys.add(encryption_key)

    def replace(self, old: Leaf, new: LeafNode) -> None:
        """A leaf's owner replaces it: all but its encryption key may stay as it is."""
        self._devices.discard(old.device)
        self._signature_keys.discard(old.signature_key)
        self.enter(new)


def check_tree(read: ReadTree, *, group_id: bytes, required: Required) -> None:
    """Raises `InvalidMls` unless the tree is valid for a group with this id and these requirements."""
    names = Names()
    for leaf in read.leaves.values():
        names.enter(leaf)
    for _, node in read.tree.parents():
        names.enter_key(node.encryption_key)
    check_structure(read)
    # Last, because signatures cost most.
    for index, leaf in read.leaves.items():
        check_leaf(leaf, source=None, group_id=group_id, index=index, required=required)


def check_structure(read: ReadTree) -> None:
    """Its width is right, its unmerged leaves are, and its parents were made by those below. Raises `InvalidMls`."""
    if tree_math.width_for(max(read.leaves) + 1) != read.tree.width:
        raise InvalidMls(Rule.TREE, "the right half of the tree has no leaf")
    _check_unmerged(read.tree)
    _check_parent_hashes(read)


def _check_unmerged(tree: RatchetTree) -> None:
    """Unmerged leaves are leaves below their parent, and unmerged in every parent between (section 12.4.3.1)."""
    for place, node in tree.parents():
        first, end = tree_math.leaves_below(place)
        for leaf in node.unmerged:
            if not first <= leaf < end or tree.leaf(leaf) is None:
                raise InvalidMls(
                    Rule.TREE, f"node {place} of the tree has the unmerged leaf {leaf}, which is not below"
                )
            _check_between(tree, place, leaf)


def _check_between(tree: RatchetTree, top: int, leaf: int) -> None:
    place = tree_math.parent(2 * leaf)
    while place != top:
        node = tree.nodes[place]
        if isinstance(node, Parent):
            at = bisect_left(node.unmerged, leaf)
            if node.unmerged[at : at + 1] != (leaf,):
                raise InvalidMls(Rule.TREE, f"leaf {leaf} is unmerged at node {top} of the tree and not at {place}")
        place = tree_math.parent(place)


def _check_parent_hashes(read: ReadTree) -> None:
    """Every parent was made together with a node below it, down to a leaf, whose signature covers them all (7.9.2).

    A link is looked for from each parent to one node below; since every parent must have one, they make chains.
    """
    for place, node in read.tree.parents():
        children = tree_math.left(place), tree_math.right(place)
        if not any(_is_linked(read, node, *pair) for pair in (children, children[::-1])):
            raise InvalidMls(Rule.PARENT_HASH, f"no node below node {place} of the tree was made with it")


def _is_linked(read: ReadTree, node: Parent, child: int, beside: int) -> bool:
    """Whether all below `child` but one node came later than `node`, and that one holds its hash.

    Who came later is unmerged, and so in the resolution, as was checked before.
    """
    first, end = tree_math.leaves_below(child)
    later = {2 * leaf for leaf in node.unmerged[bisect_left(node.unmerged, first) : bisect_left(node.unmerged, end)]}
    others = [place for place in read.tree.resolution(child) if place not in later]
    if len(others) != 1:
        return False
    below = read.tree.nodes[others[0]]
    held = below.parent_hash if isinstance(below, Parent) else read.leaves[others[0] // 2].parent_hash
    return held == parent_hash(node.encryption_key, node.parent_hash, read.tree.original_hash(beside, node.unmerged))
