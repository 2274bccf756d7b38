"""Waits grow, end at an hour, and are spread by chance."""

from itertools import pairwise

import pytest

from federation.backoff import JITTER, seconds_to_wait
from linmatrix.limits import DEFAULTS


def test_first_retries_are_quick() -> None:
    assert [seconds_to_wait(failures, chance=0.0) for failures in (1, 2, 3)] == [1.0, 2.0, 4.0]


def test_waits_never_shrink_and_end_at_the_cap() -> None:
    waits = [seconds_to_wait(failures, chance=0.0) for failures in range(1, 40)]
    assert all(earlier <= later for earlier, later in pairwise(waits))
    assert waits[-1] == DEFAULTS.backoff_seconds


@pytest.mark.parametrize("failures", [1, 5, 13, 10**9])
def test_chance_only_takes_away_and_at_the_cap_too(failures: int) -> None:
    longest = seconds_to_wait(failures, chance=0.0)
    shortest = seconds_to_wait(failures, chance=0.999999)
    assert longest * (1 - JITTER) <= shortest < longest <= DEFAULTS.backoff_seconds
