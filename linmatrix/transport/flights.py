"""One thread asks, all who want to know the same wait for it."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Flights(Generic[Result]):
    """At most one piece of work under way for each name in this process. Safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        # By process as well: a child that was forked off has none of the threads that its parent's waiters wait for.
        self._under_way: dict[tuple[int, str], Future[Result]] = {}

    def join(self, name: str, work: Callable[[], Result], *, seconds: float) -> Result:
        """The result of `work`, or of the one for the same name that is under way already.

        Raises what the work raised, and TimeoutError if another's work takes longer than `seconds`.
        """
        key = (os.getpid(), name)
        with self._lock:
            flight = self._under_way.get(key)
            leading = flight is None
            if flight is None:
                flight = self._under_way[key] = Future()
        if leading:
            self._lead(key, flight, work)
        return flight.result(timeout=seconds)

    def _lead(self, key: tuple[int, str], flight: Future[Result], work: Callable[[], Result]) -> None:
        try:
            flight.set_result(work())
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._under_way[key]
