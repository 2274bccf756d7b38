"""The TLS presentation language as MLS uses it (RFC 9420 section 2.1), read so that every value has one writing.

Lengths must be in their shortest form, optional values begin with 0 or 1, and whoever reads a whole says so with
`Reader.finish`. A reader goes over parts of one `bytes` and copies only what it gives out.
"""

import struct
from collections.abc import Sequence

from linmatrix.protocol.mls.errors import InvalidMls, Rule

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")

MAX_LENGTH = 2**30 - 1
"""What a variable-length field can say of its length (RFC 9420 section 2.1.2)."""


class Reader:
    """Reads `data` from `position` up to `end`. Every method raises `InvalidMls` when the bytes are not as they say."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    @property
    def more(self) -> bool:
        """Whether there is anything left to read."""
        return self.position < self.end

    def finish(self) -> None:
        """Nothing may be left."""
        if self.position != self.end:
            raise InvalidMls(Rule.ENCODING, f"{self.end - self.position} bytes follow after the end")

    def since(self, start: int) -> bytes:
        """All that was read since `position` was `start`."""
        return self.data[start : self.position]

    def u8(self) -> int:
        """One byte."""
        return self.data[self._skip(1)]

    def u16(self) -> int:
        """Two bytes, most significant first."""
        return int(_U16.unpack_from(self.data, self._skip(2))[0])

    def u32(self) -> int:
        """Four bytes."""
        return int(_U32.unpack_from(self.data, self._skip(4))[0])

    def u64(self) -> int:
        """Eight bytes."""
        return int(_U64.unpack_from(self.data, self._skip(8))[0])

    def optional(self) -> bool:
        """Whether an `optional<T>` has its value, which then follows."""
        present = self.u8()
        if present > 1:
            raise InvalidMls(Rule.ENCODING, f"an optional value begins with {present}")
        return present == 1

    def opaque(self) -> bytes:
        """A field `opaque<V>`."""
        length = self._length()
        start = self._skip(length)
        return self.data[start : start + length]

    def exactly(self, length: int, what: str) -> bytes:
        """A field `opaque<V>` that has the length which the ciphersuite gives it."""
        value = self.opaque()
        if len(value) != length:
            raise InvalidMls(Rule.KEY, f"{what} has {len(value)} bytes instead of {length}")
        return value

    def vector(self) -> "Reader":
        """A reader of a vector `T<V>`'s elements, which this one has then passed."""
        length = self._length()
        start = self._skip(length)
        return Reader(self.data, start, start + length)

    def u16s(self) -> frozenset[int]:
        """A vector of 16-bit numbers, of which only matters which there are."""
        data = self.opaque()
        if len(data) % 2:
            raise InvalidMls(Rule.ENCODING, "a list of 16-bit numbers ends within one")
        return frozenset(struct.unpack(f">{len(data) // 2}H", data))

    def u32s(self) -> tuple[int, ...]:
        """A vector of 32-bit numbers."""
        data = self.opaque()
        if len(data) % 4:
            raise InvalidMls(Rule.ENCODING, "a list of 32-bit numbers ends within one")
        return struct.unpack(f">{len(data) // 4}I", data)

    def _skip(self, length: int) -> int:
        start = self.position
        if self.end - start < length:
            raise InvalidMls(Rule.ENCODING, f"{length} bytes are announced where {self.end - start} are left")
        self.position = start + length
        return start

    def _length(self) -> int:
        first = self.u8()
        if first < 0x40:
            return first
        size = 1 << (first >> 6)
        if size == 8:
            raise InvalidMls(Rule.ENCODING, "a length begins with the reserved bits 11")
        start = self._skip(size - 1) - 1
        length = int.from_bytes(self.data[start : start + size], "big") & ((1 << (8 * size - 2)) - 1)
        if length < (1 << 6 if size == 2 else 1 << 14):
            raise InvalidMls(Rule.ENCODING, "a length is not in its shortest form")
        return length


def u16(number: int) -> bytes:
    """Two bytes, most significant first."""
    return _U16.pack(number)


def u32(number: int) -> bytes:
    """Four bytes."""
    return _U32.pack(number)


def u32s(numbers: Sequence[int]) -> bytes:
    """Four bytes of each."""
    return struct.pack(f">{len(numbers)}I", *numbers)


def u64(number: int) -> bytes:
    """Eight bytes."""
    return _U64.pack(number)


def opaque(value: bytes) -> bytes:
    """A field `opaque<V>`: the value after its length. Also a vector, of which `value` is all elements."""
    length = len(value)
    if length < 1 << 6:
        return bytes((length,)) + value
    if length < 1 << 14:
        return _U16.pack(length | 0x4000) + value
    if length > MAX_LENGTH:
        raise ValueError(f"{length} bytes are more than a length can say")
    return _U32.pack(length | 0x8000_0000) + value
