"""What follows a failure: back-off, and the ways in which a destination is woken again."""

import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from django.utils import timezone

from federation import tasks
from federation.client import Answer
from federation.delivery import LEASE, TURN_OVER, Outcome, deliver, step
from federation.models import Destination, OutboundTransaction, PendingLeave
from federation.places import SLOW_SECONDS, places
from federation.retrying import forget_failures, reset_backoff, retry_now
from federation.sweeping import due_destinations
from federation.wake import BEHIND, FIRST, QUEUES, AlarmClock
from federation.withdrawals import due_leaves
from tests.support.broker import published
from tests.support.lines import append, make_room
from tests.support.remote import UNREACHABLE, Remote

PEER = "peer.example.org"
NOW = datetime.fromisoformat("2030-01-01T00:00:00+00:00")

pytestmark = pytest.mark.django_db(transaction=True)


def step_at(remote: Remote, now: datetime = NOW, *, holder: str = "worker") -> Outcome:
    return step(PEER, holder=holder, send=remote, clock=lambda: now, chance=lambda: 0.0)


def run(remote: Remote) -> float | None:
    return deliver(PEER, send=remote, chance=lambda: 0.0)


def test_failures_are_stored_with_the_time_of_the_next_attempt() -> None:
    append(make_room("a", PEER), "one")
    remote = Remote.answering(UNREACHABLE, Answer(502, {"errcode": "M_UNKNOWN", "error": "Bad\ngateway\x00"}))
    step_at(remote)
    destination = Destination.objects.get(server=PEER)
    assert (destination.failures, destination.failing_since, destination.last_error) == (1, NOW, "connection refused")
    assert destination.next_attempt == NOW + timedelta(seconds=1)
    assert step_at(remote, NOW + timedelta(seconds=0.5)) is Outcome.NOT_OURS
    second = NOW + timedelta(seconds=1)
    step_at(remote, second)
    destination.refresh_from_db()
    assert (destination.failures, destination.failing_since) == (2, NOW)
    assert destination.next_attempt == second + timedelta(seconds=2)
    assert destination.last_error == "HTTP 502 M_UNKNOWN Bad gateway "
    assert OutboundTransaction.objects.get().attempts == 2
    step_at(remote, second + timedelta(seconds=2))
    destination.refresh_from_db()
    assert (destination.failures, destination.failing_since, destination.last_error) == (0, None, "")
    assert destination.next_attempt is None


@pytest.mark.parametrize(
    ("asked_ms", "seconds"), [(60_000, 60), (10, 1), (10**12, 3600), ("soon", 1), (-5, 1), (True, 1)]
)
def test_a_rate_limited_sender_waits_as_long_as_it_is_asked_to(asked_ms: object, seconds: int) -> None:
    append(make_room("a", PEER), "one")
    limited = Answer(429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": asked_ms})
    step_at(Remote.answering(limited))
    assert Destination.objects.get(server=PEER).next_attempt == NOW + timedelta(seconds=seconds)


def test_a_failed_delivery_is_soon_woken_by_message_and_later_by_the_sweep() -> None:
    append(make_room("a", PEER), "one")
    soon = run(Remote.answering(UNREACHABLE))
    assert soon is not None
    assert 0 < soon <= 1
    Destination.objects.update(next_attempt=None, failures=10)
    assert run(Remote.answering(UNREACHABLE)) is None
    assert due_destinations() == []
    assert due_destinations(now=timezone.now() + timedelta(hours=1)) == [PEER]


def test_a_lost_wake_up_is_found_by_the_sweep_and_a_leased_or_idle_destination_is_not() -> None:
    append(make_room("a", PEER, "idle.example.org", "leased.example.org"), "one")
    Destination.objects.filter(server="idle.example.org").update(pending=False)
    Destination.objects.filter(server="leased.example.org").update(lease_until=NOW + LEASE, lease_holder="worker")
    assert due_destinations(now=NOW) == [PEER]
    with published() as messages:
        tasks.sweep()
        assert ("deliver", PEER) in messages()
    assert set(due_destinations(now=NOW + LEASE)) == {PEER, "leased.example.org"}


def test_a_sweep_wakes_nobody_for_a_slow_server_while_slow_ones_have_all_their_places() -> None:
    slow = "slow-to-answer.example.org"
    append(make_room("a", PEER, slow), "one")
    with places.take(slow) as place:
        assert place is not None
        place.timed(time.sleep)(SLOW_SECONDS)
    with published() as messages:
        with places.take(slow):
            tasks.sweep()
            assert [server for task, server in messages() if task == "deliver"] == [PEER]
        tasks.sweep()
        assert ("deliver", slow) in messages()


def test_a_worker_passes_on_the_wake_ups_of_a_large_audience() -> None:
    with published() as messages:
        tasks.wake_all([PEER, "other.example.org"])
        assert messages() == [("deliver", PEER), ("deliver", "other.example.org")]


def test_a_long_backlog_is_sent_in_turns_and_others_come_before_the_next() -> None:
    for number in range(3):
        append(make_room(f"r{number}", PEER), "one")
    Destination.objects.update(single_events=True)
    remote, now = Remote(), NOW
    again = []

    def clock() -> datetime:
        nonlocal now
        now += timedelta(seconds=0.4)
        return now

    for _ in range(3):
        again.append(deliver(PEER, send=remote, clock=clock))
    assert (again, len(remote.bodies())) == ([TURN_OVER, TURN_OVER, TURN_OVER], 3)
    assert deliver(PEER, send=remote, clock=clock) is None
    assert Destination.objects.get(server=PEER).lease_holder == ""


def test_who_goes_on_is_served_after_who_begins_to_wait(settings: Any) -> None:
    app = Celery(broker=settings.REDIS_URL, set_as_current=False)
    app.conf.task_default_queue = "test-priorities"
    clock = AlarmClock(app)
    clock.wake(["catches-up.example.org"], priority=BEHIND)
    clock.wake([PEER])
    with app.connection_for_read() as connection, connection.SimpleQueue("test-priorities") as queue:
        messages = [queue.get(timeout=10) for _ in range(2)]
        for message in messages:
            message.ack()
    assert [message.payload[0][0] for message in messages] == [PEER, "catches-up.example.org"]


def test_the_lists_that_messages_wait_in_are_known_by_their_names(settings: Any) -> None:
    with Celery(broker=settings.REDIS_URL, set_as_current=False).connection_for_read() as connection:
        channel = connection.default_channel
        assert tuple(channel._q_for_pri("celery", priority) for priority in (FIRST, BEHIND)) == QUEUES


def test_without_a_broker_appending_goes_on_and_is_not_slowed_down_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = AlarmClock(Celery(broker="redis://127.0.0.1:1", set_as_current=False))
    clock.wake([PEER])
    clock.wake([PEER])
    assert [record.message.partition(":")[0] for record in caplog.records] == ["cannot wake workers, the sweep will"]


def test_a_request_of_the_peer_ends_its_back_off() -> None:
    append(make_room("a", PEER), "one")
    step_at(Remote.answering(UNREACHABLE))
    with published() as messages:
        reset_backoff(PEER)
        assert messages() == [("deliver", PEER)]
    remote = Remote()
    assert step_at(remote) is Outcome.DELIVERED
    assert remote.bodies() == ["one"]


def test_a_request_of_a_peer_that_does_well_changes_nothing() -> None:
    append(make_room("a", "well.example.org"), "one")
    with published() as messages:
        reset_backoff("well.example.org")
        assert messages() == []


def leave_of(room_id: str, **columns: Any) -> PendingLeave:
    return PendingLeave.objects.create(
        room_id=room_id, user_id="@alice:hub.example.org", hub_server=PEER, created_at=timezone.now(), **columns
    )


def test_a_request_of_the_peer_brings_forward_the_leaves_that_it_has_not_heard_of() -> None:
    later = timezone.now() + timedelta(hours=1)
    failed = leave_of("!a:x", next_attempt=later, failures=4)
    fresh = leave_of("!b:x", next_attempt=later)
    forget_failures("other.example.org")
    assert due_leaves() == []
    forget_failures(PEER)
    assert due_leaves() == [failed.pk]
    failed.refresh_from_db()
    assert failed.failures == 0
    fresh.refresh_from_db()
    assert fresh.next_attempt == later


def test_a_leave_that_is_brought_forward_while_a_worker_is_at_it_is_not_told_twice() -> None:
    now = timezone.now()
    leave = leave_of("!a:x", next_attempt=now, failures=1, lease_until=now + timedelta(minutes=1))
    forget_failures(PEER)
    assert due_leaves() == []
    PendingLeave.objects.update(lease_until=now - timedelta(seconds=1))
    assert due_leaves() == [leave.pk]


def test_an_operators_retry_is_one_try_and_keeps_the_count() -> None:
    append(make_room("a", PEER), "one")
    step_at(Remote.answering(UNREACHABLE))
    Destination.objects.update(failures=9, next_attempt=timezone.now() + timedelta(hours=1))
    with published() as messages:
        retry_now(PEER)
        assert messages() == [("deliver", PEER)]
    step_at(Remote.answering(UNREACHABLE))
    destination = Destination.objects.get(server=PEER)
    assert destination.failures == 10
    assert destination.next_attempt is not None
    assert destination.next_attempt >= NOW + timedelta(minutes=5)


def test_an_operators_reset_begins_anew() -> None:
    append(make_room("a", PEER), "one")
    Destination.objects.update(failures=9, next_attempt=timezone.now() + timedelta(hours=1))
    with published() as messages:
        forget_failures(PEER)
        assert messages() == [("deliver", PEER)]
    step_at(Remote.answering(UNREACHABLE))
    destination = Destination.objects.get(server=PEER)
    assert (destination.failures, destination.next_attempt) == (1, NOW + timedelta(seconds=1))
