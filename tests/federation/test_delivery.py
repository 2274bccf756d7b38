"""Delivery, stepped: frozen transactions, leases, failures, and the end of a queue."""

import threading
from datetime import datetime, timedelta

import pytest
from django.db import connection

from federation.client import Answer
from federation.delivery import LEASE, Outcome, deliver, step
from federation.models import Destination, OutboundLpdu
from federation.outbound import queue_lpdu
from linmatrix.protocol.events import Lpdu
from rooms.models import RoomServer
from tests.support.lines import append, in_thread, make_room, message
from tests.support.remote import UNREACHABLE, Remote

PEER = "peer.example.org"
NOW = datetime.fromisoformat("2030-01-01T00:00:00+00:00")

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """The process ends here."""


def step_at(remote: Remote, now: datetime = NOW, *, holder: str = "worker") -> Outcome:
    return step(PEER, holder=holder, send=remote, clock=lambda: now, chance=lambda: 0.0)


def run(remote: Remote) -> float | None:
    return deliver(PEER, send=remote, chance=lambda: 0.0)


def test_row27_events_arrive_in_the_order_of_the_room() -> None:
    append(make_room("a", PEER), "one", "two", "three")
    remote = Remote()
    assert run(remote) is None
    assert remote.bodies() == ["one", "two", "three"]
    destination = Destination.objects.get(server=PEER)
    assert (destination.pending, destination.lease_holder, destination.failures) == (False, "", 0)
    assert RoomServer.objects.get(server=PEER).sent_position == 3


def test_the_body_is_the_stored_bytes() -> None:
    append(make_room("a", PEER), "ü\u2028\U0001f600")
    remote = Remote()
    run(remote)
    assert remote.received[0].body == (
        b'{"edus":[],"pdus":[{"content":{"body":"' + "ü\u2028\U0001f600".encode() + b'","padding":""},'
        b'"room_id":"!a:hub.example.org","sender":"@alice:hub.example.org","type":"m.room.message"}]}'
    )


def test_a_retry_is_the_same_request_though_new_events_arrived() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote.answering(Answer(500, None))
    assert step_at(remote) is Outcome.FAILED
    append(room, "two")
    later = NOW + timedelta(seconds=2)
    assert step_at(remote, later) is Outcome.DELIVERED
    assert remote.received[0] == remote.received[1]
    assert step_at(remote, later) is Outcome.DELIVERED
    assert remote.bodies() == ["one", "two"]
    assert remote.received[1].txn_id != remote.received[2].txn_id


@pytest.mark.parametrize("status", [201, 204, 302, 400, 401, 403, 404, 409, 413, 429, 500, 503])
def test_only_200_acknowledges(status: int) -> None:
    append(make_room("a", PEER), "one")
    remote = Remote.answering(Answer(status, {"errcode": "M_UNKNOWN", "error": "no"}))
    assert step_at(remote) is Outcome.FAILED
    assert RoomServer.objects.get(server=PEER).sent_position == 0
    assert step_at(remote, NOW + timedelta(seconds=2)) is Outcome.DELIVERED
    assert remote.received[0] == remote.received[1]
    assert remote.bodies() == ["one"]


def test_a_worker_that_dies_after_sending_is_followed_by_the_same_request() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote.answering(Killed())
    with pytest.raises(Killed):
        step_at(remote, holder="dead")
    append(room, "two")
    assert step_at(remote, NOW + LEASE - timedelta(seconds=1)) is Outcome.NOT_OURS
    assert step_at(remote, NOW + LEASE) is Outcome.DELIVERED
    assert remote.received[0] == remote.received[1]
    assert remote.bodies() == ["one"]


def test_no_database_connection_is_held_while_a_request_is_under_way() -> None:
    append(make_room("a", PEER), "one")

    def check() -> None:
        assert not connection.in_atomic_block
        assert connection.connection is None

    remote = Remote.answering(check)
    run(remote)
    assert remote.bodies() == ["one"]


def test_a_long_backlog_does_not_occupy_a_worker_for_ever() -> None:
    append(make_room("a", PEER), *map(str, range(120)))
    times = iter(NOW + timedelta(seconds=10 * number) for number in range(100))
    remote = Remote()
    assert deliver(PEER, send=remote, clock=lambda: next(times)) == 0.0
    assert 0 < len(remote.bodies()) < 120
    assert Destination.objects.get(server=PEER).lease_holder == ""
    assert run(remote) is None
    assert remote.bodies() == [str(number) for number in range(120)]


def test_a_fault_of_ours_gives_the_lease_back() -> None:
    append(make_room("a", PEER), "one")
    with pytest.raises(ZeroDivisionError):
        run(Remote.answering(ZeroDivisionError()))
    assert Destination.objects.get(server=PEER).lease_holder == ""


def test_a_lease_keeps_a_second_worker_out() -> None:
    append(make_room("a", PEER), "one")
    sending, answered = threading.Event(), threading.Event()

    def slowly() -> None:
        sending.set()
        assert answered.wait(timeout=10)

    first, second = Remote.answering(slowly), Remote()
    with in_thread(lambda: run(first)):
        assert sending.wait(timeout=10)
        assert run(second) is None
        answered.set()
    assert (first.bodies(), second.received) == (["one"], [])


def test_a_worker_that_lost_its_lease_does_not_acknowledge() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    second = Remote.answering(lambda: None, Answer(500, None))

    def take_over() -> None:
        assert step_at(second, NOW + LEASE, holder="second") is Outcome.DELIVERED
        append(room, "two")
        assert step_at(second, NOW + LEASE, holder="second") is Outcome.FAILED

    first = Remote.answering(take_over)
    assert step_at(first, holder="first") is Outcome.NOT_OURS
    assert RoomServer.objects.get(server=PEER).sent_position == 1
    assert Destination.objects.get(server=PEER).failures == 1


def test_a_failure_of_a_worker_that_lost_its_lease_changes_nothing() -> None:
    append(make_room("a", PEER), "one")

    def take_over() -> None:
        step_at(Remote(), NOW + LEASE, holder="second")
        raise UNREACHABLE

    assert step_at(Remote.answering(take_over), holder="first") is Outcome.NOT_OURS
    destination = Destination.objects.get(server=PEER)
    assert (destination.failures, destination.lease_holder) == (0, "second")


def test_fifty_events_a_transaction() -> None:
    append(make_room("a", PEER), *map(str, range(51)))
    remote = Remote()
    run(remote)
    assert [len(request.pdus) for request in remote.received] == [50, 1]
    assert remote.bodies() == [str(number) for number in range(51)]


def test_an_event_that_arrives_while_the_last_is_sent_is_sent_next() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote.answering(lambda: append(room, "two"))
    run(remote)
    assert remote.bodies() == ["one", "two"]
    assert not Destination.objects.get(server=PEER).pending


def queued(lpdu_id: str) -> Lpdu:
    return Lpdu(event=message("!theirs:peer.example.org", lpdu_id), lpdu_id=lpdu_id)


def test_lpdus_are_sent_in_order_and_refused_ones_keep_the_reason() -> None:
    for lpdu_id in ("$one", "$two", "$three"):
        queue_lpdu(PEER, queued(lpdu_id))
    failed = {"$two": {"error": "needs 50, has 0"}, "$three": "?", "$unknown": {"error": "x" * 9999 + "\x00"}}
    remote = Remote.answering(Answer(200, {"failed_pdus": failed}))
    run(remote)
    assert remote.bodies() == ["$one", "$two", "$three"]
    assert list(OutboundLpdu.objects.order_by("id").values_list("lpdu_id", "status", "reason")) == [
        ("$one", "sent", ""),
        ("$two", "refused", "needs 50, has 0"),
        ("$three", "refused", "no reason given"),
    ]


@pytest.mark.parametrize("failed", [None, [], "x", {"$one": None}, {"\ud800x": {}}, {"$one": {"error": 5}}])
def test_nothing_in_an_acknowledgement_can_stop_the_queue(failed: object) -> None:
    queue_lpdu(PEER, queued("$one"))
    remote = Remote.answering(Answer(200, {"failed_pdus": failed}))
    assert step_at(remote) is Outcome.DELIVERED
    assert OutboundLpdu.objects.get().status != OutboundLpdu.Status.QUEUED
