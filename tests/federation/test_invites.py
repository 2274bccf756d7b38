"""Invites: as the hub, which asks the invited server first, and as that server."""

import pytest
from django.utils import timezone

from federation import handshakes
from federation.errors import ApiError
from linmatrix.protocol import canonical_json, receipt
from linmatrix.protocol.completion import add_signature
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.hashes import event_id
from rooms.creation import create_room
from rooms.models import Event, LocalUser, PendingInvite, Room
from rooms.state import members
from tests.support.hosted import CREATOR, is_error, keys_of, membership, send_join, snapshot
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer
from tests.support.tls_peer import lpdu_of_request

pytestmark = pytest.mark.django_db(transaction=True)


def accepting(tls_peer, *senders):
    """Make the peer sign the invites that it gets, also those that users of `senders` sent."""

    def invite(request):
        event = request.content["event"]
        pdu = receipt.receive_pdu(check_schema(event), hub="hub.example.org", keys=keys_of(*senders))
        return 200, {"pdu": add_signature(pdu, server=tls_peer.name, key=tls_peer.key).event}

    tls_peer.endpoints["POST", "invite"] = invite


def test_row42_an_invite_is_signed_by_the_invited_server_before_it_is_appended(tls_peer, private):
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
        ((400, {"errcode": "M_UNSUPPORTED_ROOM_VERSION"}), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        ((429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 5}), 429, "M_LIMIT_EXCEEDED"),
        ((500, {"errcode": "M_UNKNOWN"}), 502, "M_UNKNOWN"),
        ((404, b"<html>"), 502, "M_UNKNOWN"),
        ((200, b"garbage"), 502, "M_UNKNOWN"),
        ((200, {"pdu": {}}), 502, "M_UNKNOWN"),
        ((200, {}), 502, "M_UNKNOWN"),
    ],
)
def test_row49_a_refusal_by_the_invited_server_is_passed_on_and_nothing_is_appended(
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


def test_row43_row87_an_invite_for_a_user_of_ours_is_kept_and_signed(peer):
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


def through(peer, *, without=""):
    """An invite of Bob by a user of a third server, through the peer's hub, one signature left out."""
    room, sender = PeerRoom(peer), Peer("sender.example.org")
    room.add(lpdu=sender.join(room.room_id, hub=peer.name))
    lpdu = sender.lpdu(
        room.room_id,
        hub=peer.name,
        type="m.room.member",
        content={"membership": "invite"},
        state_key="@bob:hub.example.org",
    )
    event = room.add(lpdu=lpdu).event
    missing = {"sender": sender.name, "hub": peer.name, "": ""}[without]
    signatures = {server: by_key for server, by_key in event["signatures"].items() if server != missing}
    return {"event": {**event, "signatures": signatures}, "room_version": room.version}


def test_row45_an_invite_by_a_participants_user_bears_both_signatures(peer):
    Peer("sender.example.org").publish()
    assert peer.request("POST", "/_matrix/federation/v3/invite/i", through(peer)).status_code == 200
    PendingInvite.objects.all().delete()
    for without in ("sender", "hub"):
        body = through(peer, without=without)
        response = peer.request("POST", f"/_matrix/federation/v3/invite/{without}", body)
        assert is_error(response, 403, "M_FORBIDDEN")
    assert not PendingInvite.objects.exists()


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
        "a room version that is a list": ({**good, "room_version": ["I.1"]}, 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        "no LPDU signature": (through(peer, without="sender"), 403, "M_FORBIDDEN"),
        "no hub signature": (through(peer, without="hub"), 403, "M_FORBIDDEN"),
        "no signature": ({**good, "event": {**good["event"], "signatures": {}}}, 403, "M_FORBIDDEN"),
        "a wrong signature": ({**good, "event": {**good["event"], "signatures": signatures}}, 403, "M_FORBIDDEN"),
        "a join": ({**good, "event": PeerRoom(peer).member(bob, "join").event}, 400, "M_INVALID_PARAM"),
        "a user of another server": (invited(PeerRoom(peer), "@bob:third.example.org"), 403, "M_FORBIDDEN"),
        "another hub's event": (invited(PeerRoom(Peer("third.example.org")), bob), 403, "M_FORBIDDEN"),
    }


@pytest.mark.parametrize("name", wrong_invites(Peer("part.example.org")))
def test_row45_row49_a_wrong_invite_is_refused_and_not_kept(name, peer):
    body, status, errcode = wrong_invites(peer)[name]
    response = peer.request("POST", "/_matrix/federation/v3/invite/i", body)
    assert is_error(response, status, errcode), response.content
    assert not PendingInvite.objects.exists()


@pytest.mark.parametrize(("hub", "role"), [("third.example.org", "participant"), ("hub.example.org", "hub")])
def test_an_invite_to_a_room_that_has_another_hub_is_refused(hub, role, peer):
    body = invited(PeerRoom(peer), "@bob:hub.example.org")
    room = Room.objects.create(
        room_id=body["event"]["room_id"], version=body["room_version"], role=role, hub_server=hub
    )
    response = peer.request("POST", "/_matrix/federation/v3/invite/i", body)
    assert is_error(response, 403, "M_FORBIDDEN")
    assert not PendingInvite.objects.exists()
    Room.objects.filter(pk=room.pk).update(hub_server=peer.name, role="participant")
    assert peer.request("POST", "/_matrix/federation/v3/invite/j", body).status_code == 200


def test_an_invite_to_a_blocked_room_is_refused(peer):
    body = invited(PeerRoom(peer), "@bob:hub.example.org")
    Room.objects.create(
        room_id=body["event"]["room_id"],
        version=body["room_version"],
        role="participant",
        hub_server=peer.name,
        blocked=True,
    )
    assert is_error(peer.request("POST", "/_matrix/federation/v3/invite/i", body), 403, "M_FORBIDDEN")
    assert not PendingInvite.objects.exists()


@pytest.mark.parametrize(("federate", "taken"), [(True, True), (False, False)])
def test_row105_nobody_of_another_server_is_invited_to_a_room_that_is_closed_to_them(federate, taken, tls_peer):
    accepting(tls_peer)
    room = create_room(creator=CREATOR, now=timezone.now(), federate=federate)
    before = snapshot(room.room_id)
    if taken:
        handshakes.invite(room_id=room.room_id, sender=CREATOR, user_id=tls_peer.user("user"))
        return
    with pytest.raises(Rejected, match=r"rule 4\.federate"):
        handshakes.invite(room_id=room.room_id, sender=CREATOR, user_id=tls_peer.user("user"))
    assert snapshot(room.room_id) == before
    assert tls_peer.requests == []
    handshakes.invite(room_id=room.room_id, sender=CREATOR, user_id="@bob:hub.example.org")


def test_row88_a_user_of_a_server_in_the_room_is_invited_without_asking_it(tls_peer, hosted):
    assert send_join(tls_peer, tls_peer.join(hosted.room_id)).status_code == 200
    other = tls_peer.user("other")
    handshakes.invite(room_id=hosted.room_id, sender=CREATOR, user_id=other)
    assert "invite" not in {request.parts[0] for request in tls_peer.requests}
    assert members(hosted.room_id)[other] == "invite"


@pytest.mark.parametrize("answer", ["join", "leave"])
def test_row88_an_invite_within_the_room_is_answered_by_send(answer, peer, joined):
    user = peer.user("other")
    membership(joined, user, "invite")
    lpdu = peer.lpdu(
        joined.room_id, localpart="other", type="m.room.member", content={"membership": answer}, state_key=user
    )
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    assert members(joined.room_id)[user] == answer


@pytest.mark.parametrize("way", ["invite", "send", "a user of ours"])
def test_a_user_of_ours_who_does_not_exist_is_not_invited(way, peer, joined, settings):
    settings.OPEN_LOCALPARTS = False
    nobody = "@nobody:hub.example.org"
    lpdu = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "invite"}, state_key=nobody)
    before = snapshot(joined.room_id)
    if way == "invite":
        body = {"event": lpdu.event, "room_version": joined.version}
        assert is_error(peer.request("POST", "/_matrix/federation/v3/invite/x", body), 403, "M_FORBIDDEN")
    elif way == "send":
        assert "does not exist" in peer.send([lpdu.event]).json()["failed_pdus"][lpdu.lpdu_id]["error"]
    else:
        LocalUser.objects.create(localpart="creator")
        with pytest.raises(ApiError, match="does not exist"):
            handshakes.invite(room_id=joined.room_id, sender=CREATOR, user_id=nobody)
    assert snapshot(joined.room_id) == before
    LocalUser.objects.create(localpart="nobody")
    again = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "invite"}, state_key=nobody)
    assert peer.send([again.event]).json() == {"failed_pdus": {}}
    assert members(joined.room_id)[nobody] == "invite"


WRONG_REQUESTS = {
    "a message": ({"type": "m.room.message"}, 400, "M_INVALID_PARAM"),
    "a kick": ({"content": {"membership": "leave"}}, 400, "M_INVALID_PARAM"),
    "no state key": ({"state_key": None}, 400, "M_INVALID_PARAM"),
    "a state key that is no user": ({"state_key": "bob"}, 400, "M_INVALID_PARAM"),
    "somebody who is in the room": ({"state_key": CREATOR}, 403, "M_FORBIDDEN"),
    "a sender who is not in the room": ({"localpart": "stranger"}, 403, "M_FORBIDDEN"),
    "another hub": ({"hub": "third.example.org"}, 400, "M_WRONG_SERVER"),
}


@pytest.mark.parametrize("name", WRONG_REQUESTS)
def test_a_participants_request_that_the_room_does_not_allow_asks_nobody(name, tls_peer, peer, joined):
    change, status, errcode = WRONG_REQUESTS[name]
    fields = {"type": "m.room.member", "content": {"membership": "invite"}, "state_key": tls_peer.user("user")}
    lpdu = peer.lpdu(joined.room_id, **(fields | change))
    before = snapshot(joined.room_id)
    body = {"event": lpdu.event, "room_version": joined.version}
    response = peer.request("POST", "/_matrix/federation/v3/invite/x", body)
    assert is_error(response, status, errcode), response.content
    assert snapshot(joined.room_id) == before
    assert tls_peer.requests == []


def test_a_participants_invite_gets_the_third_servers_refusal(tls_peer, peer, joined):
    refusal = {"errcode": "M_FORBIDDEN", "error": "No invites.", "retry_after_ms": 7, "more": "x"}
    tls_peer.endpoints["POST", "invite"] = lambda _request: (403, refusal)
    lpdu = peer.lpdu(
        joined.room_id, type="m.room.member", content={"membership": "invite"}, state_key=tls_peer.user("user")
    )
    body = {"event": lpdu.event, "room_version": joined.version}
    response = peer.request("POST", "/_matrix/federation/v3/invite/x", body)
    assert response.status_code == 403
    assert response.json() == {"errcode": "M_FORBIDDEN", "error": "No invites.", "retry_after_ms": 7}


def test_as_participant_we_ask_the_hub_to_invite_from_elsewhere(tls_peer):
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id="@alice:hub.example.org")
    invites = []

    def invite(request):
        invites.append(request.content)
        return 200, {"pdu": room.add(lpdu=lpdu_of_request(request.content["event"])).event}

    tls_peer.endpoints["POST", "invite"] = invite
    user = "@user:third.example.org"
    sent = handshakes.invite(room_id=room.room_id, sender="@alice:hub.example.org", user_id=user)
    (body,) = invites
    assert (body["room_version"], body["event"]["state_key"]) == (room.version, user)
    assert event_id(body["event"]) == sent.lpdu_id
    tls_peer.send([room.line[-1].event])
    assert members(room.room_id)[user] == "invite"
    tls_peer.endpoints["POST", "invite"] = lambda _request: (403, {"errcode": "M_FORBIDDEN", "error": "Not them."})
    with pytest.raises(handshakes.HandshakeFailed, match="Not them"):
        handshakes.invite(room_id=room.room_id, sender="@alice:hub.example.org", user_id="@other:third.example.org")
