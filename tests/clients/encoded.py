"""The little of MLS's encoding that a client needs by hand where its library shows only bytes (RFC 9420 section 7).

It reads what the client's own library wrote, so nothing is checked.
"""

from collections.abc import Iterator

LEAF, PARENT = 1, 2
KEY_PACKAGE, COMMIT = 1, 3
"""Where a leaf comes from, as far as more stands in it because of that."""


class Reader:
    """A position in bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """The next bytes as a number."""
        return int.from_bytes(self.take(size))

    def vector(self) -> bytes:
        """Bytes after their length (section 2.1.2)."""
        size = 1 << (self._data[self.at] >> 6)
        return self.take(self.number(size) & ((1 << (8 * size - 2)) - 1))

    def more(self) -> bool:
        """Whether there are any."""
        return self.at < len(self._data)


def context_of(snapshot: bytes) -> bytes:
    """The GroupContext (section 8.1), which is what mls-rs's stored state begins with after its own version."""
    reader = Reader(snapshot)
    reader.take(2)
    start = reader.at
    reader.take(4)
    reader.vector()
    reader.take(8)
    for _tree_hash_then_transcript_then_extensions in range(3):
        reader.vector()
    return snapshot[start : reader.at]


def group_of(context: bytes) -> bytes:
    """The group id of a GroupContext."""
    reader = Reader(context)
    reader.take(4)
    return reader.vector()


def epoch_of(context: bytes) -> int:
    """The epoch that a GroupContext is of."""
    reader = Reader(context)
    reader.take(4)
    reader.vector()
    return reader.number(8)


def identities(tree: bytes) -> dict[int, bytes]:
    """The identities of a ratchet tree's members by leaf index (section 12.4.3.3), credentials being basic ones."""
    nodes = Reader(Reader(tree).vector())
    found: dict[int, bytes] = {}
    for index, identity in enumerate(_nodes(nodes)):
        if identity is not None:
            found[index // 2] = identity
    return found


def _nodes(reader: Reader) -> Iterator[bytes | None]:
    """Each node's identity, if it is a leaf."""
    while reader.more():
        present = reader.number(1)
        if not present:
            yield None
        elif reader.number(1) == PARENT:
            for _key_then_parent_hash_then_unmerged_leaves in range(3):
                reader.vector()
            yield None
        else:
            yield _leaf(reader)


def _leaf(reader: Reader) -> bytes:
    for _encryption_then_signature_key in range(2):
        reader.vector()
    reader.take(2)
    identity = reader.vector()
    for _capabilities in range(5):
        reader.vector()
    source = reader.number(1)
    if source == KEY_PACKAGE:
        reader.take(16)
    elif source == COMMIT:
        reader.vector()
    for _extensions_then_signature in range(2):
        reader.vector()
    return identity
