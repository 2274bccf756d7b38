"""What each action was answered: the promises that the servers are held to."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from threading import Lock

from linmatrix.stack.driver import Refused
from soak.schedule import Action

EVENT_ID = re.compile(r"\$[A-Za-z0-9_-]{43}")

# Refusals that say that nothing has come of it: by the room's rules, here or at its hub, or by the command itself.
_DEFINITE = re.compile(r"^rule |^The hub refused it|refused: HTTP 4(?!29)|^This server does not know that room")
_NOT_HERE_ANY_MORE = "does not pass this server's own checks"
_STILL_QUEUED = "stays queued"


class Answer(Enum):
    """What the actor was told."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    DISPUTED = "disputed"
    DONE = "done"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Entry:
    """An action and its answer. `event_id` is the id that was answered, of an event or of its LPDU.

    `accepted`: the event is in its room's line. `queued`: it will be, or its hub refuses it. `refused`: it is not, and
    never will be. `unknown`: the server was cut off, it may have happened once. `disputed`: the hub took it and the
    sender's server does not. `done`: nothing that has an id. `skipped`: what it is about does not exist.
    """

    number: int
    at: float
    seconds: float
    actor: str
    room_id: str
    verb: str
    other: str
    answer: str
    event_id: str
    reason: str
    waited: bool
    """Whether the actor waited for the hub's decision, which the answer then is."""
    text: str
    """What an event of it says of itself, different for every action; '' where it says nothing."""


def read_answer(lines: list[str]) -> tuple[Answer, str]:
    """What a command that succeeded has promised, and the id of what."""
    found = EVENT_ID.fullmatch(lines[-1]) if lines else None
    return (Answer.ACCEPTED, found.group()) if found else (Answer.DONE, "")


def read_refusal(refusal: Refused) -> tuple[Answer, str]:
    """What a command that failed has promised, and the id of what."""
    reason = str(refusal)
    found = EVENT_ID.search(reason)
    if _STILL_QUEUED in reason and found:
        return Answer.QUEUED, found.group()
    if _NOT_HERE_ANY_MORE in reason:
        return Answer.DISPUTED, ""
    return (Answer.REFUSED if _DEFINITE.search(reason) else Answer.UNKNOWN), ""


class Ledger:
    """The entries, and the same as lines of JSON in a file: a soak that is cut off can be looked into."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", encoding="utf-8")
        self._lock = Lock()
        self._entries: list[Entry] = []

    def note(self, entry: Entry) -> None:
        """Remember an answer."""
        with self._lock:
            self._entries.append(entry)
            self._file.write(json.dumps(asdict(entry)) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Entry]:
        with self._lock:
            return iter(self._entries[:])

    def __len__(self) -> int:
        return len(self._entries)

    def count(self, *answers: Answer) -> int:
        """How many actions were answered like this."""
        wanted = {answer.value for answer in answers}
        return sum(entry.answer in wanted for entry in self)

    def event_of(self, number: int) -> str:
        """The id that the action of this number was answered, '' for none."""
        return next((entry.event_id for entry in self if entry.number == number), "")


def text_of(seed: int, action: Action) -> str:
    """What the events of an action say, by which they are known again whatever their ids are."""
    return f"soak {seed}.{action.number}"
