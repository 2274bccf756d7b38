"""What can be wrong with a room's file, by kind, and what a verification comes to."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from linmatrix.protocol.signing import VerifyKey
from rooms.export.lines import Read


class Kind(StrEnum):
    """What is wrong; the values are the words that people read."""

    FORM = "form"
    """The line is none of the format, or not where such a line may be."""
    TRUNCATED = "truncated"
    """The file ends before its last line."""
    DIGEST = "digest"
    """The lines are not those that the last line's SHA-256 is of, or not as many."""
    SCHEMA = "schema"
    """The event is none, or of another room."""
    ID = "id"
    """The event is another one than its id says."""
    SIGNATURE = "signature"
    """A required signature is missing, by an unknown key, or of something else."""
    KEY_TIME = "key-time"
    """All signatures verify, one by a key that was not valid any more at the event's time."""
    CONTENT = "content"
    """The content is not what was hashed and signed, and no redaction."""
    REDACTION = "redaction"
    """The content was taken out, and no redaction in the line says so."""
    CHAIN = "chain"
    """The event does not follow the one before it."""
    POSITION = "position"
    """The position is not the next one."""
    RULES = "rules"
    """The authorization rules refuse what was accepted, or allow what was rejected."""
    KEY = "key"
    """The key is not the one that its server's answer lists, or the answer does not hold."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and in which line."""

    line: int
    kind: Kind
    reason: str
    event_id: str = ""

    def __str__(self) -> str:
        event = f" {self.event_id}" if self.event_id else ""
        return f"line {self.line}: {self.kind}:{event} {self.reason}"


@dataclass
class Report:
    """What a file holds and what is wrong with it.

    `complete` says that the line begins with the create event and goes on without a gap: then the authorization rules
    were checked, too. `given_keys` are the keys in the file by server and id, `hub_keys` id and public key of those by
    which the hub has signed.
    """

    header: Read
    sha256: str = ""
    lines: int = 0
    found: Counter[str] = field(default_factory=Counter)
    problems: Counter[Kind] = field(default_factory=Counter)
    complete: bool = False
    head_event_id: str = ""
    hub_keys: set[tuple[str, str]] = field(default_factory=set)
    given_keys: dict[tuple[str, str], list[VerifyKey]] = field(default_factory=dict)
    unproven_keys: int = 0

    @property
    def room_id(self) -> str:
        """The room."""
        return self.header.text("room_id")

    @property
    def hub_server(self) -> str:
        """The room's hub."""
        return self.header.text("hub_server")
