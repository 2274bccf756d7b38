"""Where nodes of a ratchet tree stand in its array (RFC 9420 section 4.1.2 and appendix C).

A tree of `width` leaves, a power of two, is an array of `2 * width - 1` nodes: leaves at the even places, and between
any two halves the parent of both.
"""


def level(node: int) -> int:
    """0 for a leaf, else how far above the leaves the node stands."""
    return (node ^ (node + 1)).bit_length() - 1


def root(width: int) -> int:
    """The root of a tree of `width` leaves."""
    return width - 1


def left(node: int) -> int:
    """The left child of a parent."""
    return node ^ (1 << (level(node) - 1))


def right(node: int) -> int:
    """The right child of a parent."""
    return node ^ (3 << (level(node) - 1))


def parent(node: int) -> int:
    """The parent of any node but the root."""
    height = level(node)
    return (node | (1 << height)) & ~(1 << (height + 1))


def sibling(node: int) -> int:
    """The other child of the same parent."""
    above = parent(node)
    return right(above) if node < above else left(above)


def direct_path(leaf: int, width: int) -> list[int]:
    """The nodes above a leaf, from its parent to the root."""
    path, node, top = [], 2 * leaf, root(width)
    while node != top:
        node = parent(node)
        path.append(node)
    return path


def leaves_below(node: int) -> tuple[int, int]:
    """The first leaf below a node and the one after the last: of a leaf, itself and the next."""
    half = (1 << level(node)) - 1
    return (node - half) // 2, (node + half) // 2 + 1


def width_for(leaves: int) -> int:
    """The width of the smallest tree that has so many leaves, at least one."""
    return 1 << (leaves - 1).bit_length()
