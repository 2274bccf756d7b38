"""Servers that a room keeps out: refused on every endpoint that is about the room (decision 109)."""

import itertools

import pytest

from rooms.models import Event
from tests.support.hosted import is_error, send_join, snapshot
from tests.support.peers import FEDERATION, Peer
from tests.support.reading import append_state, last_event

pytestmark = pytest.mark.django_db(transaction=True)

DENIED = {"allow": ["*"], "deny": ["part.example.org"]}
LET_IN = {"allow": ["*"], "deny": ["other.example.org"]}

TXN_IDS = itertools.count()


def set_acl(room, content):
    append_state(room, "m.room.server_acl", content)


def member(peer, room, membership):
    return peer.lpdu(
        room.room_id, type="m.room.member", content={"membership": membership}, state_key=peer.user("user")
    ).event


def requests(peer, room):
    """Every endpoint that is about a room, by name: what a server asks and how."""
    room_id, user = room.room_id, peer.user("user")
    event_id = Event.objects.get(room=room, position=3).event_id
    invite = peer.lpdu(
        room_id, type="m.room.member", content={"membership": "invite"}, state_key="@new:hub.example.org"
    ).event
    version = f"ver={room.version}"
    at = f"event_id={event_id}"

    def post(endpoint, content):
        return peer.request("POST", f"{FEDERATION}/v3/{endpoint}/{next(TXN_IDS)}", content)

    return {
        "make_join": lambda: peer.get("make_join", room_id, user, version="v1", query=version),
        "make_leave": lambda: peer.get("make_leave", room_id, user, version="v1"),
        "make_knock": lambda: peer.get("make_knock", room_id, user, version="v1", query=version),
        "send_join": lambda: post("send_join", member(peer, room, "join")),
        "send_leave": lambda: post("send_leave", member(peer, room, "leave")),
        "send_knock": lambda: post("send_knock", member(peer, room, "knock")),
        "invite": lambda: post("invite", {"event": invite, "room_version": room.version}),
        "event": lambda: peer.get("event", event_id),
        "backfill": lambda: peer.get("backfill", room_id, query=f"v={event_id}&limit=1"),
        "state": lambda: peer.get("state", room_id, version="v1", query=at),
        "state_ids": lambda: peer.get("state_ids", room_id, version="v1", query=at),
    }


ENDPOINTS = (
    "make_join", "make_leave", "make_knock", "send_join", "send_leave", "send_knock", "invite",
    "event", "backfill", "state", "state_ids",
)  # fmt: skip
READING = ("event", "backfill", "state", "state_ids")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_row75_a_server_that_the_room_keeps_out_is_refused(endpoint, peer, joined):
    set_acl(joined, DENIED)
    before = snapshot(joined.room_id)
    answer = requests(peer, joined)[endpoint]()
    assert is_error(answer, 403, "M_FORBIDDEN")
    assert "ACL" in answer.json()["error"]
    assert snapshot(joined.room_id) == before
    # Its twin, which differs in the name that is denied.
    set_acl(joined, LET_IN)
    answer = requests(peer, joined)[endpoint]()
    assert "ACL" not in answer.content.decode()
    if endpoint in READING:
        assert answer.status_code == 200


def test_only_the_acl_with_the_empty_state_key_counts(peer, joined):
    append_state(joined, "m.room.server_acl", DENIED, state_key="other")
    assert peer.send([peer.lpdu(joined.room_id).event]).json() == {"failed_pdus": {}}


def test_a_server_that_has_nothing_to_do_with_the_room_is_not_told_of_its_acl_by_an_event_id(joined):
    outsider = Peer("outside.example.org").publish()
    set_acl(joined, {"allow": ["hub.example.org"]})
    assert is_error(outsider.get("event", last_event(joined).event_id), 404, "M_NOT_FOUND")


def test_the_port_of_a_server_does_not_get_it_in(hosted):
    other_port = Peer("part.example.org:8449").publish()
    set_acl(hosted, DENIED)
    assert is_error(send_join(other_port, other_port.join(hosted.room_id)), 403, "M_FORBIDDEN")
