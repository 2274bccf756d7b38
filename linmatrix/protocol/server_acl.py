"""Server access control: which servers a room's `m.room.server_acl` lets take part.

The draft leaves it open; decision 109 takes Matrix room version 11. `content` has two lists of globs: a server is
let in when no entry of `deny` matches its name and one of `allow` does. Without the event, everybody is; an
event without `allow` lets nobody in. `allow_ip_literals` says nothing here, since an IP literal is no server name
(decision 5).

Globs know `*` (any number of characters) and `?` (one). They are compared with the host without its port, in
lower case. Nothing in a list is made into a regular expression: a glob is found piece by piece, each at its
first place, so no list makes the search go back and forth (threat 59).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from linmatrix.protocol.identifiers import MAX_HOSTNAME_LENGTH
from linmatrix.protocol.state import StateKey

SERVER_ACL: StateKey = ("m.room.server_acl", "")

MAX_ENTRIES = 5000
"""Globs of both lists that a hub takes in one event. An event of 64 KiB holds half as many names of ordinary
length; more would be single letters and stars, put there to be expensive."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A glob taken apart at its stars: a name begins with `first`, ends with `last`, and has `middle` between them.

    `last` is None for a glob without a star, which a name must equal.
    """

    first: str
    middle: tuple[str, ...]
    last: str | None

    @classmethod
    def parse(cls, text: str) -> "Glob":
        """Any text is a glob."""
        first, *others = text.lower().split("*")
        if not others:
            return cls(first, (), None)
        return cls(first, tuple(piece for piece in others[:-1] if piece), others[-1])

    def matches(self, host: str) -> bool:
        """Whether the whole of `host`, in lower case, fits."""
        if self.last is None:
            return len(host) == len(self.first) and _fits(self.first, host, 0)
        end = len(host) - len(self.last)
        position = len(self.first)
        if position > end or not _fits(self.first, host, 0) or not _fits(self.last, host, end):
            return False
        for piece in self.middle:
            position = _find(piece, host, position, end)
            if position < 0:
                return False
            position += len(piece)
        return True


def _fits(piece: str, host: str, position: int) -> bool:
    """Whether `piece`, which has no star, stands at this position."""
    if "?" not in piece:
        return host.startswith(piece, position)
    return all(wanted in ("?", found) for wanted, found in zip(piece, host[position:], strict=False))


def _find(piece: str, host: str, start: int, end: int) -> int:
    """The first position of `piece` within `host[start:end]`, or -1.

    With a `?` in it, all beginnings are followed at once, a bit for each, in one walk over the name.
    """
    if "?" not in piece:
        return host.find(piece, start, end)
    wanted: dict[str, int] = {}
    for index, character in enumerate(piece):
        wanted[character] = wanted.get(character, 0) | 1 << index
    anything, whole, begun = wanted["?"], 1 << len(piece) - 1, 0
    for at in range(start, end):
        begun = (begun << 1 | 1) & (wanted.get(host[at], 0) | anything)
        if begun & whole:
            return at + 1 - len(piece)
    return -1


@dataclass(frozen=True, slots=True)
class ServerAcl:
    """The lists of one `m.room.server_acl`."""

    allow: tuple[Glob, ...]
    deny: tuple[Glob, ...]

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "ServerAcl":
        """Read an event's content. What is no list counts as empty, what is no string in it is skipped."""
        return cls(_globs(content.get("allow")), _globs(content.get("deny")))

    def allows(self, server: str) -> bool:
        """Whether `server`, a server name, may take part."""
        host = server.partition(":")[0].lower()
        return not _any_matches(self.deny, host) and _any_matches(self.allow, host)


def _globs(entries: object) -> tuple[Glob, ...]:
    texts = [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
    return tuple(Glob.parse(text) for text in dict.fromkeys(texts) if len(text.replace("*", "")) <= MAX_HOSTNAME_LENGTH)


def _any_matches(globs: Iterable[Glob], host: str) -> bool:
    return any(glob.matches(host) for glob in globs)


def entries(content: Mapping[str, Any]) -> int:
    """How many globs the lists of an event's content have."""
    return sum(len(content[name]) for name in ("allow", "deny") if isinstance(content.get(name), list))
