"""A paused destination gets nothing, loses nothing, and goes on where it was left."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from federation import tasks
from federation.delivery import Outcome, deliver
from federation.isolation import send_again
from federation.models import Destination, OutboundTransaction
from federation.pausing import pause, resume
from federation.retrying import forget_failures, retry_now
from federation.sweeping import due_destinations
from tests.support.broker import published
from tests.support.lines import append, make_room
from tests.support.remote import UNREACHABLE, Remote
from tests.support.stepping import PEER, one_step, run

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.fromisoformat("2030-01-01T00:00:00+00:00")


def paused() -> bool:
    return pause(PEER, reason="being moved", now=timezone.now())


def test_nothing_is_delivered_while_paused_and_all_of_it_in_order_afterwards() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote()
    run(remote)
    paused()
    append(room, "two")
    append(room, "three")
    assert run(remote) is None
    assert one_step(remote) is Outcome.NOT_OURS
    assert due_destinations() == []
    assert resume(PEER)
    assert due_destinations() == [PEER]
    run(remote)
    assert remote.bodies() == ["one", "two", "three"]


def test_a_frozen_transaction_stays_the_same_over_a_pause() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote.answering(UNREACHABLE)
    one_step(remote)
    paused()
    append(room, "two")
    resume(PEER)
    retry_now(PEER)
    assert one_step(remote) is Outcome.DELIVERED
    first, again = remote.received
    assert (first.txn_id, first.body) == (again.txn_id, again.body)
    assert one_step(remote) is Outcome.DELIVERED
    assert remote.bodies() == ["one", "two"]


def test_what_is_under_way_ends_and_the_next_is_held_back() -> None:
    room = make_room("a", PEER)
    append(room, "one")

    def meanwhile() -> None:
        paused()
        append(room, "two")

    remote = Remote.answering(meanwhile)
    assert deliver(PEER, send=remote, chance=lambda: 0.0) is None
    assert remote.bodies() == ["one"]
    destination = Destination.objects.get()
    assert (destination.pending, destination.lease_until) == (True, None)


def test_nothing_that_wakes_a_destination_ends_a_pause() -> None:
    append(make_room("a", PEER), "one")
    paused()
    row = OutboundTransaction.objects.create(
        destination_id=PEER, txn_id="x", path="/", body=b"{}", cursors=[], lpdus=[], events=1, set_aside_at=NOW
    )
    assert send_again([row]) == 1
    forget_failures(PEER)
    retry_now(PEER)
    with published() as messages:
        tasks.sweep()
        assert ("deliver", PEER) not in messages()
    assert one_step(Remote()) is Outcome.NOT_OURS


def test_others_are_delivered_to_meanwhile() -> None:
    append(make_room("a", PEER, "well.example.org"), "one")
    paused()
    assert due_destinations() == ["well.example.org"]


def test_resuming_wakes_a_worker_and_leaves_the_back_off_as_it_is() -> None:
    append(make_room("a", PEER), "one")
    due = timezone.now() + timedelta(minutes=5)
    Destination.objects.update(failures=3, next_attempt=due)
    paused()
    with published() as messages:
        resume(PEER)
        assert messages() == [("deliver", PEER)]
    assert Destination.objects.values_list("failures", "next_attempt").get() == (3, due)


def test_pausing_and_resuming_twice_say_so_and_change_nothing() -> None:
    append(make_room("a", PEER), "one")
    assert paused()
    since = Destination.objects.get().paused_at
    assert not pause(PEER, reason="again", now=NOW)
    destination = Destination.objects.get()
    assert (destination.paused_at, destination.paused_reason) == (since, "being moved")
    assert resume(PEER)
    with published() as messages:
        assert not resume(PEER)
        assert messages() == []
    with pytest.raises(Destination.DoesNotExist):
        pause("nobody.example.org", reason="", now=NOW)
