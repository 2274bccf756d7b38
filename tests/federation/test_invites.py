"""Invites: as the hub, which asks the invited server first, and as that server."""

import pytest

from federation import handshakes
from federation.errors import ApiError
from linmatrix.protocol import canonical_json, receipt
from linmatrix.protocol.completion import add_signature
from linmatrix.protocol.events import check_schema
from rooms.models import Event, PendingInvite
from tests.support.hosted import CREATOR, is_error, keys_of, membership, send_join, snapshot
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)


def accepting(tls_peer, *senders):
    """Make the peer sign the invites that it gets, also those that users of `senders` sent."""

    def invite(request):
        event = request.content["event"]
        pdu = receipt.receive_pdu(check_schema(event), hub="hub.example.org", keys=keys_of(*senders))
        return 200, {"pdu": add_signature(pdu, server=tls_peer.name, key=tls_peer.key).event}

    tls_peer.endpoints["POST", "invite"] = invite


def test_an_invite_is_signed_by_the_invited_server_before_it_is_appended(tls_peer, private):
    accepting(tls_peer)
    user = tls_peer.user("user")
    handshakes.invite(room_id=private.room_id, sender=CREATOR, user_id=user)
    (request,) = [request for request in tls_peer.requests if request.parts[0] == "invite"]
    assert request.content["room_version"] == private.version
    assert {event["type"] for event in request.content["invite_room_state"]} == {
        "m.room.create",
        "m.room.join_rules",
        "m.room.name",
    }
    assert all(
        set(event) == {"type", "state_key", "sender", "content"} for event in request.content["invite_room_state"]
    )
    stored = Event.objects.get(room=private, type="m.room.member", state_key=user)
    assert set(canonical_json.loads(stored.json.encode())["signatures"]) == {"hub.example.org", tls_peer.name}
    assert send_join(tls_peer, tls_peer.join(private.room_id)).status_code == 200


@pytest.mark.parametrize(
    ("answer", "status", "errcode"),
    [
        ((403, {"errcode": "M_FORBIDDEN", "error": "No invites.", "secret": "x"}), 403, "M_FORBIDDEN"),
        ((400, {"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "room_version": "1"}), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        ((500, {"errcode": "M_UNKNOWN"}), 502, "M_UNKNOWN"),
        ((404, b"<html>"), 502, "M_UNKNOWN"),
        ((200, b"garbage"), 502, "M_UNKNOWN"),
        ((200, {"pdu": {}}), 502, "M_UNKNOWN"),
        ((200, {}), 502, "M_UNKNOWN"),
    ],
)
def test_a_refusal_by_the_invited_server_is_passed_on_and_nothing_is_appended(
    answer, status, errcode, tls_peer, private
):
    tls_peer.endpoints["POST", "invite"] = lambda _request: answer
    before = snapshot(private.room_id)
    with pytest.raises(ApiError) as raised:
        handshakes.invite(room_id=private.room_id, sender=CREATOR, user_id=tls_peer.user("user"))
    assert (raised.value.status, raised.value.errcode) == (status, errcode)
    assert "secret" not in raised.value.extra
    assert snapshot(private.room_id) == before


@pytest.mark.parametrize("changes", [1, 3], ids=["once", "until it is asked with the room locked"])
def test_an_invite_starts_again_when_the_room_went_on_meanwhile(changes, tls_peer, private):
    accepting(tls_peer)
    answer = tls_peer.endpoints["POST", "invite"]
    calls = []

    def invite(request):
        calls.append(request.content["event"]["prev_events"])
        if len(calls) <= changes:
            membership(private, f"@user{len(calls)}:hub.example.org", "invite")
        return answer(request)

    tls_peer.endpoints["POST", "invite"] = invite
    handshakes.invite(room_id=private.room_id, sender=CREATOR, user_id=tls_peer.user("user"))
    assert len(calls) == changes + 1
    assert len(set(map(tuple, calls))) == len(calls)
    assert Event.objects.filter(room=private, state_key=tls_peer.user("user")).count() == 1
    positions = Event.objects.filter(room=private).order_by("position").values_list("position", flat=True)
    assert list(positions) == list(range(1, len(positions) + 1))


@pytest.mark.parametrize("endpoint", ["invite", "send"])
def test_a_participant_invites_a_user_of_a_third_server_through_the_hub(endpoint, tls_peer, peer, private):
    accepting(tls_peer, peer)
    membership(private, peer.user("user"), "invite")
    assert send_join(peer, peer.join(private.room_id)).status_code == 200
    target = tls_peer.user("user")
    lpdu = peer.lpdu(private.room_id, type="m.room.member", content={"membership": "invite"}, state_key=target)
    if endpoint == "send":
        assert peer.send([lpdu.event, peer.lpdu(private.room_id).event]).json() == {"failed_pdus": {}}
    else:
        body = {"event": lpdu.event, "room_version": private.version}
        answer = peer.request("POST", "/_matrix/federation/v3/invite/x", body).json()
        assert answer["pdu"] == answer["event"]
        assert set(answer["pdu"]["signatures"]) == {peer.name, "hub.example.org", tls_peer.name}
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).count() == 1


def test_an_invite_that_came_by_another_way_meanwhile_is_appended_once(tls_peer, peer, private):
    accepting(tls_peer, peer)
    membership(private, peer.user("user"), "invite")
    assert send_join(peer, peer.join(private.room_id)).status_code == 200
    target = tls_peer.user("user")
    lpdu = peer.lpdu(private.room_id, type="m.room.member", content={"membership": "invite"}, state_key=target)
    answer, ways = tls_peer.endpoints["POST", "invite"], []

    def invite(request):
        ways.append(request)
        if len(ways) == 1:
            assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
        return answer(request)

    tls_peer.endpoints["POST", "invite"] = invite
    body = {"event": lpdu.event, "room_version": private.version}
    assert peer.request("POST", "/_matrix/federation/v3/invite/x", body).status_code == 200
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).count() == 1


def invited(hub_room, user_id):
    return {
        "event": hub_room.member(user_id, "invite").event,
        "invite_room_state": [],
        "room_version": hub_room.version,
    }


def test_an_invite_for_a_user_of_ours_is_kept_and_signed(peer):
    room = PeerRoom(peer, join_rule="invite")
    body = invited(room, "@bob:hub.example.org")
    body["invite_room_state"] = [
        {"type": "m.room.name", "state_key": "", "sender": "@a:b.c", "content": {"name": "N"}, "extra": 1},
        "junk",
        {"type": "m.room.topic"},
    ]
    answer = peer.request("POST", "/_matrix/federation/v3/invite/i", body).json()
    assert set(answer["pdu"]["signatures"]) == {peer.name, "hub.example.org"}
    stored = PendingInvite.objects.get()
    assert (stored.user_id, stored.hub_server, stored.event_id) == (
        "@bob:hub.example.org",
        peer.name,
        room.line[-1].event_id,
    )
    assert canonical_json.loads(stored.stripped_state.encode()) == [
        {"type": "m.room.name", "state_key": "", "sender": "@a:b.c", "content": {"name": "N"}}
    ]


def wrong_invites(peer):
    """Invites that we must not sign, with the answer to each."""
    bob = "@bob:hub.example.org"
    good = invited(PeerRoom(peer), bob)
    signatures = {peer.name: {"ed25519:1": "A" * 86}}
    return {
        "an unknown room version": ({**good, "room_version": "1"}, 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        "no room version": ({"event": good["event"]}, 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        "stripped state that is a string": ({**good, "invite_room_state": "x"}, 400, "M_BAD_JSON"),
        "no event": ({"room_version": good["room_version"]}, 400, "M_BAD_JSON"),
        "an event that is a list": ({**good, "event": []}, 400, "M_BAD_JSON"),
        "a wrong signature": ({**good, "event": {**good["event"], "signatures": signatures}}, 403, "M_FORBIDDEN"),
        "a join": ({**good, "event": PeerRoom(peer).member(bob, "join").event}, 400, "M_INVALID_PARAM"),
        "a user of another server": (invited(PeerRoom(peer), "@bob:third.example.org"), 403, "M_FORBIDDEN"),
        "another hub's event": (invited(PeerRoom(Peer("third.example.org")), bob), 403, "M_FORBIDDEN"),
    }


@pytest.mark.parametrize("name", wrong_invites(Peer("part.example.org")))
def test_a_wrong_invite_is_refused_and_not_kept(name, peer):
    body, status, errcode = wrong_invites(peer)[name]
    response = peer.request("POST", "/_matrix/federation/v3/invite/i", body)
    assert is_error(response, status, errcode), response.content
    assert not PendingInvite.objects.exists()
