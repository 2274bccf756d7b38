"""Asking what may hang: a frozen database, a network that swallows packets.

The question is asked in a thread of its own, so that who wants to know can stop waiting. While it hangs it is not asked
again, or every look at a database that is frozen would cost another thread.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Bounded(Generic[Answer]):
    """A function that is asked by at most one thread at a time, and not again for `fresh_seconds`.

    Safe for any number of threads. Who asks meanwhile gets the same answer, an exception too. The threads are daemons:
    one that hangs does not keep the process from ending.
    """

    def __init__(
        self, function: Callable[[], Answer], *, fresh_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._function = function
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: Future[Answer] | None = None
        self._begun = float("-inf")

    def ask(self) -> "Future[Answer]":
        """The answer that there will be: wait for it with `result(timeout=...)`."""
        with self._lock:
            answer = self._answer
            if answer is not None and (not answer.done() or self._clock() - self._begun < self._fresh_seconds):
                return answer
            answer = self._answer = Future()
            self._begun = self._clock()
        try:
            threading.Thread(target=self._run, args=(answer,), name="bounded", daemon=True).start()
        except RuntimeError as error:  # no more threads to be had: the answer, or it would stay open for ever
            answer.set_exception(error)
        return answer

    def hangs_for(self) -> float:
        """Seconds that the question is open; 0 when it is not."""
        with self._lock:
            open_ = self._answer is not None and not self._answer.done()
            return self._clock() - self._begun if open_ else 0.0

    def _run(self, answer: "Future[Answer]") -> None:
        try:
            answer.set_result(self._function())
        except BaseException as error:  # noqa: BLE001  passed on to who asked
            answer.set_exception(error)
