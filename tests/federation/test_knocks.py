"""Knocks: as the hub that is asked, and for users of ours who ask elsewhere (draft section "Knocks")."""

import json

import pytest
from django.utils import timezone

from federation import handshakes, withdrawals
from federation.make_and_send import HandshakeFailed
from federation.models import PendingLeave
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.completion import add_signature
from linmatrix.protocol.errors import Malformed, Rejected
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.receipt import receive_pdu
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from rooms import pending
from rooms.creation import create_room
from rooms.models import Event, PendingInvite, Room
from rooms.state import members
from tests.federation.test_memberships import check_refused, wrong_requests
from tests.support.hosted import CREATOR, is_error, keys_of, membership, send_join
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer
from tests.support.tls_peer import lpdu_of_request

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"
VERSIONS = f"ver=I.1&ver={UNSTABLE_PREFIX}"


@pytest.fixture
def hosted(transactional_db):
    """A room of ours that users may ask to be let into."""
    return create_room(creator=CREATOR, now=timezone.now(), join_rule="knock", name="Closed")


def make_knock(peer, room_id, user_id, query=VERSIONS):
    return peer.get("make_knock", room_id, user_id, version="v1", query=query)


def knock_of(peer, room_id, localpart="user", **content):
    return peer.lpdu(
        room_id,
        localpart=localpart,
        type="m.room.member",
        content={"membership": "knock", **content},
        state_key=peer.user(localpart),
    )


def send_knock(peer, event, txn_id="knock", prefix="v3"):
    return peer.request("POST", f"/_matrix/federation/{prefix}/send_knock/{txn_id}", event)


@pytest.mark.parametrize("prefix", ["v3", f"unstable/{UNSTABLE_PREFIX}"], ids=["stable", "unstable"])
def test_row96_a_knock_is_appended_and_answered_with_stripped_state(prefix, peer, hosted):
    user = peer.user("user")
    template = make_knock(peer, hosted.room_id, user).json()
    expected = {"type": "m.room.member", "sender": user, "state_key": user, "content": {"membership": "knock"}}
    assert expected.items() <= template.items()
    assert expected.items() <= template["event"].items()
    assert template["room_version"] == hosted.version
    knock = knock_of(peer, hosted.room_id, reason="I am new here.")
    answer = send_knock(peer, knock.event, prefix=prefix)
    assert answer.status_code == 200
    assert list(answer.json()) == ["stripped_state"]
    assert all(set(event) == {"type", "state_key", "sender", "content"} for event in answer.json()["stripped_state"])
    assert {event["type"]: event["content"] for event in answer.json()["stripped_state"]}["m.room.name"] == {
        "name": "Closed"
    }
    assert members(hosted.room_id)[user] == "knock"
    assert json.loads(Event.objects.get(lpdu_id=knock.lpdu_id).json)["content"]["reason"] == "I am new here."


def test_row96_members_see_a_knock(peer, hosted):
    member = Peer("member.example.org").publish()
    membership(hosted, member.user("user"), "invite")
    assert send_join(member, member.join(hosted.room_id)).status_code == 200
    knock = knock_of(peer, hosted.room_id)
    assert send_knock(peer, knock.event).status_code == 200
    event = Event.objects.get(lpdu_id=knock.lpdu_id)
    assert member.get("event", event.event_id).json()["content"] == {"membership": "knock"}


@pytest.mark.parametrize(("join_rule", "status"), [("knock", 200), ("invite", 403), ("public", 403)])
def test_row96_only_the_join_rule_knock_lets_users_knock(join_rule, status, peer, transactional_db):
    room = create_room(creator=CREATOR, now=timezone.now(), join_rule=join_rule)
    made = make_knock(peer, room.room_id, peer.user("user"))
    sent = send_knock(peer, knock_of(peer, room.room_id).event)
    assert [made.status_code, sent.status_code] == [status, status]
    if status == 403:
        assert is_error(made, 403, "M_FORBIDDEN")
        assert "rule 5.6.1" in sent.json()["error"]


@pytest.mark.parametrize(
    ("now", "rule"), [("join", "5.6.4"), ("ban", "5.6.4"), ("invite", None), ("knock", None), ("leave", None)]
)
def test_row96_who_is_in_the_room_or_banned_cannot_knock_and_others_can_once_more(now, rule, peer, hosted):
    user = peer.user("user")
    if now in ("join", "invite"):
        membership(hosted, user, "invite")
    if now == "join":
        assert send_join(peer, peer.join(hosted.room_id)).status_code == 200
    if now == "ban":
        membership(hosted, user, "ban")
    if now in ("knock", "leave"):
        assert send_knock(peer, knock_of(peer, hosted.room_id).event, "first").status_code == 200
    if now == "leave":
        membership(hosted, user, "leave")
    made = make_knock(peer, hosted.room_id, user)
    sent = send_knock(peer, knock_of(peer, hosted.room_id, reason="again").event)
    if rule is None:
        assert (made.status_code, sent.status_code) == (200, 200)
        assert members(hosted.room_id)[user] == "knock"
    else:
        assert is_error(made, 403, "M_FORBIDDEN")
        assert is_error(sent, 403, "M_FORBIDDEN")
        assert f"rule {rule}" in sent.json()["error"]
        assert members(hosted.room_id)[user] == now


def test_row96_a_knock_without_an_invite_does_not_let_the_user_join(peer, hosted):
    assert send_knock(peer, knock_of(peer, hosted.room_id).event).status_code == 200
    response = send_join(peer, peer.join(hosted.room_id))
    assert is_error(response, 403, "M_FORBIDDEN")
    assert "rule 5.2.4" in response.json()["error"]


def test_row96_a_knock_is_accepted_with_an_invite(tls_peer, hosted):
    def invite(request):
        pdu = receive_pdu(check_schema(request.content["event"]), hub="hub.example.org", keys=keys_of())
        return 200, {"event": add_signature(pdu, server=tls_peer.name, key=tls_peer.key).event}

    tls_peer.endpoints["POST", "invite"] = invite
    assert send_knock(tls_peer, knock_of(tls_peer, hosted.room_id).event).status_code == 200
    handshakes.invite(room_id=hosted.room_id, sender=CREATOR, user_id=tls_peer.user("user"))
    assert send_join(tls_peer, tls_peer.join(hosted.room_id)).status_code == 200


def test_row96_a_knock_is_taken_back_as_an_invite_is_refused(peer, hosted):
    user = peer.user("user")
    assert send_knock(peer, knock_of(peer, hosted.room_id).event).status_code == 200
    assert peer.get("make_leave", hosted.room_id, user, version="v1").status_code == 200
    leave = peer.lpdu(hosted.room_id, type="m.room.member", content={"membership": "leave"}, state_key=user)
    assert peer.request("POST", "/_matrix/federation/v3/send_leave/x", leave.event).status_code == 200
    assert members(hosted.room_id)[user] == "leave"


def test_row96_without_the_power_to_kick_or_invite_a_member_answers_no_knock(peer, hosted):
    user = peer.user("user")
    member = Peer("member.example.org").publish()
    membership(hosted, member.user("user"), "invite")
    assert send_join(member, member.join(hosted.room_id)).status_code == 200
    assert send_knock(peer, knock_of(peer, hosted.room_id).event).status_code == 200
    deny = member.lpdu(hosted.room_id, type="m.room.member", content={"membership": "leave"}, state_key=user)
    failed = member.send([deny.event]).json()["failed_pdus"]
    assert "rule 5.4.5" in failed[deny.lpdu_id]["error"]
    assert members(hosted.room_id)[user] == "knock"


@pytest.mark.parametrize(
    ("query", "status", "errcode"),
    [(VERSIONS, 200, None), ("ver=1", 400, "M_INCOMPATIBLE_ROOM_VERSION"), ("", 400, "M_INCOMPATIBLE_ROOM_VERSION")],
)
def test_the_callers_room_versions_decide(query, status, errcode, peer, hosted):
    response = make_knock(peer, hosted.room_id, peer.user("user"), query)
    assert response.status_code == status
    if errcode:
        assert is_error(response, status, errcode)
        assert response.json()["room_version"] == hosted.version


def test_a_knock_is_asked_of_the_hub_for_ones_own_users(peer, hosted):
    assert is_error(make_knock(peer, hosted.room_id, "@user:other.example.org"), 403, "M_FORBIDDEN")
    assert is_error(make_knock(peer, hosted.room_id, "user"), 400, "M_INVALID_PARAM")
    assert is_error(make_knock(peer, "!none:hub.example.org", peer.user("user")), 404, "M_NOT_FOUND")
    Room.objects.filter(pk=hosted.pk).update(role="participant", hub_server="third.example.org")
    response = make_knock(peer, hosted.room_id, peer.user("user"))
    assert is_error(response, 400, "M_WRONG_SERVER")
    assert response.json()["hub_server"] == "third.example.org"


@pytest.mark.parametrize("name", wrong_requests("knock"))
def test_row83_only_a_knock_of_ones_own_user_is_taken_as_a_knock(name, peer, hosted):
    check_refused("knock", name, peer, hosted)


def test_a_user_of_ours_knocks_on_a_room_of_ours(hosted):
    handshakes.knock(room_id=hosted.room_id, user_id=ALICE, reason="hello")
    assert members(hosted.room_id)[ALICE] == "knock"
    handshakes.invite(room_id=hosted.room_id, sender=CREATOR, user_id=ALICE)
    handshakes.join(room_id=hosted.room_id, user_id=ALICE)
    with pytest.raises(Rejected, match=r"rule 5\.6\.4"):
        handshakes.knock(room_id=hosted.room_id, user_id=ALICE)


# Rooms that others host.


@pytest.fixture
def room(tls_peer):
    """A room on the peer that users may ask to be let into; its hub answers with the draft's bare template."""
    room = PeerRoom(tls_peer, join_rule="knock")
    tls_peer.host(room)

    def make_knock(request):
        user_id = request.parts[2]
        event = tls_peer.event(room.room_id, type="m.room.member", content={"membership": "knock"})
        return 200, {**event, "sender": user_id, "state_key": user_id, "room_version": room.version}

    def send_knock(request):
        room.add(lpdu=lpdu_of_request(request.content))
        return 200, {"stripped_state": STRIPPED}

    tls_peer.endpoints |= {("GET", "make_knock"): make_knock, ("POST", "send_knock"): send_knock}
    return room


STRIPPED = [{"type": "m.room.name", "state_key": "", "sender": "@a:b.example", "content": {"name": "Closed"}}]


@pytest.mark.parametrize("member", ["stripped_state", "knock_room_state"])
def test_row96_a_knock_elsewhere_is_kept_with_what_the_hub_shows(member, tls_peer, room):
    honest = tls_peer.endpoints["POST", "send_knock"]
    tls_peer.endpoints["POST", "send_knock"] = lambda request: (honest(request)[0], {member: [*STRIPPED, "junk", {}]})
    sent = handshakes.knock(room_id=room.room_id, user_id=ALICE, reason="hello")
    assert sent.taken
    assert room.line[-1].event["content"] == {"membership": "knock", "reason": "hello"}
    (request,) = [request for request in tls_peer.requests if request.parts[0] == "make_knock"]
    assert set(request.query["ver"]) == {"I.1", UNSTABLE_PREFIX}
    row = PendingInvite.objects.get()
    assert (row.user_id, row.hub_server, row.room_version) == (ALICE, tls_peer.name, room.version)
    assert pending.is_knock(row)
    assert json.loads(row.stripped_state) == STRIPPED
    assert not Room.objects.exists()


@pytest.mark.parametrize("answer", [{}, {"stripped_state": "x"}, {"stripped_state": None}])
def test_an_answer_without_stripped_state_is_a_yes_all_the_same(answer, tls_peer, room):
    tls_peer.endpoints["POST", "send_knock"] = lambda _request: (200, answer)
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    assert PendingInvite.objects.get().stripped_state == "[]"


def test_no_more_stripped_state_is_kept_than_the_limit(tls_peer, room):
    shown = [{**STRIPPED[0], "state_key": str(number)} for number in range(DEFAULTS.stripped_state_events + 1)]
    tls_peer.endpoints["POST", "send_knock"] = lambda _request: (200, {"stripped_state": shown})
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    assert json.loads(PendingInvite.objects.get().stripped_state) == shown[:-1]


def test_an_answer_beyond_the_limit_is_none(tls_peer, room):
    tls_peer.endpoints["POST", "send_knock"] = lambda _request: (
        200,
        b'{"x":"' + b"x" * DEFAULTS.handshake_answer_bytes + b'"}',
    )
    with pytest.raises(HandshakeFailed) as failure:
        handshakes.knock(room_id=room.room_id, user_id=ALICE)
    assert failure.value.status == 0
    assert not PendingInvite.objects.exists()


def test_a_version_that_the_template_does_not_name_is_found_by_asking_for_one_at_a_time(tls_peer, room):
    def make_knock(request):
        if room.version not in request.query["ver"]:
            return 400, {"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "No.", "room_version": room.version}
        user_id = request.parts[2]
        event = tls_peer.event(room.room_id, type="m.room.member", content={"membership": "knock"})
        return 200, event | {"sender": user_id, "state_key": user_id}

    tls_peer.endpoints["GET", "make_knock"] = make_knock
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    assert PendingInvite.objects.get().room_version == room.version


@pytest.mark.parametrize("step", [("GET", "make_knock"), ("POST", "send_knock")], ids=["make", "send"])
@pytest.mark.parametrize("before", ["nothing", "an invite"])
def test_a_knock_that_the_hub_refuses_leaves_everything_as_it_was(before, step, tls_peer, room):
    if before == "an invite":
        invite = room.member(ALICE, "invite")
        pending.keep(invite.event, event_id=invite.event_id, hub=tls_peer.name, version=room.version, shown=STRIPPED)
    rows = list(PendingInvite.objects.values())
    tls_peer.endpoints[step] = lambda _request: (403, {"errcode": "M_FORBIDDEN", "error": "rule 5.6.1"})
    with pytest.raises(HandshakeFailed, match=r"M_FORBIDDEN rule 5\.6\.1"):
        handshakes.knock(room_id=room.room_id, user_id=ALICE)
    assert list(PendingInvite.objects.values()) == rows


def test_an_invite_that_overtakes_the_answer_to_the_knock_stands(tls_peer, room):
    honest = tls_peer.endpoints["POST", "send_knock"]

    def send_knock(request):
        answer = honest(request)
        body = {"event": room.member(ALICE, "invite").event, "room_version": room.version}
        assert tls_peer.request("POST", "/_matrix/federation/v3/invite/x", body).status_code == 200
        return answer

    tls_peer.endpoints["POST", "send_knock"] = send_knock
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    row = PendingInvite.objects.get()
    assert not pending.is_knock(row)
    assert row.event_id == room.line[-1].event_id


def test_a_knock_elsewhere_is_taken_back_through_the_hub(tls_peer, room):
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    assert not PendingInvite.objects.exists()
    withdrawals.attempt(PendingLeave.objects.get().pk)
    assert room.line[-1].event["content"] == {"membership": "leave"}
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    assert PendingInvite.objects.count() == 1


def test_knocking_again_cancels_the_leave_that_the_hub_has_not_been_told(tls_peer, room):
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    handshakes.leave(room_id=room.room_id, user_id=ALICE)
    handshakes.knock(room_id=room.room_id, user_id=ALICE)
    assert not PendingLeave.objects.exists()
    assert room.line[-1].event["content"] == {"membership": "knock"}


def test_the_server_to_ask_must_be_one(room):
    with pytest.raises(Malformed, match="not a server name"):
        handshakes.knock(room_id=room.room_id, user_id=ALICE, via="127.0.0.1")
    with pytest.raises(Malformed, match="not a room id"):
        handshakes.knock(room_id="!x", user_id=ALICE)
    with pytest.raises(Malformed, match="not of hub"):
        handshakes.knock(room_id=room.room_id, user_id="@alice:other.example.org")
