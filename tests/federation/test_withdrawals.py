"""Refusing an invite and taking back a knock: at once for the user, in the end for the hub."""

from datetime import timedelta

import pytest
from django.utils import timezone

from federation import handshakes, tasks, withdrawals
from federation.make_and_send import HandshakeFailed
from federation.models import PendingLeave
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.errors import TooLarge
from rooms import pending
from rooms.models import PendingInvite
from tests.settings import TEST_AUTHORITY
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer
from tests.support.tls_peer import TlsPeer

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


@pytest.fixture
def room(tls_peer):
    """A room on the peer that Alice is invited to."""
    room = PeerRoom(tls_peer, join_rule="knock")
    tls_peer.host(room)
    invited(room)
    return room


@pytest.fixture
def other_peer(tmp_path):
    """A second server."""
    with TlsPeer(TEST_AUTHORITY, tmp_path / "other", host="other.localhost") as server:
        yield server


def invited(room):
    """Invite Alice, as if the hub had told us."""
    invite = room.member(ALICE, "invite")
    pending.keep(invite.event, event_id=invite.event_id, hub=room.hub.name, version=room.version, shown=[])


def leave_events(room):
    return [pdu.event for pdu in room.line if pdu.event["content"].get("membership") == "leave"]


def attempt(*, after=timedelta()):
    """One attempt at every leave, `after` a time."""
    for leave in PendingLeave.objects.all():
        withdrawals.attempt(leave.pk, clock=lambda: timezone.now() + after, chance=lambda: 0.0)


def test_row46_row86_an_invite_is_refused_at_once_and_the_hub_told_with_the_reason(room):
    sent = handshakes.leave(room_id=room.room_id, user_id=ALICE, reason="busy")
    assert (sent.taken, sent.event_id, sent.lpdu_id) == (True, "", "")
    assert not PendingInvite.objects.exists()
    assert leave_events(room) == []
    attempt()
    (leave,) = leave_events(room)
    assert (leave["sender"], leave["state_key"]) == (ALICE, ALICE)
    assert leave["content"] == {"membership": "leave", "reason": "busy"}
    assert leave["hub_server"] == room.hub.name
    assert not PendingLeave.objects.exists()


ANSWERS = {
    "403": (403, {"errcode": "M_FORBIDDEN", "error": "No."}),
    "500": (500, {"errcode": "M_UNKNOWN", "error": "Broken."}),
    "a page": (502, b"<html>"),
    "garbage": (200, b"garbage"),
    "another template": (200, {"event": {}, "room_version": "I.1"}),
    "429": (429, {"errcode": "M_LIMIT_EXCEEDED", "error": "Wait.", "retry_after_ms": 10}),
}


@pytest.mark.parametrize(
    ("answer", "step"),
    [
        *((answer, ("GET", "make_leave")) for answer in ANSWERS),
        *((answer, ("POST", "send_leave")) for answer in ANSWERS if answer != "another template"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else value,
)
def test_row44_an_invite_is_refused_whatever_the_hub_answers_which_is_asked_again(answer, step, room, tls_peer):
    honest = tls_peer.endpoints[step]
    tls_peer.endpoints[step] = lambda _request: ANSWERS[answer]
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    assert not PendingInvite.objects.exists()
    attempt()
    leave = PendingLeave.objects.get()
    assert (leave.failures, leave_events(room)) == (1, [])
    assert leave.last_error
    assert withdrawals.due_leaves() == []
    tls_peer.endpoints[step] = honest
    attempt(after=timedelta(seconds=2))
    assert len(leave_events(room)) == 1
    assert not PendingLeave.objects.exists()


def test_row44_an_invite_is_refused_with_the_hub_unreachable():
    room = PeerRoom(Peer("gone.localhost:1"))
    invited(room)
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    assert not PendingInvite.objects.exists()
    for waited in range(3):
        attempt(after=timedelta(hours=waited))
    leave = PendingLeave.objects.get()
    assert (leave.failures, leave.refusals) == (3, 0)
    assert "connection refused" in leave.last_error


def test_waits_grow_and_the_sweep_finds_what_is_due(room, tls_peer):
    tls_peer.endpoints["GET", "make_leave"] = lambda _request: ANSWERS["500"]
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    pk = PendingLeave.objects.get().pk
    now = timezone.now()
    assert withdrawals.due_leaves(now=now) == [pk]
    for seconds in (1, 2, 4, 8):
        withdrawals.attempt(pk, clock=lambda: now, chance=lambda: 0.0)  # noqa: B023  called before it changes
        assert withdrawals.due_leaves(now=now + timedelta(seconds=seconds - 0.1)) == []
        now += timedelta(seconds=seconds)
        assert withdrawals.due_leaves(now=now) == [pk]


def test_a_sweep_takes_those_that_have_waited_longest():
    now = timezone.now()
    PendingLeave.objects.bulk_create(
        PendingLeave(
            room_id=f"!{number}:gone.localhost",
            user_id=ALICE,
            hub_server="gone.localhost",
            room_version="I.1",
            created_at=now,
            next_attempt=now - timedelta(seconds=number),
        )
        for number in range(withdrawals.MAX_DUE + 1)
    )
    due = withdrawals.due_leaves(now=now)
    assert len(due) == withdrawals.MAX_DUE
    oldest, newest = PendingLeave.objects.order_by("next_attempt")[0], PendingLeave.objects.latest("next_attempt")
    assert due[0] == oldest.pk
    assert newest.pk not in due


def test_a_task_makes_the_attempt_and_the_sweep_publishes_it(room):
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    tasks.sweep()
    tasks.send_leave(PendingLeave.objects.get().pk)
    assert len(leave_events(room)) == 1
    tasks.send_leave(0)


def test_a_hub_that_goes_on_refusing_is_believed_and_one_that_is_broken_is_not(room, tls_peer):
    tls_peer.endpoints["GET", "make_leave"] = lambda _request: ANSWERS["500"]
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    for number in range(DEFAULTS.leave_refusals + 1):
        attempt(after=timedelta(hours=number))
    tls_peer.endpoints["GET", "make_leave"] = lambda _request: ANSWERS["403"]
    for number in range(DEFAULTS.leave_refusals):
        assert PendingLeave.objects.get().refusals == number
        attempt(after=timedelta(days=1, hours=number))
    assert not PendingLeave.objects.exists()


def test_after_two_weeks_nobody_waits_for_the_hub_any_more(room, tls_peer):
    tls_peer.endpoints["GET", "make_leave"] = lambda _request: ANSWERS["500"]
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    attempt(after=timedelta(days=DEFAULTS.leave_days) - timedelta(minutes=1))
    assert PendingLeave.objects.exists()
    PendingLeave.objects.update(failures=withdrawals.MIN_FAILURES)
    attempt(after=timedelta(days=DEFAULTS.leave_days) + timedelta(hours=2))
    assert not PendingLeave.objects.exists()


def test_a_leave_that_a_worker_has_is_not_taken_by_another_until_its_lease_runs_out(room, tls_peer):
    attempts = []

    def make_leave(_request):
        attempts.append(1)
        attempt()  # another worker, meanwhile
        return ANSWERS["500"]

    tls_peer.endpoints["GET", "make_leave"] = make_leave
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    attempt()
    assert len(attempts) == 1
    PendingLeave.objects.update(next_attempt=timezone.now() + withdrawals.LEASE)
    assert withdrawals.due_leaves() == []
    assert len(withdrawals.due_leaves(now=timezone.now() + withdrawals.LEASE)) == 1


def test_an_invite_that_comes_anew_is_not_answered_with_the_leave_of_the_former(room, tls_peer):
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    body = {"event": room.member(ALICE, "invite").event, "room_version": room.version}
    assert tls_peer.request("POST", "/_matrix/federation/v3/invite/again", body).status_code == 200
    assert not PendingLeave.objects.exists()
    assert PendingInvite.objects.get().event_id == room.line[-1].event_id
    attempt()
    assert leave_events(room) == []


def test_a_leave_that_was_cancelled_while_it_was_under_way_is_not_sent(room, tls_peer):
    honest = tls_peer.endpoints["GET", "make_leave"]

    def make_leave(request):
        withdrawals.cancel(room.room_id, ALICE)
        return honest(request)

    tls_peer.endpoints["GET", "make_leave"] = make_leave
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    attempt()
    assert leave_events(room) == []


def test_a_reason_that_no_event_can_hold_refuses_nothing(room):
    with pytest.raises(TooLarge):
        handshakes.leave(room_id=room.room_id, user_id=ALICE, reason="x" * 70_000)
    assert PendingInvite.objects.exists()
    assert not PendingLeave.objects.exists()


def test_without_an_invite_the_hub_decides_and_its_answer_is_told(room, tls_peer):
    PendingInvite.objects.all().delete()
    tls_peer.endpoints["GET", "make_leave"] = lambda _request: ANSWERS["403"]
    with pytest.raises(HandshakeFailed, match="M_FORBIDDEN No"):
        handshakes.leave(room_id=room.room_id, user_id=ALICE)
    assert not PendingLeave.objects.exists()


def test_row86_invites_may_be_refused_several_times(room, tls_peer):
    for number in range(3):
        if number:
            body = {"event": room.member(ALICE, "invite").event, "room_version": room.version}
            assert tls_peer.request("POST", f"/_matrix/federation/v3/invite/{number}", body).status_code == 200
        handshakes.leave(room_id=room.room_id, user_id=ALICE)
        attempt()
    assert len(leave_events(room)) == 3
    assert not PendingInvite.objects.exists()


def test_row86_an_invite_to_a_room_that_everybody_has_left_is_refused(room, tls_peer):
    answer = (404, {"errcode": "M_NOT_FOUND", "error": "Nobody is in the room."})
    tls_peer.endpoints["GET", "make_leave"] = lambda _request: answer
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    for number in range(DEFAULTS.leave_refusals):
        attempt(after=timedelta(hours=number))
    assert not PendingInvite.objects.exists()
    assert not PendingLeave.objects.exists()


@pytest.mark.parametrize(("hint", "asked"), [(True, 1), (False, 0)])
def test_the_hub_may_point_to_another_server(hint, asked, room, tls_peer, other_peer):
    honest = tls_peer.endpoints["GET", "make_leave"]
    wrong = {"errcode": "M_WRONG_SERVER", "error": "not the hub", **({"hub_server": other_peer.name} if hint else {})}
    tls_peer.endpoints["GET", "make_leave"] = lambda _request: (400, wrong)
    other_peer.endpoints["GET", "make_leave"] = honest
    other_peer.endpoints["POST", "send_leave"] = tls_peer.endpoints["POST", "send_leave"]
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    attempt()
    assert len(leave_events(room)) == asked
