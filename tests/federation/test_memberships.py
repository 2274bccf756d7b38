"""make and send, and invites, as the hub: who is let in, and what others are told."""

import pytest
from django.utils import timezone

from federation.models import Destination
from federation.sending import send_event
from federation.wire_profile import profiles
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json, receipt
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from rooms.creation import create_room
from rooms.models import Event, Room, RoomServer
from tests.support.hosted import CREATOR, is_error, keys_of, membership, send_join, snapshot
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)

VERSIONS = f"ver=I.1&ver={UNSTABLE_PREFIX}"


def make_join(peer, room_id, user_id, query=VERSIONS):
    return peer.get("make_join", room_id, user_id, version="v1", query=query)


def test_row12_a_template_has_both_forms(peer, hosted):
    answer = make_join(peer, hosted.room_id, peer.user("user")).json()
    template = {
        "type": "m.room.member",
        "sender": peer.user("user"),
        "state_key": peer.user("user"),
        "content": {"membership": "join"},
        "room_id": hosted.room_id,
        "hub_server": "hub.example.org",
    }
    assert template.items() <= answer.items()
    assert template.items() <= answer["event"].items()
    assert answer["room_version"] == UNSTABLE_PREFIX


def test_row12_row21_a_join_answers_with_the_state_before_it_its_auth_chain_and_the_event(peer, hosted):
    lpdu = peer.join(hosted.room_id)
    answer = send_join(peer, lpdu).json()
    keys = keys_of(peer)
    checked = {
        name: [receipt.receive_pdu(check_schema(event), hub="hub.example.org", keys=keys) for event in events]
        for name, events in (("state", answer["state"]), ("chain", answer["auth_chain"]), ("event", [answer["event"]]))
    }
    assert checked["event"][0].lpdu_id == lpdu.lpdu_id
    stored = Event.objects.filter(room=hosted, state_key__isnull=False).order_by("position")
    *before, _join = stored.values_list("event_id", flat=True)
    assert [pdu.event_id for pdu in checked["state"]] == before
    referred = {event_id for pdu in checked["state"] for event_id in pdu.event["auth_events"]}
    assert {pdu.event_id for pdu in checked["chain"]} == referred
    assert RoomServer.objects.get(room=hosted, server=peer.name).joined_users == 1


def test_a_join_sent_again_gets_the_same_answer_and_one_event(peer, hosted):
    lpdu = peer.join(hosted.room_id)
    first, again = send_join(peer, lpdu), send_join(peer, lpdu)
    other_txn = send_join(peer, lpdu, "other")
    assert first.content == again.content == other_txn.content
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).count() == 1


@pytest.mark.parametrize(
    ("query", "status", "errcode"),
    [
        (VERSIONS, 200, None),
        ("ver=1&ver=10", 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        ("", 400, "M_INCOMPATIBLE_ROOM_VERSION"),
    ],
)
def test_row18_row19_the_callers_room_versions_decide(query, status, errcode, peer, hosted):
    response = make_join(peer, hosted.room_id, peer.user("user"), query)
    assert response.status_code == status
    if errcode:
        assert is_error(response, status, errcode)
        assert response.json()["room_version"] == hosted.version


def test_row13_templates_are_for_the_callers_own_users(peer, hosted):
    assert is_error(make_join(peer, hosted.room_id, "@user:other.example.org"), 403, "M_FORBIDDEN")
    assert is_error(make_join(peer, hosted.room_id, "@UPPER:part.example.org"), 400, "M_INVALID_PARAM")
    assert is_error(make_join(peer, "not a room", peer.user("user")), 400, "M_INVALID_PARAM")


def test_an_unknown_room_is_not_found_and_one_of_another_hub_the_wrong_server(peer, hosted):
    assert is_error(make_join(peer, "!none:hub.example.org", peer.user("user")), 404, "M_NOT_FOUND")
    Room.objects.filter(pk=hosted.pk).update(role="participant", hub_server="third.example.org")
    response = make_join(peer, hosted.room_id, peer.user("user"))
    assert is_error(response, 400, "M_WRONG_SERVER")
    assert response.json()["hub_server"] == "third.example.org"


def test_row14_a_room_that_everybody_left_cannot_be_joined(peer, hosted):
    membership(hosted, CREATOR, "leave")
    assert is_error(make_join(peer, hosted.room_id, peer.user("user")), 404, "M_NOT_FOUND")


def test_a_blocked_room_is_forbidden(peer, joined):
    Room.objects.filter(pk=joined.pk).update(blocked=True)
    assert is_error(make_join(peer, joined.room_id, peer.user("user")), 403, "M_FORBIDDEN")
    before = snapshot(joined.room_id)
    peer.send([peer.lpdu(joined.room_id).event])
    assert snapshot(joined.room_id) == before


def test_a_private_room_is_joined_by_invitation_only(peer, transactional_db):
    room = create_room(creator=CREATOR, now=timezone.now())
    assert is_error(make_join(peer, room.room_id, peer.user("user")), 403, "M_FORBIDDEN")
    assert is_error(send_join(peer, peer.join(room.room_id)), 403, "M_FORBIDDEN")
    assert "rule 5.2.4" in send_join(peer, peer.join(room.room_id)).json()["error"]


def test_row84_a_ban_between_make_and_send_is_obeyed(peer, joined):
    assert make_join(peer, joined.room_id, peer.user("late")).status_code == 200
    membership(joined, peer.user("late"), "ban")
    response = send_join(peer, peer.join(joined.room_id, "late"), "late")
    assert is_error(response, 403, "M_FORBIDDEN")
    assert "rule 5.2.3" in response.json()["error"]


def wrong_memberships(membership_, peer, room_id):
    """Events that the endpoint for a membership must not take, with the answer to each."""
    me, content = peer.user("user"), {"membership": membership_}
    other = Peer("other.example.org")

    def event(sender=peer, **fields):
        lpdu = sender.lpdu(room_id, **({"type": "m.room.member", "content": content, "state_key": me} | fields))
        return lpdu.event

    good = event()
    others = {"join", "leave", "invite", "knock", "ban"} - {membership_}
    return {
        **{f"a membership of {name}": (event(content={"membership": name}), 400, "M_INVALID_PARAM") for name in others},
        "no membership": (event(content={}), 400, "M_INVALID_PARAM"),
        "a membership that is a list": (event(content={"membership": [membership_]}), 400, "M_INVALID_PARAM"),
        "a message": (event(type="m.room.message"), 400, "M_INVALID_PARAM"),
        "a member event that is no state": (event(state_key=None), 400, "M_INVALID_PARAM"),
        "another state key": (event(state_key=peer.user("other")), 400, "M_INVALID_PARAM"),
        "the state key of our user": (event(state_key=CREATOR), 400, "M_INVALID_PARAM"),
        "a user of another server": (event(other, state_key=other.user("user")), 403, "M_FORBIDDEN"),
        "a wrong signature": ({**good, "signatures": {peer.name: {"ed25519:1": "A" * 86}}}, 403, "M_FORBIDDEN"),
        "no signature": ({**good, "signatures": {}}, 403, "M_FORBIDDEN"),
        "a changed event": ({**good, "origin_server_ts": good["origin_server_ts"] + 1}, 403, "M_FORBIDDEN"),
        "no room": ({key: value for key, value in good.items() if key != "room_id"}, 400, "M_BAD_JSON"),
        "an unknown room": ({**good, "room_id": "!none:hub.example.org"}, 404, "M_NOT_FOUND"),
        "another hub": (event(hub="third.example.org"), 400, "M_WRONG_SERVER"),
        "an empty object": ({}, 400, "M_BAD_JSON"),
    }


def wrong_requests(membership_):
    """Their names, for parametrizing."""
    return sorted(wrong_memberships(membership_, Peer("part.example.org"), "!a:hub.example.org"))


def check_refused(membership_, name, peer, room):
    """Send one of them, which must be refused as it says and change nothing."""
    event, status, errcode = wrong_memberships(membership_, peer, room.room_id)[name]
    before = snapshot(room.room_id)
    response = peer.request("POST", f"/_matrix/federation/v3/send_{membership_}/x", event)
    assert is_error(response, status, errcode), response.content
    assert snapshot(room.room_id) == before


@pytest.mark.parametrize("name", wrong_requests("join"))
def test_row15_row16_row17_row81_only_a_join_of_ones_own_user_is_taken_as_a_join(name, peer, hosted):
    check_refused("join", name, peer, hosted)


def test_row46_leaving_by_make_and_send(peer, joined):
    user = peer.user("user")
    template = peer.get("make_leave", joined.room_id, user, version="v1").json()
    assert template["event"]["content"] == {"membership": "leave"}
    leave = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "leave"}, state_key=user)
    response = peer.request("POST", "/_matrix/federation/v3/send_leave/leave", leave.event)
    assert (response.status_code, response.json()) == (200, {})
    stay = RoomServer.objects.get(room=joined, server=peer.name)
    assert (stay.joined_users, stay.left_position) == (0, Room.objects.get(pk=joined.pk).head_position)
    assert is_error(peer.get("make_leave", joined.room_id, user, version="v1"), 403, "M_FORBIDDEN")


@pytest.mark.parametrize("name", wrong_requests("leave"))
def test_row47_row48_row82_only_a_leave_of_ones_own_user_is_taken_as_a_leave(name, peer, joined):
    check_refused("leave", name, peer, joined)


def test_a_user_who_is_not_in_the_room_cannot_leave_it(peer, joined):
    nobody = peer.user("nobody")
    content = {"membership": "leave"}
    leave = peer.lpdu(joined.room_id, localpart="nobody", type="m.room.member", content=content, state_key=nobody)
    before = snapshot(joined.room_id)
    response = peer.request("POST", "/_matrix/federation/v3/send_leave/x", leave.event)
    assert is_error(response, 403, "M_FORBIDDEN")
    assert snapshot(joined.room_id) == before


@pytest.mark.parametrize("endpoint", ["send_join", "send_leave", "send_knock", "invite"])
@pytest.mark.parametrize(
    ("change", "errcode"),
    [
        (lambda raw: raw.replace(b'"origin_server_ts":', b'"x":NaN,"origin_server_ts":'), "M_BAD_JSON"),
        (lambda raw: raw.replace(b'"origin_server_ts":', b'"type":"a","origin_server_ts":'), "M_BAD_JSON"),
        (lambda raw: raw.replace(b'"origin_server_ts":', b'"x":9007199254740992,"origin_server_ts":'), "M_BAD_JSON"),
        (lambda raw: raw[:-1], "M_NOT_JSON"),
    ],
    ids=["not a number", "a key twice", "2^53", "cut short"],
)
def test_row26_row49_requests_with_invalid_json_are_refused_as_such(change, errcode, endpoint, peer, joined):
    before = snapshot(joined.room_id)
    raw = change(canonical_json.dumps(peer.join(joined.room_id).event))
    target = f"/_matrix/federation/v3/{endpoint}/x"
    response = peer.request("POST", target, raw=raw, header=peer.headers("POST", target, b""))
    assert is_error(response, 400, errcode), response.content
    assert snapshot(joined.room_id) == before


def test_row85_a_banned_user_is_let_in_again_by_taking_the_ban_back_first(peer, hosted):
    user = peer.user("user")
    membership(hosted, user, "ban")
    with pytest.raises(Rejected, match=r"rule 5\.3\.2"):
        membership(hosted, user, "invite")
    assert is_error(send_join(peer, peer.join(hosted.room_id), "banned"), 403, "M_FORBIDDEN")
    membership(hosted, user, "leave")
    assert send_join(peer, peer.join(hosted.room_id), "unbanned").status_code == 200


@pytest.mark.parametrize(("federate", "status"), [(True, 200), (False, 403)])
def test_row105_a_room_that_is_closed_to_other_servers_gives_no_templates_and_takes_no_joins(
    federate, status, peer, transactional_db
):
    room = create_room(creator=CREATOR, now=timezone.now(), join_rule="public", federate=federate)
    responses = [make_join(peer, room.room_id, peer.user("user")), send_join(peer, peer.join(room.room_id))]
    assert [response.status_code for response in responses] == [status, status]
    if not federate:
        assert is_error(responses[0], 403, "M_FORBIDDEN")
        assert "rule 4.federate" in responses[1].json()["error"]


@pytest.mark.parametrize("timeline", [False, True])
def test_a_peer_that_needs_it_gets_the_whole_line_as_state(timeline, peer, hosted):
    Destination.objects.create(server=peer.name, timeline_state=timeline)
    profiles.forget(peer.name)
    for rule in ("invite", "public"):
        content = {"join_rule": rule}
        send_event(room_id=hosted.room_id, sender=CREATOR, type="m.room.join_rules", content=content, state_key="")
    send_event(room_id=hosted.room_id, sender=CREATOR, type="m.room.message", content={"body": "hello"})
    answer = send_join(peer, peer.join(hosted.room_id)).json()
    types = [event["type"] for event in answer["state"]]
    assert types.count("m.room.join_rules") == (3 if timeline else 1)
    assert ("m.room.message" in types) is timeline
    assert types[0] == "m.room.create"


def test_a_line_beyond_the_limit_is_answered_with_the_state_all_the_same(peer, hosted):
    Destination.objects.create(server=peer.name, timeline_state=True)
    profiles.forget(peer.name)
    send_event(room_id=hosted.room_id, sender=CREATOR, type="m.room.message", content={"body": "hello"})
    Room.objects.filter(pk=hosted.pk).update(head_position=DEFAULTS.whole_line_events)
    answer = send_join(peer, peer.join(hosted.room_id)).json()
    assert "m.room.message" not in [event["type"] for event in answer["state"]]
