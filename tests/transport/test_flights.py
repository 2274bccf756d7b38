"""Many who want to know the same, and one who asks."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from linmatrix.transport.flights import Flights


def test_many_who_ask_at_once_wait_for_one() -> None:
    flights: Flights[int] = Flights()
    begun: list[int] = []
    release = threading.Event()

    def work() -> int:
        begun.append(1)
        release.wait(10)
        return 7

    with ThreadPoolExecutor(20) as pool:
        results = [pool.submit(flights.join, "a", work, seconds=10) for _ in range(20)]
        time.sleep(0.2)
        other = pool.submit(flights.join, "b", lambda: 8, seconds=10) if len(begun) == 1 else None
        release.set()
        assert [result.result() for result in results] == [7] * 20
    assert len(begun) == 1
    assert other is not None
    assert other.result() == 8


def test_what_comes_later_is_done_anew() -> None:
    flights: Flights[int] = Flights()
    numbers = iter([1, 2])
    assert [flights.join("a", lambda: next(numbers), seconds=1) for _ in range(2)] == [1, 2]


def test_a_failure_is_everybodys_and_ends_with_it() -> None:
    flights: Flights[int] = Flights()
    release = threading.Event()

    def fail() -> int:
        release.wait(10)
        raise ZeroDivisionError

    with ThreadPoolExecutor(5) as pool:
        results = [pool.submit(flights.join, "a", fail, seconds=10) for _ in range(5)]
        time.sleep(0.2)
        release.set()
        assert [type(result.exception()) for result in results] == [ZeroDivisionError] * 5
    assert flights.join("a", lambda: 1, seconds=1) == 1


def test_nobody_waits_longer_than_they_want_to() -> None:
    flights: Flights[int] = Flights()
    begun, release = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        release.wait(10)
        return 1

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flights.join, "a", work, seconds=10)
        assert begun.wait(10)
        with pytest.raises(TimeoutError):
            flights.join("a", work, seconds=0.1)
        release.set()
        assert leader.result() == 1


def test_a_child_process_does_not_wait_for_a_thread_of_its_parent() -> None:
    flights: Flights[int] = Flights()
    begun, release = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        release.wait(10)
        return 1

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flights.join, "a", work, seconds=10)
        assert begun.wait(10)
        child = os.fork()
        if child == 0:
            os._exit(flights.join("a", lambda: 3, seconds=5))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        release.set()
        assert leader.result() == 1
