"""What requests are about."""

import pytest
from django.utils import timezone

from federation import handshakes
from rooms.creation import create_room
from rooms.models import Event
from tests.fuzz.attempts import World
from tests.support.hosted import CREATOR
from tests.support.peer_rooms import PeerRoom


@pytest.fixture
def world(tls_peer, hosted):
    """A room that we host and the peer is in, one at which it may knock, and one of the peer's that our alice is in."""
    knocking = create_room(creator=CREATOR, now=timezone.now(), join_rule="knock")
    foreign = PeerRoom(tls_peer)
    tls_peer.host(foreign)
    tls_peer.endpoints["GET", "backfill"] = lambda _request: (404, {"errcode": "M_NOT_FOUND", "error": "Unknown."})
    handshakes.join(room_id=foreign.room_id, user_id="@alice:hub.example.org")
    known = Event.objects.values_list("event_id", flat=True)
    return World(tls_peer, [hosted.room_id, knocking.room_id], foreign, sorted(known))
