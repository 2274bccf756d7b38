"""Invites taken back and knocks denied where the user's server is not in the room (decision 82).

As hub: that server is sent this one event and learns nothing else. As that server: the hub is believed, about what
it may decide and when it was made for what we hold.
"""

import pytest
from django.utils import timezone

from federation import handshakes
from federation.invited import receive_for_pending
from federation.models import Destination
from federation.sending import send_event
from keys.local import signing_key
from linmatrix.protocol.events import check_schema
from rooms import pending
from rooms.creation import create_room
from rooms.models import Event, PendingInvite, RoomServer
from tests.support.hosted import CREATOR, is_error, membership, send_join
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer
from tests.support.remote import Remote
from tests.support.stepping import run

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


# As the hub.


@pytest.fixture
def hosted(transactional_db):
    """A room of ours whose past those read who come in."""
    return create_room(creator=CREATOR, now=timezone.now(), join_rule="knock", history_visibility="shared")


def wait(peer, room, state):
    """Bring the peer's user to wait for an answer: invited, or knocking."""
    user = peer.user("user")
    if state == "invite":
        membership(room, user, "invite")
        return user
    knock = peer.lpdu(room.room_id, type="m.room.member", content={"membership": "knock"}, state_key=user)
    assert peer.request("POST", "/_matrix/federation/v3/send_knock/x", knock.event).status_code == 200
    return user


def sent_to(peer):
    """The memberships that a worker sends to the peer now."""
    remote = Remote()
    run(remote, peer.name)
    return [(pdu["state_key"], pdu["content"]["membership"]) for request in remote.received for pdu in request.pdus]


@pytest.mark.parametrize("waiting", ["invite", "knock"])
@pytest.mark.parametrize("end", ["leave", "ban"])
def test_row89_row96_the_server_is_sent_the_end_of_an_invite_or_a_knock_and_nothing_after(waiting, end, peer, hosted):
    user = wait(peer, hosted, waiting)
    assert sent_to(peer) == []
    membership(hosted, user, end)
    membership(hosted, "@other:hub.example.org", "invite")
    assert sent_to(peer) == [(user, end)]
    membership(hosted, "@third:hub.example.org", "invite")
    assert sent_to(peer) == []
    assert not Destination.objects.get(server=peer.name).pending
    stay = RoomServer.objects.get(server=peer.name)
    assert stay.joined_position == stay.left_position == stay.sent_position


def test_row90_a_user_without_the_power_cannot_take_an_invite_back(peer, hosted):
    user = wait(peer, hosted, "invite")
    member = Peer("member.example.org").publish()
    membership(hosted, member.user("user"), "invite")
    assert send_join(member, member.join(hosted.room_id)).status_code == 200
    rescind = member.lpdu(hosted.room_id, type="m.room.member", content={"membership": "leave"}, state_key=user)
    assert "rule 5.4.5" in member.send([rescind.event]).json()["failed_pdus"][rescind.lpdu_id]["error"]
    assert sent_to(peer) == []


def test_a_server_in_the_room_gets_it_once_as_any_other_event(peer, hosted):
    membership(hosted, peer.user("inside"), "invite")
    assert send_join(peer, peer.join(hosted.room_id, "inside")).status_code == 200
    user = wait(peer, hosted, "invite")
    membership(hosted, user, "leave")
    memberships = [(user, "invite"), (user, "leave")]
    assert sent_to(peer)[-2:] == memberships
    assert RoomServer.objects.filter(server=peer.name).count() == 1


def test_several_users_of_one_server_and_a_join_after_all(peer, hosted):
    first, second = peer.user("first"), peer.user("second")
    for user in (first, second):
        membership(hosted, user, "invite")
        membership(hosted, user, "leave")
    assert sent_to(peer) == [(first, "leave"), (second, "leave")]
    membership(hosted, first, "invite")
    assert send_join(peer, peer.join(hosted.room_id, "first")).status_code == 200
    assert sent_to(peer) == [(first, "join")]


def test_one_transaction_may_take_back_invite_again_and_take_back(peer, hosted):
    member = Peer("member.example.org").publish()
    membership(hosted, member.user("user"), "invite")
    assert send_join(member, member.join(hosted.room_id)).status_code == 200
    membership(hosted, peer.user("user"), "invite")
    power = {"users": {CREATOR: 100, member.user("user"): 50}}
    send_event(room_id=hosted.room_id, sender=CREATOR, type="m.room.power_levels", content=power, state_key="")
    lpdus = [
        member.lpdu(
            hosted.room_id, type="m.room.member", content={"membership": value, "n": n}, state_key=peer.user("user")
        )
        for n, value in enumerate(("leave", "ban", "leave"))
    ]
    assert member.send([lpdu.event for lpdu in lpdus]).json() == {"failed_pdus": {}}
    assert sent_to(peer) == [(peer.user("user"), "leave")]


def test_a_user_of_our_own_needs_no_stay_to_be_told(hosted):
    membership(hosted, ALICE, "invite")
    membership(hosted, ALICE, "leave")
    assert list(RoomServer.objects.values_list("server", "joined_users")) == [("hub.example.org", 1)]


@pytest.mark.parametrize("been_there", [False, True])
def test_a_server_that_was_only_told_may_read_nothing_of_the_room(been_there, peer, hosted):
    """Its twin was in the room once, and goes on reading what was said until then."""
    if been_there:
        membership(hosted, peer.user("old"), "invite")
        assert send_join(peer, peer.join(hosted.room_id, "old")).status_code == 200
        membership(hosted, peer.user("old"), "leave")
    user = wait(peer, hosted, "invite")
    membership(hosted, user, "leave")
    create = Event.objects.get(room=hosted, position=1)
    status = 200 if been_there else 404
    assert peer.get("event", create.event_id).status_code == status
    query = f"v={create.event_id}&limit=10"
    assert peer.get("backfill", hosted.room_id, query=query).status_code == status
    query = f"event_id={create.event_id}"
    assert peer.get("state", hosted.room_id, version="v1", query=query).status_code == status
    latest = Event.objects.filter(room=hosted).order_by("-position")[0]
    assert is_error(peer.get("event", latest.event_id), 404, "M_NOT_FOUND")


# As the server of the user who waits.


@pytest.fixture
def room(tls_peer):
    """A room on the peer that we are not in."""
    room = PeerRoom(tls_peer, join_rule="knock")
    tls_peer.host(room)
    return room


def held(room, state="invite", user_id=ALICE):
    """Hold an invite or a knock of Alice's; what its event was in the room's line."""
    if state == "invite":
        pdu = room.member(user_id, "invite")
        pending.keep(pdu.event, event_id=pdu.event_id, hub=room.hub.name, version=room.version, shown=[])
        return pdu
    us = Peer("hub.example.org")
    us.key = signing_key()
    lpdu = us.lpdu(
        room.room_id,
        hub=room.hub.name,
        localpart=user_id[1:].partition(":")[0],
        type="m.room.member",
        content={"membership": "knock"},
        state_key=user_id,
    )
    pending.keep(lpdu.event, event_id=lpdu.lpdu_id, hub=room.hub.name, version=room.version, shown=[])
    return room.add(lpdu=lpdu)


def receive(room, pdu, origin=""):
    receive_for_pending(origin or room.hub.name, check_schema(pdu.event))


@pytest.mark.parametrize("waiting", ["invite", "knock"])
@pytest.mark.parametrize("end", ["leave", "ban"])
def test_row89_row96_what_the_hub_takes_back_or_denies_is_gone(waiting, end, room):
    held(room, waiting)
    other = held(room, waiting, "@bob:hub.example.org")
    receive(room, room.member(ALICE, end))
    assert list(PendingInvite.objects.values_list("user_id", flat=True)) == [other.event["state_key"]]


def test_row96_an_invite_that_comes_by_send_answers_a_knock(room):
    held(room, "knock")
    invite = room.member(ALICE, "invite")
    receive(room, invite)
    row = PendingInvite.objects.get()
    assert (pending.is_knock(row), row.event_id) == (False, invite.event_id)
    receive(room, room.member(ALICE, "leave"))
    assert not PendingInvite.objects.exists()


def test_the_echo_of_a_knock_tells_its_event(room):
    echo = held(room, "knock")
    receive(room, echo)
    row = PendingInvite.objects.get()
    assert (pending.is_knock(row), row.event_id) == (True, echo.event_id)
    receive(room, room.member(ALICE, "leave"))
    assert not PendingInvite.objects.exists()


def test_an_invite_renewed_before_the_end_of_the_former_arrives_stands(room):
    held(room)
    end = room.member(ALICE, "leave")
    renewed = held(room)
    receive(room, end)
    assert PendingInvite.objects.get().event_id == renewed.event_id
    receive(room, room.member(ALICE, "leave"))
    assert not PendingInvite.objects.exists()


def test_the_echo_of_ones_own_leave_does_not_end_the_knock_after_it(room):
    held(room, "knock")
    us = Peer("hub.example.org")
    us.key = signing_key()
    fields = {"type": "m.room.member", "content": {"membership": "leave"}, "state_key": ALICE}
    leave = room.add(lpdu=us.lpdu(room.room_id, hub=room.hub.name, localpart="alice", **fields))
    held(room, "knock")
    receive(room, leave)
    assert PendingInvite.objects.count() == 1


def forged(room):
    """Ends that must not count, by what is wrong with each: (event, origin)."""
    end = room.make(type="m.room.member", content={"membership": "leave"}, state_key=ALICE)
    stranger = Peer("third.example.org")
    forgery = PeerRoom(stranger, localpart="x")
    forgery.room_id, forgery.line, forgery.state = room.room_id, list(room.line), dict(room.state)
    by_stranger = forgery.make(type="m.room.member", content={"membership": "leave"}, state_key=ALICE)
    lpdu = stranger.lpdu(
        room.room_id, hub=room.hub.name, type="m.room.member", content={"membership": "leave"}, state_key=ALICE
    )
    unsigned = room.make(lpdu=lpdu)
    name = room.make(type="m.room.name", content={"membership": "leave"}, state_key=ALICE)
    message = room.make(type="m.room.member", content={"membership": "leave"})
    return {
        "sent by another server": (end.event, stranger.name),
        "without the hub's signature": ({**end.event, "signatures": {}}, room.hub.name),
        "with a wrong signature": (
            {**end.event, "signatures": {room.hub.name: {"ed25519:1": "A" * 86}}},
            room.hub.name,
        ),
        "through another hub": (by_stranger.event, stranger.name),
        "through another hub, sent by ours": (by_stranger.event, room.hub.name),
        "an LPDU": (lpdu.event, room.hub.name),
        "without its sender's signature": (
            {
                **unsigned.event,
                "signatures": {room.hub.name: unsigned.event["signatures"][room.hub.name]},
            },
            room.hub.name,
        ),
        "of another type": (name.event, room.hub.name),
        "no state event": (message.event, room.hub.name),
        "of another user": (
            room.make(type="m.room.member", content={"membership": "leave"}, state_key="@bob:hub.example.org").event,
            room.hub.name,
        ),
        "an unknown membership": (
            room.make(type="m.room.member", content={"membership": ["leave"]}, state_key=ALICE).event,
            room.hub.name,
        ),
    }


NAMES = forged(PeerRoom(Peer("peer.localhost:1")))


@pytest.mark.parametrize("name", NAMES)
def test_row90_nobody_but_the_hub_ends_an_invite(name, room):
    invite = held(room)
    Peer("third.example.org").publish()
    event, origin = forged(room)[name]
    receive_for_pending(origin, check_schema(event))
    assert PendingInvite.objects.get().event_id == invite.event_id


def test_row89_the_end_of_an_invite_comes_by_send(room, tls_peer):
    held(room)
    end = room.member(ALICE, "leave")
    assert tls_peer.send([end.event]).json() == {"failed_pdus": {}}
    assert not PendingInvite.objects.exists()
    assert not Event.objects.exists()


def test_the_end_of_an_invite_counts_too_where_another_user_of_ours_is_in_the_room(room, tls_peer):
    bob = "@bob:hub.example.org"
    held(room, user_id=bob)
    handshakes.join(room_id=room.room_id, user_id=bob)
    invite = held(room)
    end = room.member(ALICE, "leave")
    assert tls_peer.send([invite.event, end.event]).json() == {"failed_pdus": {}}
    assert not PendingInvite.objects.exists()
    assert Event.objects.filter(event_id=end.event_id, verdict="accepted").exists()
