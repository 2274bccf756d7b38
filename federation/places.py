"""Whom the threads of a worker wait for: never all of them for servers that are slow.

A thread that sends waits for the answer, up to a minute from a server that accepts a connection and then says nothing.
There are many threads, and a thread that waits costs next to nothing, but their number is limited, and the number of
servers that keep us waiting is not. So a server that was slow lately only gets a thread while servers like it hold
less than half of them. Nobody waits for that: it is left for the sweep, which comes back within seconds.

A server is slow for `SLOW_MEMORY_SECONDS` after a request of `SLOW_SECONDS`, whether that was answered in the end or
not: one that refuses connections at once costs nothing, and one that takes its time for every 200 does. A request that
has been under way for so long counts as well, although its server was quick before. And no server has more than
`MOST_PER_SERVER` threads, whatever many rooms want of it at once.

Each process learns for itself; a new one waits for each slow server once.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import ParamSpec, TypeVar

SLOW_SECONDS = 2.0
"""Most answers take a tenth of it; a hub that passes events on before it answers takes longer, and can wait."""

SLOW_MEMORY_SECONDS = 600.0
"""One quick answer does not make up for a slow one, or every other answer could be slow."""

MOST_PER_SERVER = 4
"""A delivery, and history for rooms of that hub."""

MAX_REMEMBERED = 10_000
"""Slow servers; the one that was slow longest ago is forgotten first."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Place:
    """A thread's, while it works for a server."""

    def __init__(self, places: "Places", server: str) -> None:
        self.server = server
        self.waits_since: float | None = None
        self._places = places

    def timed(self, request: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """The same request, with its duration noted."""

        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            self._places.begin(self)
            try:
                return request(*args, **kwargs)
            finally:
                self._places.end(self)

        return run


class Places:
    """The threads of one process, of which `slow` at most wait for slow servers."""

    def __init__(self, slow: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_slow = slow
        self._clock = clock
        self._lock = Lock()
        self._taken: set[Place] = set()
        self._slow_at: dict[str, float] = {}
        """When a server was slow last, the longest ago first."""

    def share_out(self, threads: int) -> None:
        """Say how many threads there are."""
        self._most_slow = max(1, threads // 2)

    @contextmanager
    def take(self, server: str) -> Iterator[Place | None]:
        """A place for the calling thread until the block ends; None when it should not wait for this server now."""
        place = Place(self, server)
        with self._lock:
            granted = self._may_take(server)
            if granted:
                self._taken.add(place)
        try:
            yield place if granted else None
        finally:
            with self._lock:
                self._taken.discard(place)

    def admit(self, servers: Iterable[str]) -> list[str]:
        """Of these servers those that would get places, if they came now and in this order.

        So that nobody need wake a thread for a server only to have it turned away. A place may be gone, or free, by
        the time that the server comes: it is `take` that decides.
        """
        with self._lock:
            now = self._clock()
            free = self._most_slow - self._slow_taken(now)
            admitted = []
            for server in servers:
                if self._is_slow(server, now):
                    free -= 1
                    if free < 0:
                        continue
                admitted.append(server)
        return admitted

    def _may_take(self, server: str) -> bool:
        if sum(place.server == server for place in self._taken) >= MOST_PER_SERVER:
            return False
        now = self._clock()
        return not self._is_slow(server, now) or self._slow_taken(now) < self._most_slow

    def _slow_taken(self, now: float) -> int:
        return sum(self._is_slow(place.server, now) or self._keeps_waiting(place, now) for place in self._taken)

    def _is_slow(self, server: str, now: float) -> bool:
        slow_at = self._slow_at.get(server)
        return slow_at is not None and now - slow_at < SLOW_MEMORY_SECONDS

    def _keeps_waiting(self, place: Place, now: float) -> bool:
        return place.waits_since is not None and now - place.waits_since >= SLOW_SECONDS

    def begin(self, place: Place) -> None:
        """A request has been sent."""
        with self._lock:
            place.waits_since = self._clock()

    def end(self, place: Place) -> None:
        """It was answered, or given up."""
        with self._lock:
            now = self._clock()
            if self._keeps_waiting(place, now):
                self._slow_at.pop(place.server, None)
                self._slow_at[place.server] = now
                if len(self._slow_at) > MAX_REMEMBERED:
                    del self._slow_at[next(iter(self._slow_at))]
            place.waits_since = None


places = Places(slow=1)
"""The process's own; a worker says how many threads it has when it starts (`federation.tasks`)."""
