"""One request at a time, and pauses between them (threat T26)."""

import pytest
from django.db import transaction

from keys import leases
from keys.leases import Lease, Refusal
from keys.models import KeyFetch
from tests.support.keys import DAY, HOUR, MINUTE, NOW, PEER, SECOND

pytestmark = pytest.mark.django_db


def take(now_ms: int, *, max_backoff_ms: int = leases.MAX_BACKOFF_MS) -> Lease:
    lease = leases.take(PEER, now_ms=now_ms, max_backoff_ms=max_backoff_ms)
    assert isinstance(lease, Lease)
    return lease


def fail(times: int) -> None:
    """Let so many requests fail, the last of them at NOW."""
    leases.finish(take(NOW), now_ms=NOW, error="down")
    KeyFetch.objects.update(failures=times)


def test_a_lease_is_taken_once() -> None:
    take(NOW)
    assert leases.take(PEER, now_ms=NOW) is Refusal.BUSY
    assert isinstance(leases.take("other.example.org", now_ms=NOW), Lease)


def test_a_lease_that_is_not_given_back_runs_out() -> None:
    lost = take(NOW)
    assert leases.take(PEER, now_ms=NOW + leases.LEASE_MS - 1) is Refusal.BUSY
    assert leases.held({PEER}, now_ms=NOW + leases.LEASE_MS - 1)
    assert not leases.held({PEER}, now_ms=NOW + leases.LEASE_MS)
    new = take(NOW + leases.LEASE_MS)
    assert not leases.finish(lost, now_ms=NOW + leases.LEASE_MS)
    assert leases.held({PEER}, now_ms=NOW + leases.LEASE_MS)
    assert leases.finish(new, now_ms=NOW + leases.LEASE_MS)


def test_after_an_answer_the_server_is_left_alone_for_ten_seconds() -> None:
    leases.finish(take(NOW), now_ms=NOW + 500)
    assert leases.take(PEER, now_ms=NOW + 500 + 10 * SECOND - 1) is Refusal.NOT_DUE
    take(NOW + 500 + 10 * SECOND)


@pytest.mark.parametrize(
    ("failures", "pause"),
    [(1, 5 * SECOND), (2, 10 * SECOND), (5, 80 * SECOND), (10, 2560 * SECOND), (11, HOUR), (10_000, HOUR)],
)
def test_pauses_double_with_every_failure_up_to_an_hour(failures: int, pause: int) -> None:
    fail(failures)
    assert leases.take(PEER, now_ms=NOW + pause - 1) is Refusal.NOT_DUE
    take(NOW + pause)


@pytest.mark.parametrize(("failures", "pause"), [(1, 5 * SECOND), (4, 40 * SECOND), (5, MINUTE), (10_000, MINUTE)])
def test_a_caller_may_accept_shorter_pauses(failures: int, pause: int) -> None:
    fail(failures)
    assert leases.take(PEER, now_ms=NOW + pause - 1, max_backoff_ms=MINUTE) is Refusal.NOT_DUE
    take(NOW + pause, max_backoff_ms=MINUTE)


def test_failures_count_up_and_an_answer_clears_them() -> None:
    for number in range(3):
        leases.finish(take(NOW + number * HOUR), now_ms=NOW + number * HOUR, error="down")
    assert list(KeyFetch.objects.values_list("failures", "last_error")) == [(3, "down")]
    leases.finish(take(NOW + DAY), now_ms=NOW + DAY)
    assert list(KeyFetch.objects.values_list("failures", "last_error")) == [(0, "")]


def test_a_server_is_forgotten_after_a_day() -> None:
    fail(1)
    assert leases.prune(now_ms=NOW + DAY) == 0
    assert leases.prune(now_ms=NOW + DAY + 1) == 1
    assert not KeyFetch.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_no_lease_is_given_inside_of_a_transaction() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        leases.take(PEER, now_ms=NOW)
    assert not KeyFetch.objects.exists()
