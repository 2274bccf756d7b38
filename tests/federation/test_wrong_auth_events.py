"""Events of a hub whose auth events are not those of the room's state: refused, and the state stays (decision 42)."""

import pytest

from federation import handshakes
from rooms.models import Event, StateEntry
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


@pytest.fixture
def room(tls_peer):
    """A room on the peer that alice has joined."""
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    return room


def state_of(room):
    current = StateEntry.objects.filter(room_id=room.room_id, replaced_at__isnull=True)
    return sorted(current.values_list("type", "state_key", "event_id"))


def verdict_of(pdu):
    return Event.objects.values_list("verdict", "reason").get(event_id=pdu.event_id)


def test_row31_an_event_that_rests_on_events_of_another_room_does_not_change_the_state(tls_peer, room):
    other = PeerRoom(tls_peer, localpart="other")
    handshakes_before = dict(tls_peer.endpoints)
    tls_peer.host(other)
    handshakes.join(room_id=other.room_id, user_id=ALICE)
    tls_peer.endpoints.update(handshakes_before)
    foreign = [other.line[0].event_id, other.line[2].event_id, other.line[1].event_id]
    before = state_of(room)
    name = room.make(type="m.room.name", content={"name": "taken over"}, state_key="", auth_events=foreign)
    tls_peer.send([room.put(name).event])
    assert verdict_of(name)[0] == "rejected"
    assert verdict_of(name)[1].startswith("rule 4.room")
    assert state_of(room) == before


def test_row59_leaving_the_power_levels_out_of_the_auth_events_gives_nobody_power(tls_peer, room):
    third = Peer("third.example.org").publish()
    joined = room.add(lpdu=third.join(room.room_id, hub=tls_peer.name))
    tls_peer.send([joined.event])
    before = state_of(room)
    lpdu = third.lpdu(
        room.room_id,
        hub=tls_peer.name,
        type="m.room.power_levels",
        content={"users": {third.user("user"): 100}},
        state_key="",
    )
    levels = room.make(lpdu=lpdu, auth_events=[room.line[0].event_id, joined.event_id])
    tls_peer.send([room.put(levels).event])
    assert verdict_of(levels)[0] == "rejected"
    assert state_of(room) == before
