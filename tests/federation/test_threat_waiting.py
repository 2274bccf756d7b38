"""Requests that wait for others leave threads to those that do not (threats 8, 55, 57)."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.db import connection

from federation.errors import ApiError
from federation.models import InboundTransaction
from federation.waiting import LONG_SECONDS, WaitingRoom, waiting_room
from tests.support.hosted import is_error, send_join
from tests.support.peers import FEDERATION, Peer

DEADLINE = 30.0


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def room(clock: list[float]) -> WaitingRoom:
    """Of a process with eight threads: four may wait, two for one origin for long."""
    return WaitingRoom(threads=8, clock=lambda: clock[0])


def waiting(room: WaitingRoom, places: ExitStack, *origins: str) -> None:
    for origin in origins:
        places.enter_context(room.wait(origin))


def test_half_of_the_threads_may_wait_and_no_more(room, clock):
    with ExitStack() as places:
        waiting(room, places, "a.example", "b.example", "c.example", "d.example")
        clock[0] = LONG_SECONDS
        with pytest.raises(ApiError) as refused, room.wait("e.example"):
            pass
        assert refused.value.status == 503
    with room.wait("e.example"):
        pass


def test_an_origin_that_waits_for_long_has_a_quarter_and_leaves_the_rest_to_others(room, clock):
    with ExitStack() as places:
        waiting(room, places, "a.example", "a.example")
        clock[0] = LONG_SECONDS
        with pytest.raises(ApiError), room.wait("a.example"):
            pass
        waiting(room, places, "b.example", "b.example")


def test_an_origin_whose_waits_are_short_may_have_all_places(room):
    with ExitStack() as places:
        waiting(room, places, *["a.example"] * 4)


def test_who_finds_no_place_waits_for_one_that_is_soon_free(room):
    with ExitStack() as places, ThreadPoolExecutor(1) as pool:
        waiting(room, places, *["a.example"] * 4)
        begun = threading.Event()

        def late() -> str:
            begun.set()
            with room.wait("b.example"):
                return "waited"

        answer = pool.submit(late)
        assert begun.wait(DEADLINE)
        places.close()
        assert answer.result(DEADLINE) == "waited"


@pytest.fixture
def few_threads() -> Iterator[None]:
    """As in a process with four threads: two may wait, one for one origin for long."""
    waiting_room.share_out(4)
    yield
    waiting_room.share_out(settings.WEB_THREADS)


def in_threads(pool: ThreadPoolExecutor, work, *arguments):
    def run(argument):
        try:
            return work(argument)
        finally:
            connection.close()

    return [pool.submit(run, argument) for argument in arguments]


def test_invited_servers_that_do_not_answer_hold_up_half_of_the_threads(few_threads, tls_peer, joined, peer):
    """Their users are invited by a participant, who can do that in any public room."""
    asked, answer = threading.Semaphore(0), threading.Event()

    def invite(_request):
        asked.release()
        assert answer.wait(DEADLINE)
        return 403, {"errcode": "M_FORBIDDEN"}

    tls_peer.endpoints["POST", "invite"] = invite

    def invite_one(name):
        target = tls_peer.user(name)
        lpdu = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "invite"}, state_key=target)
        body = {"event": lpdu.event, "room_version": joined.version}
        return Peer(peer.name).request("POST", f"{FEDERATION}/v3/invite/{name}", body)

    with ThreadPoolExecutor(4) as pool:
        held = in_threads(pool, invite_one, "a", "b")
        try:
            assert asked.acquire(timeout=DEADLINE)
            assert asked.acquire(timeout=DEADLINE)
            (late,) = in_threads(pool, invite_one, "c")
            assert is_error(late.result(DEADLINE), 503, "M_UNKNOWN")
            other = Peer("other.example.org").publish()
            assert send_join(other, other.join(joined.room_id)).status_code == 200
        finally:
            answer.set()
        assert [item.result(DEADLINE).status_code for item in held] == [403, 403]


def test_repetitions_of_a_transaction_that_takes_long_hold_up_half_of_the_threads(few_threads, peer, joined):
    """All but the first wait for its answer, which is as slow as its origin wants it to be."""
    event = peer.lpdu(joined.room_id).event

    def send(_number):
        return Peer(peer.name).send([event], txn_id="slow")

    first = peer.send([event], txn_id="slow")
    InboundTransaction.objects.filter(txn_id="slow").update(status=None, response=None)  # under way, as it were
    with ThreadPoolExecutor(3) as pool:
        sent = in_threads(pool, send, 1, 2, 3)
        first_answered = next(as_completed(sent, timeout=DEADLINE))
        assert is_error(first_answered.result(), 503, "M_UNKNOWN")
        InboundTransaction.objects.filter(txn_id="slow").update(status=200, response=first.content)
        answers = [item.result(DEADLINE).status_code for item in sent]
    assert sorted(answers) == [200, 200, 503]
