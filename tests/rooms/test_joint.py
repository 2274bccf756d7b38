"""Calls that meet are made together, and each gets its own results or its own error."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rooms.joint import Joint

KEY = "!room:hub.localhost"


class Gate:
    """A function that doubles numbers; the first call waits until it is let through."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, key: str, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        if len(self.calls) == 1:
            self.entered.set()
            assert self.opened.wait(10)
        if -1 in numbers:
            raise ValueError(f"refused among {len(numbers)}")
        return [2 * number for number in numbers]


def meet(gate: Gate, joint: Joint[int, int], first: list[int], others: list[list[int]]) -> list[Future[Sequence[int]]]:
    """Call with `first`, and with `others` in their order while that is under way."""
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(joint.call, KEY, first)]
        assert gate.entered.wait(10)
        for number, items in enumerate(others, start=1):
            futures.append(pool.submit(joint.call, KEY, items))
            while joint.waiting(KEY) < number:
                pass
        gate.opened.set()
    return futures


def test_calls_that_wait_are_made_together_in_their_order_and_each_gets_its_own_results() -> None:
    gate = Gate()
    joint = Joint(gate, max_items=10)
    futures = meet(gate, joint, [1], [[2, 3], [4], [5, 6]])
    assert gate.calls == [[1], [2, 3, 4, 5, 6]]
    assert [list(future.result()) for future in futures] == [[2], [4, 6], [8], [10, 12]]


def test_no_more_items_are_taken_together_than_allowed() -> None:
    gate = Gate()
    futures = meet(gate, Joint(gate, max_items=3), [1], [[2, 3], [4], [5]])
    assert gate.calls == [[1], [2, 3, 4], [5]]
    assert [list(future.result()) for future in futures] == [[2], [4, 6], [8], [10]]


def test_a_call_larger_than_allowed_is_made_alone() -> None:
    gate = Gate()
    meet(gate, Joint(gate, max_items=3), [1], [[2, 3, 4, 5], [6]])
    assert gate.calls == [[1], [2, 3, 4, 5], [6]]


def test_an_error_reaches_only_the_call_that_causes_it() -> None:
    gate = Gate()
    futures = meet(gate, Joint(gate, max_items=10), [1], [[2], [-1], [3]])
    assert gate.calls[:2] == [[1], [2, -1, 3]]
    assert sorted(gate.calls[2:]) == [[-1], [2], [3]]
    assert list(futures[1].result()) == [4]
    assert list(futures[3].result()) == [6]
    with pytest.raises(ValueError, match="refused among 1"):
        futures[2].result()


def test_a_call_that_fails_alone_is_made_once_and_those_that_wait_go_on() -> None:
    gate = Gate()
    futures = meet(gate, Joint(gate, max_items=10), [-1], [[2]])
    assert gate.calls == [[-1], [2]]
    assert list(futures[1].result()) == [4]
    with pytest.raises(ValueError, match="refused among 1"):
        futures[0].result()


def test_keys_do_not_wait_for_one_another_and_nothing_is_kept_of_them() -> None:
    gate = Gate()
    joint = Joint(gate, max_items=10)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(joint.call, KEY, [1])
        assert gate.entered.wait(10)
        assert list(joint.call("!other:hub.localhost", [7])) == [14]
        gate.opened.set()
    assert list(held.result()) == [2]
    assert joint.waiting(KEY) == joint.waiting("!other:hub.localhost") == 0
