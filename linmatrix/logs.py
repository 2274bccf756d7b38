"""Log lines that machines can read, tied together by ids, and that no peer can stretch, forge or flood (threat T67).

Everything logs with Python's logging. What a line is about goes into `extra`, under the names of `FIELDS`; ids that all
lines of one request or delivery share are bound as structlog's context variables. A line has both, as JSON or for
people: LINMATRIX_LOG_FORMAT.

Much of what is logged was sent by somebody else: the reason of a refusal, a Host header, a path. So a record is one
line of bounded length, followed by the traceback of a fault of ours, and what one place in the code has to say is
written so often a minute and then counted.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import orjson
from structlog.contextvars import bind_contextvars, get_contextvars

Line = dict[str, str | int | float]
"""What a line says, by name."""

MAX_MESSAGE = 2_000
"""Characters of a message: several names of the longest kind and a sentence."""

MAX_FIELD = 300
"""Characters of a field: a server's name and a transaction id have up to 255."""

MAX_TRACEBACK = 20_000
"""Characters of a traceback. Its last lines are kept, which say what happened; they may quote a peer's input."""

MAX_RECORDS = 200
WINDOW_SECONDS = 60.0
"""Records a minute from one place in the code: a busy server's ordinary lines, and what a person could read."""

REQUESTS, STRANGERS, DELIVERIES = "linmatrix.requests", "linmatrix.requests.strangers", "linmatrix.deliveries"
"""The loggers with a line for each request of a server that we have authenticated or of our own people, for each of
anybody else, and for each attempt to deliver."""

LINES_A_MINUTE: Final[Mapping[str, int]] = {REQUESTS: 60_000, STRANGERS: 600, DELIVERIES: 60_000}
"""By logger, in place of MAX_RECORDS: lines that say how much there is to do are as many as that. Strangers, who need
no key to ask, could else fill a disk; ten a second show what they are at, and metrics count them all."""

MAX_PLACES = 1_000
"""Places that are counted at a time. There are not as many in the code; the bound is for code that is not ours."""

FIELDS = (
    "method", "endpoint", "page", "txn_id", "status", "errcode", "ms", "attempt", "events", "bytes", "outcome", "error",
)  # fmt: skip
"""What a record may bring in `extra`. Others are not rendered: Django, say, brings whole requests."""


class BoundedFormatter(logging.Formatter):
    """A record as one line of bounded length, as JSON or for people; a traceback, bounded too, within or below it.

    What structlog's own formatter does, in two thirds of its time: every request costs a line.
    """

    def __init__(self, form: str = "console") -> None:
        super().__init__()
        self._render = RENDERERS[form]

    def format(self, record: logging.LogRecord) -> str:
        line: Line = {
            "timestamp": f"{_second(int(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": one_line(_message(record)),
        }
        for name, value in get_contextvars().items():
            line[name] = _bounded(value)
        brought = record.__dict__
        for name in FIELDS:
            if name in brought:
                line[name] = _bounded(brought[name])
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        return self._render(line)

    def formatException(self, ei: Any) -> str:
        """A traceback, cut to its end and without what cannot be written."""
        text = super().formatException(ei)
        cut = text if len(text) <= MAX_TRACEBACK else f"[...]{text[-MAX_TRACEBACK:]}"
        return cut.encode("utf-8", "replace").decode()


def from_environment() -> BoundedFormatter:
    """The formatter that LINMATRIX_LOG_FORMAT names, for processes that do not load Django: granian's first."""
    form = os.environ.get("LINMATRIX_LOG_FORMAT", "")
    return BoundedFormatter(form if form in RENDERERS else "console")


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _message(record: logging.LogRecord) -> str:
    """What a record says. Django's, of an answer with 500 or more, is cut before the path, which holds ids of rooms and
    users; the line of the request tells the endpoint, and a traceback the place."""
    message = record.getMessage()
    return message.partition(": /")[0] if record.name == "django.request" else message


def _bounded(value: object) -> str | int | float:
    if isinstance(value, int | float):
        return value
    text = value if type(value) is str else str(value)
    return text if len(text) <= MAX_FIELD and text.isprintable() else one_line(text, most=MAX_FIELD)


def _as_json(line: Line) -> str:
    return orjson.dumps(line).decode()


def _as_text(line: Line) -> str:
    head = f"{line.pop('timestamp')} {str(line.pop('level')).upper()} {line.pop('logger')}: {line.pop('event')}"
    exception = line.pop("exception", "")
    fields = "".join([f" {name}={_quoted(value)}" for name, value in line.items() if value not in {"", None}])
    return f"{head}{fields}\n{_indented(exception)}" if exception else head + fields


def _indented(exception: object) -> str:
    """A traceback, none of whose lines can be taken for one of the log's own: it may quote a peer."""
    return "\n".join(f"    {_printable(line)}" for line in str(exception).split("\n"))


def _quoted(value: object) -> str:
    """A value that cannot be taken for two."""
    text = str(value)
    return text if " " not in text and '"' not in text and "=" not in text else orjson.dumps(text).decode()


RENDERERS: Final[Mapping[str, Callable[[Line], str]]] = {"console": _as_text, "json": _as_json}
"""By their names in the settings."""


def one_line(message: str, *, most: int = MAX_MESSAGE) -> str:
    """A message without what would begin a new line or steer a terminal, and without its end if it is long."""
    cut = _printable(message[:most])
    return cut if len(message) <= most else f"{cut} [... {len(message) - most} more characters]"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def bind(**ids: str) -> None:
    """Have all further lines of this request carry these ids. They end with the request, whose context is its own."""
    bind_contextvars(**ids)


def bound(name: str) -> str:
    """An id that was bound for this request; empty for none."""
    value: str = get_contextvars().get(name, "")
    return value


class Sampling(logging.Filter):
    """Lets MAX_RECORDS a minute through from one place in the code, or as many as LINES_A_MINUTE has for its logger.
    The first one after them says how many were kept back. Safe for any number of threads; `clock` gives seconds."""

    def __init__(self, name: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name)
        self._clock = clock
        self._lock = Lock()
        self._minutes: dict[tuple[str, str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        place, now = (record.name, record.pathname, record.lineno), self._clock()
        most = LINES_A_MINUTE.get(record.name, MAX_RECORDS)
        with self._lock:
            begun, count = self._minutes.get(place, (now, 0))
            kept_back = 0
            if now - begun >= WINDOW_SECONDS:
                kept_back, begun, count = max(0, count - most), now, 0
            if len(self._minutes) >= MAX_PLACES:
                self._minutes.clear()
            self._minutes[place] = begun, count + 1
        if kept_back:
            record.msg, record.args = f"[{kept_back} lines like this one were kept back] {record.getMessage()}", ()
        return count < most
