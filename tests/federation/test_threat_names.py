"""Server-side request forgery: no name that a peer brings makes us connect to an address inside (threats 1, 2, 75).

A listener on loopback stands for whatever is there. Each way by which a name comes in is taken twice: with private
addresses allowed, which shows that the way leads to a connection at all, and without. `.localhost` needs no name
server. What names of `.well-known`, redirects and SRV records lead to, `tests/transport` shows.
"""

import socket
import threading
from contextlib import suppress

import pytest
from django.utils import timezone

from federation import handshakes, withdrawals
from federation.client import client_of, federation_client
from federation.delivery import deliver, over_http
from federation.errors import ApiError
from federation.make_and_send import HandshakeFailed
from federation.models import PendingLeave
from keys.http import http_client
from keys.keyring import keyring
from rooms import pending
from rooms.models import PendingInvite
from tests.support.hosted import CREATOR
from tests.support.lines import append, make_room
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import FEDERATION, Peer

pytestmark = pytest.mark.django_db(transaction=True)

OURS = "@bob:hub.example.org"


class Canary:
    """Listens on loopback, counts connections, and closes them at once."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.name = f"canary.localhost:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                connection.close()


def forget_clients():
    for made in (http_client, client_of, keyring):
        made.cache_clear()


@pytest.fixture
def canary():
    with Canary() as listener:
        yield listener
    forget_clients()


def the_origin_of_a_request(name, **_fixtures):
    Peer(name).send([])


def an_invite_through(hub, room, sender):
    room.add(lpdu=sender.join(room.room_id, hub=hub.name))
    content = {"membership": "invite"}
    return room.add(
        lpdu=sender.lpdu(room.room_id, hub=hub.name, type="m.room.member", content=content, state_key=OURS)
    ).event


def the_sender_of_an_event(name, *, peer, **_fixtures):
    room = PeerRoom(peer)
    event = an_invite_through(peer, room, Peer(name))
    peer.request("POST", f"{FEDERATION}/v3/invite/i", {"event": event, "room_version": room.version})


def the_hub_of_an_event(name, *, peer, **_fixtures):
    hub = Peer(name)
    room = PeerRoom(hub)
    event = an_invite_through(hub, room, peer)
    peer.request("POST", f"{FEDERATION}/v3/invite/i", {"event": event, "room_version": room.version})


def a_query_for_its_keys(name, *, peer, **_fixtures):
    peer.request("GET", f"/_matrix/key/v2/query/{name}")


def a_query_for_the_keys_of_many(name, *, peer, **_fixtures):
    peer.request("POST", "/_matrix/key/v2/query", {"server_keys": {name: {}}})


def the_server_of_an_invited_user(name, *, peer, joined, **_fixtures):
    target = Peer(name).user("user")
    lpdu = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "invite"}, state_key=target)
    peer.request("POST", f"{FEDERATION}/v3/invite/x", {"event": lpdu.event, "room_version": joined.version})


def the_server_of_a_user_whom_we_invite(name, *, joined, **_fixtures):
    with suppress(ApiError):
        handshakes.invite(room_id=joined.room_id, sender=CREATOR, user_id=Peer(name).user("user"))


def the_name_in_a_room_id(name, **_fixtures):
    with suppress(HandshakeFailed):
        handshakes.join(room_id=f"!room:{name}", user_id=OURS)


def a_server_to_join_through(name, **_fixtures):
    with suppress(HandshakeFailed):
        handshakes.join(room_id="!room:nowhere.invalid", user_id=OURS, via=name)


def invited_by(name, room_id):
    event = {"room_id": room_id, "state_key": OURS, "sender": Peer(name).user("u"), "content": {"membership": "invite"}}
    pending.keep(event, event_id="$e", hub=name, version="I.1", shown=[])


def the_hub_of_an_invite(name, **_fixtures):
    invited_by(name, "!room:nowhere.invalid")
    with suppress(HandshakeFailed):
        handshakes.join(room_id="!room:nowhere.invalid", user_id=OURS)


def the_hub_of_an_invite_that_is_refused(name, **_fixtures):
    invited_by(name, "!room:nowhere.invalid")
    withdrawals.withdraw(PendingInvite.objects.get(), reason="", now=timezone.now())
    withdrawals.attempt(PendingLeave.objects.get().pk)


def a_hint_to_the_hub(name, *, tls_peer, **_fixtures):
    tls_peer.endpoints["GET", "make_join"] = lambda _request: (
        400,
        {"errcode": "M_WRONG_SERVER", "hub_server": name},
    )
    with suppress(HandshakeFailed):
        handshakes.join(room_id="!room:nowhere.invalid", user_id=OURS, via=tls_peer.name)
    assert tls_peer.requests


def a_member_of_a_room(name, **_fixtures):
    append(make_room("room", name), "hello")
    deliver(name, send=over_http(federation_client()))


WAYS = [
    the_origin_of_a_request,
    the_sender_of_an_event,
    the_hub_of_an_event,
    a_query_for_its_keys,
    a_query_for_the_keys_of_many,
    the_server_of_an_invited_user,
    the_server_of_a_user_whom_we_invite,
    the_name_in_a_room_id,
    a_server_to_join_through,
    the_hub_of_an_invite,
    the_hub_of_an_invite_that_is_refused,
    a_hint_to_the_hub,
    a_member_of_a_room,
]


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not allowed"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_name_leads_inside_unless_that_is_allowed(way, allowed, canary, peer, joined, tls_peer, settings):
    settings.ALLOW_PRIVATE_ADDRESSES = allowed
    # Where the operator says that it is, a peer may be asked in any case.
    settings.SERVER_OVERRIDES = {tls_peer.name: f"https://127.0.0.1:{tls_peer.name.partition(':')[2]}"}
    forget_clients()
    way(canary.name, peer=peer, joined=joined, tls_peer=tls_peer)
    assert bool(canary.connections) is allowed
