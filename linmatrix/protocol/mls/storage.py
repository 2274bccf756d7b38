"""How a tree is stored: quick to load, because all of it was checked before it was written.

Width, then of every node its length, then the hash of every subtree, then all nodes without anything between. Leaves
are taken apart only as far as a group needs them.
"""

import struct

from linmatrix.protocol.mls.ciphersuite import PUBLIC_KEY_BYTES
from linmatrix.protocol.mls.leaves import read_identity
from linmatrix.protocol.mls.tls import Reader, u32
from linmatrix.protocol.mls.tree import Leaf, Node, RatchetTree
from linmatrix.protocol.mls.tree_reading import read_parent

HASH_BYTES = 32


def dump_tree(tree: RatchetTree) -> bytes:
    """The tree as `load_tree` reads it."""
    encoded = [
        b"" if node is None else node.encoded if isinstance(node, Leaf) else node.encode() for node in tree.nodes
    ]
    lengths = struct.pack(f">{len(encoded)}I", *map(len, encoded))
    hashes = (tree.subtree_hash(place) for place in range(len(encoded)))
    return b"".join((u32(tree.width), lengths, *hashes, *encoded))


def load_tree(reader: Reader) -> RatchetTree:
    """The tree again, with its hashes."""
    count = 2 * reader.u32() - 1
    data, start = reader.data, reader.position
    lengths = struct.unpack_from(f">{count}I", data, start)
    start += 4 * count
    hashes: list[bytes | None] = [
        data[at : at + HASH_BYTES] for at in range(start, start + HASH_BYTES * count, HASH_BYTES)
    ]
    start += HASH_BYTES * count
    nodes: list[Node] = []
    for place, length in enumerate(lengths):
        end = start + length
        if not length:
            nodes.append(None)
        elif place % 2:
            nodes.append(read_parent(Reader(data, start, end)))
        else:
            nodes.append(_load_leaf(data, start, end))
        start = end
    return RatchetTree(nodes, hashes)


def _load_leaf(data: bytes, start: int, end: int) -> Leaf:
    reader = Reader(data, start, end)
    encryption_key = reader.exactly(PUBLIC_KEY_BYTES, "a stored encryption key")
    signature_key = reader.exactly(PUBLIC_KEY_BYTES, "a stored signature key")
    return Leaf(data[start:end], encryption_key, signature_key, read_identity(reader))
