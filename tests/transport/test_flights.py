"""Many who want to know the same, and one who asks."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from linmatrix.transport.flights import Flights


class Work:
    """Ends when it is released, with 1 or by `error`. It refuses to be under way twice at once."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self.times = 0
        self._error = error
        self._alone = threading.Lock()

    def __call__(self) -> int:
        assert self._alone.acquire(blocking=False), "it is under way already"
        try:
            self.times += 1
            self.begun.set()
            assert self.released.wait(10)
            if self._error:
                raise self._error
            return 1
        finally:
            self._alone.release()


@contextmanager
def under_way(flights: Flights[int], work: Work) -> Iterator[Future[int]]:
    """The flight of another thread, which has the name "a" and lasts until the end."""
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flights.join, "a", work, seconds=10)
        try:
            assert work.begun.wait(10)
            yield leader
        finally:
            work.released.set()


def test_many_who_ask_at_once_wait_for_one() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    with ThreadPoolExecutor(20) as pool, under_way(flights, work):
        results = [pool.submit(flights.join, "a", work, seconds=10) for _ in range(20)]
        assert flights.join("b", lambda: 8, seconds=10) == 8, "another name waits for nobody"
        time.sleep(0.2)
    assert [result.result() for result in results] == [1] * 20
    assert work.times < 20, "none but who came late was in a later flight"


def test_what_comes_later_is_done_anew() -> None:
    flights: Flights[int] = Flights()
    numbers = iter([1, 2])
    assert [flights.join("a", lambda: next(numbers), seconds=1) for _ in range(2)] == [1, 2]


def test_a_failure_is_everybodys_and_ends_with_it() -> None:
    flights: Flights[int] = Flights()
    work = Work(ZeroDivisionError())
    with ThreadPoolExecutor(5) as pool, under_way(flights, work) as leader:
        results = [leader, *(pool.submit(flights.join, "a", work, seconds=10) for _ in range(5))]
        time.sleep(0.2)
    assert [type(result.exception()) for result in results] == [ZeroDivisionError] * 6
    assert work.times < 6
    assert flights.join("a", lambda: 1, seconds=1) == 1


def test_nobody_waits_longer_than_they_want_to() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    with under_way(flights, work) as leader, pytest.raises(TimeoutError):
        flights.join("a", work, seconds=0.1)
    assert leader.result() == work.times == 1


def test_a_child_process_does_not_wait_for_a_thread_of_its_parent() -> None:
    flights: Flights[int] = Flights()
    with under_way(flights, Work()) as leader:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = flights.join("a", lambda: 3, seconds=5)
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert leader.result() == 1
