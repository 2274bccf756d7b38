"""Ctrl-C, SIGTERM and a closed terminal as one exception, so that `finally` always gets its turn."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Someone wants this process to end. Not an Exception: nothing on the way may swallow it."""


class StopSignals:
    """Raises StopRequested in the main thread at the first signal."""

    def __init__(self) -> None:
        for number in _STOPPING:
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.ignore()
        raise StopRequested

    def ignore(self) -> None:
        """From now on nothing interrupts the clearing up."""
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Within this block a request to stop raises StopRequested; afterwards signals do what they did before."""
    before = {number: signal.getsignal(number) for number in _STOPPING}
    try:
        yield StopSignals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
