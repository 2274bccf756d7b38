"""The format of a room's file: one JSON object per line, in UTF-8, each with its `kind` as the first member.

    header        what room this is, up to which event, and who has written it
    outlier       an event known without its place in the line: state and auth events learnt on joining
    event         an event in its place, oldest first
    gap           history before the next event is missing
    passed_over   an event before the next one that is none: it failed the checks on receipt
    server        what a server had been sent by the hub, which has written this
    key_response  a server's signed answer about its keys
    key           a public key that signatures here are by, and the answer that lists it
    end           counts, and the SHA-256 of all lines before

Events and answers are spliced in as the last member of their line, the very bytes that hashes and signatures are about.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import ProtocolError

FORMAT = "linmatrix-room"
VERSION = 1

SPLICED = {"event": "event", "outlier": "event", "key_response": "response"}
"""The member that holds canonical JSON, by the kinds of line that have one."""

KINDS = frozenset(("header", "gap", "passed_over", "server", "key", "end", *SPLICED))

MAX_LINE_BYTES = 1 << 20
"""No line that is written comes near: an event has 64 KiB at most."""

REJECTED = b'"verdict":"rejected"'


class NotALine(Exception):
    """A line that is none of the format; the message says why."""


class Writer:
    """Writes lines, and keeps the digest and the counts that the last one states."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self.counts: Counter[str] = Counter()

    def put(self, kind: str, fields: dict[str, Any], spliced: str = "") -> None:
        """Write one line; `spliced` is the canonical JSON that goes into it as it is."""
        head = canonical_json.dumps(fields)[1:-1]
        parts = [f'{{"kind":"{kind}"'.encode()]
        if head:
            parts += [b",", head]
        if spliced:
            parts += [f',"{SPLICED[kind]}":'.encode(), spliced.encode()]
        line = b"".join((*parts, b"}\n"))
        self._digest.update(line)
        self.counts[kind] += 1
        self._out.write(line)

    def end(self) -> str:
        """Write the last line; the SHA-256 that it states."""
        digest = self._digest.hexdigest()
        self.put("end", {"counts": dict(self.counts), "sha256": digest})
        return digest


@dataclass(frozen=True, slots=True)
class Read:
    """A line as it was read: its number from 1, its kind and its members."""

    number: int
    kind: str
    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """A member that is a string. Raises `NotALine`."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise NotALine(f"{name} is not a string")
        return value

    def whole(self, name: str) -> int:
        """A member that is an integer. Raises `NotALine`."""
        value = self.fields.get(name)
        if type(value) is not int:
            raise NotALine(f"{name} is not an integer")
        return value

    def record(self, name: str) -> dict[str, Any]:
        """A member that is an object. Raises `NotALine`."""
        value = self.fields.get(name)
        if not isinstance(value, dict):
            raise NotALine(f"{name} is not an object")
        return value


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, the newline included; a line that is too long comes in pieces."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            yield number, line


def read_line(number: int, line: bytes) -> Read:
    """One line of a file. Raises `NotALine` unless it is exactly as `Writer` writes it."""
    if not line.endswith(b"\n"):
        raise NotALine("the line is cut off" if len(line) < MAX_LINE_BYTES else f"longer than {MAX_LINE_BYTES} bytes")
    try:
        fields = canonical_json.loads_object(line)
    except ProtocolError as error:
        raise NotALine(error.reason) from None
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise NotALine(f"{kind!r:.40} is no kind of line")
    if not line.startswith(b'{"kind":"%b"' % kind.encode()):
        raise NotALine("kind is not the first member")
    read = Read(number, kind, fields)
    if kind in SPLICED:
        name = SPLICED[kind]
        if not line.endswith(b',"%b":%b}\n' % (name.encode(), canonical_json.dumps(read.record(name)))):
            raise NotALine(f"{name} is not the last member, or not in canonical JSON")
    return read
