"""Invites by the thousand, and what comes with an invite (threats 61, 72 and 78)."""

import pytest

from federation import handshakes
from federation.errors import MAX_ERROR_LENGTH
from linmatrix.limits import DEFAULTS, Limits
from linmatrix.protocol import canonical_json
from rooms.models import Event, PendingInvite, Room
from rooms.state import current_state
from tests.support.hosted import is_error
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import FEDERATION

pytestmark = pytest.mark.django_db(transaction=True)

BOB = "@bob:hub.example.org"
FEW = Limits(pending_invites=30, pending_invites_per_user=10)


def invite(hub, *, user_id=BOB, localpart="room", state=(), room=None):
    """Send an invite to a room of the peer's; the answer."""
    room = room or PeerRoom(hub, localpart=localpart, join_rule="invite")
    event = room.member(user_id, "invite").event
    body = {"event": event, "invite_room_state": list(state), "room_version": room.version}
    return hub.request("POST", f"{FEDERATION}/v3/invite/{event['hashes']['sha256'][:9].replace('/', '.')}", body)


def waiting(number, *, hub, user_id=None):
    """So many invites that wait for users of ours, each for another user unless one is named."""
    PendingInvite.objects.bulk_create(
        PendingInvite(
            room_id=f"!{index}:{hub}",
            user_id=user_id or f"@{index}:hub.example.org",
            hub_server=hub,
            room_version="I.1",
            event_id="$e",
            json="{}",
            stripped_state="[]",
        )
        for index in range(number)
    )


@pytest.mark.parametrize(("number", "user_id"), [(FEW.pending_invites_per_user, BOB), (FEW.pending_invites, None)])
def test_a_hub_may_have_so_many_invites_wait_and_no_more(number, user_id, peer, tls_peer, settings):
    settings.LIMITS = FEW
    waiting(number - 1, hub=peer.name, user_id=user_id)
    assert invite(peer, localpart="last").status_code == 200
    refused = invite(peer, localpart="more")
    assert is_error(refused, 403, "M_FORBIDDEN")
    assert "Too many invites" in refused.json()["error"]
    assert PendingInvite.objects.count() == number
    tls_peer.publish()
    assert invite(tls_peer).status_code == 200


def test_an_invite_that_takes_the_place_of_another_is_never_one_too_many(peer):
    waiting(DEFAULTS.pending_invites_per_user - 1, hub=peer.name, user_id=BOB)
    room = PeerRoom(peer, localpart="last", join_rule="invite")
    assert invite(peer, room=room).status_code == 200
    room.member(BOB, "leave")
    assert invite(peer, room=room).status_code == 200


def test_of_stripped_state_no_more_is_kept_than_an_event_may_have(peer):
    event = {"type": "m.room.topic", "state_key": "", "sender": "@a:b.c", "content": {"topic": "x" * 30_000}}
    assert invite(peer, state=[event] * 20).status_code == 200
    kept = PendingInvite.objects.get().stripped_state
    assert len(kept) <= DEFAULTS.stripped_state_bytes
    assert canonical_json.loads(kept.encode()) == [event] * 2


def test_stripped_state_is_shown_and_decides_nothing(tls_peer):
    """It says that the room is another server's and of another version; the join goes by what the hub proves."""
    room = PeerRoom(tls_peer, join_rule="invite")
    mallory = "@mallory:evil.example.org"
    state = [
        {"type": "m.room.create", "state_key": "", "sender": mallory, "content": {"room_version": "99"}},
        {"type": "m.room.power_levels", "state_key": "", "sender": mallory, "content": {"users": {mallory: 100}}},
        {"type": "m.room.member", "state_key": BOB, "sender": mallory, "content": {"membership": "ban"}},
    ]
    tls_peer.publish()
    assert invite(tls_peer, room=room, state=state).status_code == 200
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=BOB)
    joined = Room.objects.get()
    assert (joined.hub_server, joined.version) == (tls_peer.name, room.version)
    assert not Event.objects.filter(sender=mallory).exists()
    levels = current_state(room.room_id, [("m.room.power_levels", "")])["m.room.power_levels", ""]
    assert levels.content["users"] == {tls_peer.user("user"): 100}


@pytest.mark.parametrize(
    ("answer", "status", "errcode"),
    [
        ((403, b"<html>" + b"x" * 5_000_000), 502, "M_UNKNOWN"),
        ((403, {"errcode": "M_FORBIDDEN", "error": "<script>" + "x" * 100_000}), 403, "M_FORBIDDEN"),
        ((403, {"errcode": "M_" + "X" * 1000, "error": "no"}), 502, "M_UNKNOWN"),
        ((403, {"errcode": ["M_FORBIDDEN"], "error": "no"}), 502, "M_UNKNOWN"),
        ((403, {"errcode": "M_FORBIDDEN", "error": {"secret": "s"}, "soft_logout": True}), 403, "M_FORBIDDEN"),
        ((302, {"errcode": "M_FORBIDDEN", "error": "elsewhere"}), 502, "M_UNKNOWN"),
    ],
    ids=["a large page", "a long sentence", "a long code", "a code that is a list", "more members", "a redirect"],
)
def test_a_refusal_is_passed_on_without_what_the_invited_server_put_around_it(
    answer, status, errcode, tls_peer, peer, joined
):
    tls_peer.endpoints["POST", "invite"] = lambda _request: answer
    target = tls_peer.user("user")
    lpdu = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "invite"}, state_key=target)
    response = peer.request("POST", f"{FEDERATION}/v3/invite/x", {"event": lpdu.event, "room_version": joined.version})
    assert is_error(response, status, errcode)
    assert set(response.json()) == {"errcode", "error"}
    assert isinstance(response.json()["error"], str)
    assert "secret" not in response.json()["error"]
    assert len(response.json()["error"]) <= MAX_ERROR_LENGTH
    assert response["Content-Type"] == "application/json"
    assert response["X-Content-Type-Options"] == "nosniff"
