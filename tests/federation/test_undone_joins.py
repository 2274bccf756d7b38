"""A join of which we do not know whether the hub has it is undone: else the hub would go on to think that we are in."""

from datetime import timedelta

import pytest
from django.utils import timezone

from federation import backoff, handshakes, withdrawals
from federation.make_and_send import HandshakeFailed, Template, Wish
from federation.models import PendingLeave
from rooms.joining import LONGEST_SECONDS
from rooms.models import RoomServer
from tests.support.peer_rooms import PeerRoom

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


@pytest.fixture
def room(tls_peer):
    """A public room on the peer."""
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    return room


def memberships(room):
    """What Alice was in the room, one after the other."""
    return [pdu.event["content"]["membership"] for pdu in room.line if pdu.event.get("state_key") == ALICE]


def taken_but_answered(tls_peer, *answer):
    """Have the hub take a join and answer something else."""
    honest = tls_peer.endpoints["POST", "send_join"]

    def send_join(request):
        honest(request)
        return answer

    tls_peer.endpoints["POST", "send_join"] = send_join


def attempt(*, after=timedelta()):
    """One attempt at every leave, `after` a time."""
    for leave in PendingLeave.objects.all():
        withdrawals.attempt(leave.pk, clock=lambda: timezone.now() + after, chance=lambda: 0.0)


@pytest.mark.parametrize(
    ("status", "body", "known"),
    [
        (200, b"garbage", ["join", "leave"]),
        (502, b"<html>", ["join", "leave"]),
        (200, {"state": [], "auth_chain": [], "event": {}}, ["join", "leave"]),
        # The twin: a hub that says no has not taken it, and is not told of a leave.
        (403, {"errcode": "M_FORBIDDEN", "error": "No."}, ["join"]),
    ],
)
def test_a_join_whose_answer_is_lost_is_undone_at_the_hub(status, body, known, tls_peer, room):
    taken_but_answered(tls_peer, status, body)
    with pytest.raises(HandshakeFailed):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    attempt()
    assert memberships(room) == ["join"]  # the user may try again first
    attempt(after=withdrawals.UNDO_AFTER)
    assert memberships(room) == known
    assert not PendingLeave.objects.exists()


def test_a_user_who_tries_again_is_in_and_stays_in(tls_peer, room):
    honest = tls_peer.endpoints["POST", "send_join"]
    taken_but_answered(tls_peer, 200, b"garbage")
    with pytest.raises(HandshakeFailed):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    tls_peer.endpoints["POST", "send_join"] = honest
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert not PendingLeave.objects.exists()
    assert memberships(room) == ["join", "join"]


BUSY = (429, {"errcode": "M_LIMIT_EXCEEDED", "error": "Later."})


@pytest.mark.parametrize("refused_at", [("GET", "make_join"), ("POST", "send_join")])
def test_a_user_who_tries_again_in_vain_is_taken_out_all_the_same(refused_at, tls_peer, room):
    taken_but_answered(tls_peer, 200, b"garbage")
    with pytest.raises(HandshakeFailed):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    tls_peer.endpoints[refused_at] = lambda _request: BUSY
    with pytest.raises(HandshakeFailed, match="Later"):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    attempt(after=withdrawals.UNDO_AFTER)
    assert memberships(room) == ["join", "leave"]


def test_nobody_joins_while_the_hub_is_told_of_a_leave_that_might_come_after_it(tls_peer, room):
    honest_join, honest = tls_peer.endpoints["POST", "send_join"], tls_peer.endpoints["GET", "make_leave"]
    taken_but_answered(tls_peer, 200, b"garbage")
    with pytest.raises(HandshakeFailed):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    tls_peer.endpoints["POST", "send_join"] = honest_join

    def make_leave(request):
        with pytest.raises(HandshakeFailed, match="being told"):
            handshakes.join(room_id=room.room_id, user_id=ALICE)
        return honest(request)

    tls_peer.endpoints["GET", "make_leave"] = make_leave
    PendingLeave.objects.update(next_attempt=timezone.now())
    attempt()
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert memberships(room) == ["join", "leave", "join"]
    assert not PendingLeave.objects.exists()


def test_a_join_that_succeeds_leaves_nothing_to_undo(room):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert not PendingLeave.objects.exists()
    assert RoomServer.objects.filter(server="hub.example.org", left_position__isnull=True).exists()


def dies_while_joining(room, *, after_coming_in):
    """A process that asks for the join and ends, before or after its answer is stored."""
    wish = Wish("join", room.room_id, ALICE, room.version)
    if after_coming_in:
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    with (
        pytest.raises(SystemExit),
        withdrawals.undone_unless_known(Template(room.hub.name, room.version), wish, now=timezone.now()),
    ):
        raise SystemExit


def test_the_join_of_a_process_that_died_is_undone_when_none_takes_as_long(room):
    dies_while_joining(room, after_coming_in=False)
    attempt(after=timedelta(seconds=LONGEST_SECONDS - 10))
    assert memberships(room) == []
    attempt(after=timedelta(seconds=LONGEST_SECONDS + 10))
    assert memberships(room) == ["leave"]


def test_a_process_that_died_once_the_user_was_in_takes_nobody_out(room):
    """The twin of the test above."""
    dies_while_joining(room, after_coming_in=True)
    attempt(after=timedelta(seconds=LONGEST_SECONDS + 10))
    assert memberships(room) == ["join"]
    assert not PendingLeave.objects.exists()


@pytest.mark.parametrize(("ahead", "due"), [(timedelta(hours=-1), False), (timedelta(hours=1), True)])
def test_a_leave_put_off_by_a_wrong_clock_is_not_put_off(ahead, due, room):
    dies_while_joining(room, after_coming_in=False)
    now = timezone.now()
    PendingLeave.objects.update(next_attempt=now + backoff.longest() + ahead)
    assert bool(withdrawals.due_leaves(now=now)) is due
