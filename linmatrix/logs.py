"""Log lines that no peer can stretch, forge or flood (threat T67).

Much of what is logged was sent by somebody else: the reason of a refusal, a Host header, a path. So a record is one
line of bounded length, followed by the traceback of a fault of ours, and what one place in the code has to say is
written so often a minute and then counted.
"""

import logging
import time
from collections.abc import Callable
from threading import Lock

MAX_MESSAGE = 2_000
"""Characters of a message: several names of the longest kind and a sentence."""

MAX_TRACEBACK = 20_000
"""Characters of a traceback. Its last lines are kept, which say what happened; they may quote a peer's input."""

MAX_RECORDS = 200
WINDOW_SECONDS = 60.0
"""Records a minute from one place in the code: a busy server's ordinary lines, and what a person could read."""

MAX_PLACES = 1_000
"""Places that are counted at a time. There are not as many in the code; the bound is for code that is not ours."""


class BoundedFormatter(logging.Formatter):
    """A message as one line of bounded length; a traceback below it, bounded too."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        text = super().formatException(ei)  # type: ignore[arg-type]  # the type is logging's private matter
        return text if len(text) <= MAX_TRACEBACK else f"[...]{text[-MAX_TRACEBACK:]}"


def one_line(message: str) -> str:
    """A message without what would begin a new line or steer a terminal, and without its end if it is long."""
    cut = message[:MAX_MESSAGE]
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
    return shown if len(message) <= MAX_MESSAGE else f"{shown} [... {len(message) - MAX_MESSAGE} more characters]"


class Sampling(logging.Filter):
    """Lets MAX_RECORDS a minute through from one place in the code. The first one after them says how many were kept
    back. Safe for any number of threads; `clock` gives seconds."""

    def __init__(self, name: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name)
        self._clock = clock
        self._lock = Lock()
        self._minutes: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        place, now = (record.pathname, record.lineno), self._clock()
        with self._lock:
            begun, count = self._minutes.get(place, (now, 0))
            kept_back = 0
            if now - begun >= WINDOW_SECONDS:
                kept_back, begun, count = max(0, count - MAX_RECORDS), now, 0
            if len(self._minutes) >= MAX_PLACES:
                self._minutes.clear()
            self._minutes[place] = begun, count + 1
        if kept_back:
            record.msg, record.args = f"[{kept_back} lines like this one were kept back] {record.getMessage()}", ()
        return count < MAX_RECORDS
