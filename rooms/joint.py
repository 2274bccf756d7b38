"""Requests that wait for the same room are served together, by one of them.

In a busy room most of an append is waiting and statements that cost the same for one event as for a hundred. So
whoever comes while a thread of this process appends to the room does not queue for the row's lock, but leaves its
events; the next one to go takes what has gathered along, in the order of arrival, into one database transaction.
Between processes the row's lock decides, as ever.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from linmatrix.metrics.instruments import lock_wait_seconds

logger = logging.getLogger(__name__)

_waits = lock_wait_seconds.labels("process")

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Request(Generic[Item, Result]):
    """What one thread wants done. When `woken` is set it has `results`, or is told to go: with `taken`, itself among
    them, or alone when what was done for it together with others has failed."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.results: Sequence[Result] | None = None
        self.taken: list[_Request[Item, Result]] | None = None
        self.woken = threading.Event()


class Joint(Generic[Item, Result]):
    """Calls of one function by key, joined while an earlier call with that key runs. Safe for threads."""

    def __init__(self, function: Callable[[str, Sequence[Item]], Sequence[Result]], *, max_items: int) -> None:
        """`function` takes a key and items and gives one result for each; all it did must be undone when it raises.
        Calls with more than `max_items` items between them are not joined."""
        self._function = function
        self._max_items = max_items
        self._mutex = threading.Lock()
        # A key is here while a call with it runs.
        self._waiting: dict[str, deque[_Request[Item, Result]]] = {}

    def call(self, key: str, items: Sequence[Item]) -> Sequence[Result]:
        """The function's results for `items`. Raises what the function raises for these alone."""
        request: _Request[Item, Result] = _Request(items)
        with self._mutex:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque()
                request.taken = [request]
            else:
                waiting.append(request)
        if request.taken is None:
            begun = time.perf_counter()
            request.woken.wait()
            _waits.observe(time.perf_counter() - begun)
        taken, request.taken = request.taken, None  # which has the request itself in it
        if taken is not None:
            self._serve(key, taken)
        if request.results is None:
            # Alone, so that it meets what is wrong with it, and nothing that is wrong with others.
            request.results = self._function(key, items)
        return request.results

    def waiting(self, key: str) -> int:
        """How many calls with this key wait for the one that runs."""
        with self._mutex:
            return len(self._waiting.get(key, ()))

    def _serve(self, key: str, requests: "list[_Request[Item, Result]]") -> None:
        """Call the function for several requests at once and let the next ones go."""
        try:
            if len(requests) > 1:
                self._share(requests, self._function(key, [item for request in requests for item in request.items]))
            else:
                requests[0].results = self._function(key, requests[0].items)
        except Exception:
            if len(requests) == 1:
                raise
            logger.warning("%s requests for %s failed together: each is tried alone", len(requests), key, exc_info=True)
        finally:
            for request in requests:
                request.woken.set()
            self._pass_on(key)

    @staticmethod
    def _share(requests: "list[_Request[Item, Result]]", results: Sequence[Result]) -> None:
        position = 0
        for request in requests:
            request.results = results[position : position + len(request.items)]
            position += len(request.items)

    def _pass_on(self, key: str) -> None:
        with self._mutex:
            waiting = self._waiting[key]
            if not waiting:
                del self._waiting[key]
                return
            taken = [waiting.popleft()]
            size = len(taken[0].items)
            while waiting and size + len(waiting[0].items) <= self._max_items:
                size += len(waiting[0].items)
                taken.append(waiting.popleft())
        taken[0].taken = taken
        taken[0].woken.set()
