"""What is marked as having something to send, and the race between appending and clearing the mark."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone

from federation.delivery import Outcome, deliver, step
from federation.models import Destination, OutboundTransaction
from federation.outbound import mark_pending
from rooms.models import Room, RoomServer
from tests.support.broker import Messages, published
from tests.support.lines import append, appending, in_thread, make_room, wait_until_blocked
from tests.support.remote import Remote
from tests.support.stepping import PEER, delivered, drain, one_step, run

Execute = Callable[..., object]
OTHER = "other.example.org"

pytestmark = pytest.mark.django_db(transaction=True)


# Marking


def test_only_servers_that_had_nothing_to_receive_are_woken() -> None:
    room = make_room("a", PEER, OTHER)
    with published() as messages:
        append(room, "one")
        assert sorted(messages()) == [("deliver", OTHER), ("deliver", PEER)]
        append(room, "two")
        assert messages() == []
        delivered()
        append(room, "three")
        assert messages() == [("deliver", PEER)]


def test_nobody_is_woken_before_the_events_can_be_seen() -> None:
    with published() as messages:
        with appending(make_room("a", PEER), "one"):
            assert messages() == []
        assert messages() == [("deliver", PEER)]


def test_an_append_that_is_undone_wakes_nobody() -> None:
    room = make_room("a", PEER)
    with published() as messages:
        with pytest.raises(ZeroDivisionError), appending(room, "one"):
            raise ZeroDivisionError
        assert messages() == []
    assert not Destination.objects.exists()


def test_marking_outside_of_a_transaction_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        mark_pending([PEER])


def test_a_large_audience_costs_the_appending_process_one_message() -> None:
    servers = [f"s{number}.example.org" for number in range(30)]
    with published() as messages:
        append(make_room("a", *servers), "one")
        assert messages() == [("wake_all", sorted(servers))]


def test_we_do_not_send_to_ourselves() -> None:
    append(make_room("a", PEER, "hub.example.org"), "one")
    assert list(Destination.objects.values_list("server", flat=True)) == [PEER]


def test_a_room_of_another_hub_is_its_hubs_to_send() -> None:
    append(make_room("a", PEER, role=Room.Role.PARTICIPANT, hub=OTHER), "one")
    assert not Destination.objects.exists()
    with transaction.atomic():
        mark_pending([PEER])
    assert delivered() == []


# The race between an append, which relies on the mark, and a worker, which clears it


def test_a_mark_is_not_cleared_under_an_append_that_relies_on_it() -> None:
    room = make_room("a", PEER)
    with transaction.atomic():
        mark_pending([PEER])
    relies, commit = threading.Event(), threading.Event()

    def append_slowly() -> None:
        with appending(room, "one"):
            relies.set()
            assert commit.wait(timeout=10)

    remote = Remote()
    with published() as messages, in_thread(append_slowly):
        assert relies.wait(timeout=10)
        assert one_step(remote) is Outcome.BUSY
        assert Destination.objects.get(server=PEER).pending
        commit.set()
        assert messages() == []
    assert one_step(remote) is Outcome.DELIVERED
    assert one_step(remote) is Outcome.DRAINED
    assert remote.bodies() == ["one"]


def test_an_append_that_commits_just_before_the_worker_locks_is_seen() -> None:
    room = make_room("a", PEER)
    with transaction.atomic():
        mark_pending([PEER])
    appends = [lambda: append(room, "one")]

    def append_before_lock(execute: Execute, sql: str, *arguments: object) -> object:
        if sql.endswith("FOR UPDATE SKIP LOCKED") and appends:
            with in_thread(appends.pop()):
                pass
        return execute(sql, *arguments)

    remote = Remote()
    with connection.execute_wrapper(append_before_lock):
        assert one_step(remote) is Outcome.DELIVERED
    assert (remote.bodies(), appends) == (["one"], [])


def test_a_mark_that_is_cleared_first_is_set_again_and_the_worker_woken() -> None:
    room = make_room("a", PEER)
    with transaction.atomic():
        mark_pending([PEER])
    with published() as messages:
        with ExitStack() as append_ends, transaction.atomic():
            Destination.objects.select_for_update().get(server=PEER)
            append_ends.enter_context(in_thread(lambda: append(room, "one")))
            wait_until_blocked()
            Destination.objects.update(pending=False)
        assert messages() == [("deliver", PEER)]
    assert delivered() == ["one"]


def test_a_worker_does_not_wait_for_an_append() -> None:
    rooms = [make_room("a", PEER), make_room("b", PEER)]
    append(rooms[0], "one")
    remote = Remote()
    outcomes: list[Outcome] = []
    with appending(rooms[1], "two"), in_thread(lambda: outcomes.extend(one_step(remote) for _ in range(2))):
        pass
    assert (outcomes, remote.bodies()) == ([Outcome.DELIVERED, Outcome.BUSY], ["one"])


def test_a_worker_that_goes_on_is_not_sent_away_by_one_that_looks_whether_the_server_is_free() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote()
    looked = threading.Event()

    def look() -> None:
        with transaction.atomic():
            Destination.objects.select_for_update(no_key=True).get(server=PEER)
            looked.set()
            wait_until_blocked()

    with ExitStack() as other_worker:

        def now() -> datetime:
            acknowledged = OutboundTransaction.objects.filter(acked_at__isnull=False).exists()
            if acknowledged and not looked.is_set():
                append(room, "two")
                other_worker.enter_context(in_thread(look))
                assert looked.wait(30)
            return timezone.now()

        assert deliver(PEER, send=remote, clock=now) is None
    assert remote.bodies() == ["one", "two"]


def test_a_worker_that_finds_a_busy_room_waits_a_little_and_comes_back_later() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    slept: list[float] = []
    remote = Remote()
    with appending(room, "two"):
        again: list[float | None] = []
        with in_thread(lambda: again.append(deliver(PEER, send=remote, sleep=slept.append))):
            pass
    assert again == [1.0]
    assert len(slept) == 20
    assert Destination.objects.get(server=PEER).lease_holder == ""
    assert (remote.bodies(), delivered()) == (["one"], ["two"])


def test_nothing_is_lost_among_racing_appends_and_workers() -> None:
    """Rooms with overlapping audiences, woken workers only, no sweep: every event arrives once, in order."""
    servers = [f"s{number}.example.org" for number in range(4)]
    rooms = [make_room(f"r{number}", *random.Random(number).sample(servers, 3)) for number in range(4)]
    remotes = {server: Remote() for server in servers}
    appended = threading.Event()

    def append_often(room: Room) -> None:
        for number in range(40):
            append(room, f"{room.room_id} {number}")
            time.sleep(random.random() * 0.01)

    def work(messages: Messages) -> None:
        again: list[str] = []
        quiet_since = time.monotonic()
        while not appended.is_set() or time.monotonic() - quiet_since < 1.5:
            woken = [str(server) for _, server in messages()] + again
            again = [server for server in woken if run(remotes[server], server) is not None]
            if woken:
                quiet_since = time.monotonic()
            time.sleep(0.002)

    with ExitStack() as workers, ExitStack() as appenders:
        for _ in range(2):
            workers.enter_context(in_thread(partial(work, workers.enter_context(published()))))
        workers.callback(appended.set)
        for room in rooms:
            appenders.enter_context(in_thread(partial(append_often, room)))

    for stay in RoomServer.objects.all():
        texts = [text for text in remotes[stay.server].bodies() if text.startswith(stay.room_id)]
        assert texts == [f"{stay.room_id} {number}" for number in range(40)]
    assert not Destination.objects.filter(pending=True).exists()


def test_a_worker_that_cleared_a_mark_does_not_keep_the_next_one_out() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote()
    drain(remote)
    append(room, "two")
    assert step(PEER, holder="another", send=remote) is Outcome.DELIVERED
    assert remote.bodies() == ["one", "two"]
