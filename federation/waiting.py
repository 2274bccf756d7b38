"""Requests that wait for others: never in all of a web process's threads (threats 8, 55 and 57).

A request has a thread of its process until it is answered. Most take milliseconds; a few wait, some of them for a
minute: for the answer to another request of the same origin, for a join of ours to end, for a hub that is asked for
missing events, for the server of an invited user. Who sends such requests also decides how long they wait. So half of
the threads at most may wait, the others are for work that depends on nobody, and an origin that keeps a quarter of them
waiting for long gets no more.

Who comes too late is told to try again: the same request has the same chance a moment later.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from django.conf import settings

from federation.errors import ApiError

BUSY = 503
"""The status of who comes too late."""

LONG_SECONDS = 1.0
"""Healthy servers answer in a fraction of it. A wait that has lasted for so long may last for much longer, and a thread
waits for its turn to wait no longer than that."""


class WaitingRoom:
    """The places of one process. Safe for any number of threads. `clock` gives seconds."""

    def __init__(self, *, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self.share_out(threads)

    def share_out(self, threads: int) -> None:
        """Say how many threads answer requests. Only while nobody waits."""
        self._most = max(1, threads // 2)
        self._most_of_origin = max(1, threads // 4)
        self._places = BoundedSemaphore(self._most)
        self._waiting: dict[object, tuple[str, float]] = {}

    @contextmanager
    def wait(self, origin: str) -> Iterator[None]:
        """Have a place while the block waits, for a request of `origin`. Raises `ApiError` 503 when there is none."""
        if self._is_crowded(origin) or not self._places.acquire(timeout=LONG_SECONDS):
            raise ApiError(BUSY, "M_UNKNOWN", "Too many requests are waiting for other servers. Try again.")
        ticket = object()
        with self._lock:
            self._waiting[ticket] = origin, self._clock()
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[ticket]
            self._places.release()

    def _is_crowded(self, origin: str) -> bool:
        """Whether all places, or all that one origin may have, are taken for long: nobody waits for those."""
        with self._lock:
            since = self._clock() - LONG_SECONDS
            long = [waits_for for waits_for, begun in self._waiting.values() if begun <= since]
        return len(long) >= self._most or long.count(origin) >= self._most_of_origin


waiting_room = WaitingRoom(threads=settings.WEB_THREADS)
"""The process's own."""
