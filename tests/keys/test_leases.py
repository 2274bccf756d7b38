"""One request at a time, and pauses between them (threat T26)."""

import pytest
from django.db import transaction

from keys import leases
from keys.leases import FOR_EVENTS, FOR_OPERATOR, FOR_REQUESTS, FOR_STRANGERS, Lease, Patience, Refusal
from keys.models import KeyFetch
from tests.support.keys import DAY, HOUR, MINUTE, NOW, PEER, SECOND

pytestmark = pytest.mark.django_db


def take(now_ms: int, patience: Patience = FOR_EVENTS) -> Lease:
    lease = leases.take(PEER, now_ms=now_ms, patience=patience)
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
    assert leases.take(PEER, now_ms=NOW + leases.lease_ms() - 1) is Refusal.BUSY
    assert leases.held({PEER}, now_ms=NOW + leases.lease_ms() - 1)
    assert not leases.held({PEER}, now_ms=NOW + leases.lease_ms())
    new = take(NOW + leases.lease_ms())
    assert not leases.finish(lost, now_ms=NOW + leases.lease_ms())
    assert leases.held({PEER}, now_ms=NOW + leases.lease_ms())
    assert leases.finish(new, now_ms=NOW + leases.lease_ms())


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


@pytest.mark.parametrize(
    ("patience", "failures", "pause"),
    [
        (FOR_REQUESTS, 0, 10 * SECOND),
        (FOR_REQUESTS, 1, 5 * SECOND),
        (FOR_REQUESTS, 4, 40 * SECOND),
        (FOR_REQUESTS, 5, MINUTE),
        (FOR_REQUESTS, 10_000, MINUTE),
        (FOR_STRANGERS, 0, MINUTE),
        (FOR_STRANGERS, 1, HOUR),
        (FOR_STRANGERS, 10_000, HOUR),
    ],
)
def test_how_long_a_server_is_left_alone_depends_on_who_asks(patience: Patience, failures: int, pause: int) -> None:
    leases.finish(take(NOW), now_ms=NOW)
    KeyFetch.objects.update(failures=failures)
    assert leases.take(PEER, now_ms=NOW + pause - 1, patience=patience) is Refusal.NOT_DUE
    take(NOW + pause, patience)


def test_an_operator_need_not_wait_but_for_a_request_that_is_under_way() -> None:
    fail(10_000)
    take(NOW, FOR_OPERATOR)
    assert leases.take(PEER, now_ms=NOW, patience=FOR_OPERATOR) is Refusal.BUSY


def test_a_lease_is_held_on_to_while_notaries_are_asked() -> None:
    longer = leases.hold_on(take(NOW), now_ms=NOW + 1, error="down")
    assert longer is not None
    assert leases.held({PEER}, now_ms=NOW + leases.notaries_lease_ms())
    assert list(KeyFetch.objects.values_list("failures", "last_error")) == [(1, "down")]
    assert leases.release(longer)
    assert not leases.held({PEER}, now_ms=NOW + 2)
    assert list(KeyFetch.objects.values_list("failures", "last_error")) == [(1, "down")]
    assert leases.take(PEER, now_ms=NOW + 5 * SECOND) is Refusal.NOT_DUE
    take(NOW + 1 + 5 * SECOND)


def test_a_lease_that_another_has_taken_cannot_be_held_on_to() -> None:
    lost = take(NOW)
    take(NOW + leases.lease_ms())
    assert leases.hold_on(lost, now_ms=NOW + leases.lease_ms(), error="down") is None
    assert not leases.release(lost)


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
