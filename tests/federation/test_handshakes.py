"""Joining and leaving rooms that another server hosts, against a real TLS peer that is the hub."""

from contextlib import ExitStack

import pytest

from federation import gaps, handshakes, retrying
from federation.handshakes import HandshakeFailed
from rooms import pending
from rooms.models import Event, Gap, PendingInvite, PendingJoin, Room, RoomServer
from tests.settings import TEST_AUTHORITY
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer
from tests.support.tls_peer import TlsPeer, lpdu_of_request

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


@pytest.fixture
def room(tls_peer):
    """A public room on the peer, with ten messages in it."""
    room = PeerRoom(tls_peer)
    for number in range(10):
        room.add(content={"body": f"message {number}"})
    tls_peer.host(room)
    return room


def our_line(room_id):
    events = Event.objects.filter(room_id=room_id, position__isnull=False).order_by("position")
    return list(events.values_list("event_id", flat=True))


def test_row10_row21_a_join_brings_the_state_and_then_the_whole_line(tls_peer, room):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    stored = Room.objects.get(room_id=room.room_id)
    assert (stored.role, stored.hub_server, stored.head_event_id) == (
        "participant",
        tls_peer.name,
        room.line[-1].event_id,
    )
    assert RoomServer.objects.get(room=stored, server="hub.example.org").joined_users == 1
    assert gaps.fill_gap(Gap.objects.get().pk) is gaps.Progress.CLOSED
    assert our_line(room.room_id) == [pdu.event_id for pdu in room.line]
    assert not PendingJoin.objects.exists()


def test_events_that_the_hub_sends_afterwards_continue_the_line(tls_peer, room):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    new = [room.add(content={"body": "one"}), room.add(content={"body": "two"})]
    assert tls_peer.send([pdu.event for pdu in new]).json() == {"failed_pdus": {}}
    assert our_line(room.room_id)[-2:] == [pdu.event_id for pdu in new]
    assert set(Event.objects.filter(position__isnull=False).values_list("verdict", flat=True)) == {"accepted"}


def test_leaving_and_coming_back_leaves_no_hole(tls_peer, room):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    gaps.fill_gap(Gap.objects.get().pk)
    kick = room.member(ALICE, "leave")
    tls_peer.send([kick.event])
    for number in range(3):
        room.add(content={"body": f"while away {number}"})
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert gaps.fill_gap(Gap.objects.get().pk) is gaps.Progress.CLOSED
    assert our_line(room.room_id) == [pdu.event_id for pdu in room.line]
    stays = RoomServer.objects.filter(server="hub.example.org").order_by("joined_position")
    assert [stay.left_position is None for stay in stays] == [False, True]


def test_row91_the_hub_is_found_by_the_hint_of_a_server_that_is_not_it(tls_peer, room, tmp_path):
    with TlsPeer(TEST_AUTHORITY, tmp_path / "other", host="other.localhost") as other:
        wrong = {"errcode": "M_WRONG_SERVER", "error": "not the hub", "hub_server": tls_peer.name}
        other.endpoints["GET", "make_join"] = lambda _request: (400, wrong)
        handshakes.join(room_id=room.room_id, user_id=ALICE, via=other.name)
    assert Room.objects.get(room_id=room.room_id).hub_server == tls_peer.name


def answers(room):
    """What a dishonest hub may answer to a join, by what is wrong with it."""

    def twin(change):
        def send_join(request):
            pdu = room.add(lpdu=lpdu_of_request(request.content))
            state = [item.event for item in room.state_before(len(room.line) - 1)]
            answer = {"state": list(state), "auth_chain": list(state), "event": pdu.event}
            change(answer)
            return 200, answer

        return send_join

    def another_event(answer):
        answer["event"] = room.line[-2].event

    def no_create(answer):
        for name in ("state", "auth_chain"):
            answer[name] = [event for event in answer[name] if event["type"] != "m.room.create"]

    def create_of_another_version(answer):
        answer["state"][0] = {**answer["state"][0], "content": {"room_version": "I.1"}}

    def unsigned_power_levels(answer):
        for name in ("state", "auth_chain"):
            answer[name] = [
                {**event, "signatures": {}} if event["type"] == "m.room.power_levels" else event
                for event in answer[name]
            ]

    def banned(answer):
        answer["state"].append(room.make(type="m.room.member", content={"membership": "ban"}, state_key=ALICE).event)

    return {
        "another event": twin(another_event),
        "no create event": twin(no_create),
        "a changed create event": twin(create_of_another_version),
        "an unsigned auth event": twin(unsigned_power_levels),
        "a state that does not allow it": twin(banned),
        "no event": twin(lambda answer: answer.pop("event")),
        "lists that are objects": twin(lambda answer: answer.update(state={})),
        "a refusal": lambda _request: (403, {"errcode": "M_FORBIDDEN", "error": "No."}),
        "garbage": lambda _request: (200, b"garbage"),
    }


@pytest.mark.parametrize("name", answers(PeerRoom(Peer("peer.localhost:1"))))
def test_row22_a_join_that_is_answered_wrongly_leaves_nothing_behind(name, tls_peer, room):
    tls_peer.endpoints["POST", "send_join"] = answers(room)[name]
    with pytest.raises(HandshakeFailed):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert not Room.objects.exists()
    assert not Event.objects.exists()
    assert not PendingJoin.objects.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sender": "@bob:hub.example.org"}, "something else"),
        ({"state_key": "@bob:hub.example.org"}, "something else"),
        ({"type": "m.room.name"}, "something else"),
        ({"content": {"membership": "ban"}}, "something else"),
        ({"content": None}, "something else"),
    ],
)
def test_a_template_for_something_else_is_not_signed(change, told, tls_peer, room):
    honest = tls_peer.endpoints["GET", "make_join"]

    def template(request):
        status, answer = honest(request)
        return status, {**answer, "event": {**answer["event"], **change}}

    tls_peer.endpoints["GET", "make_join"] = template
    with pytest.raises(HandshakeFailed, match=told):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert "send_join" not in {request.parts[0] for request in tls_peer.requests}


def test_row20_a_room_of_an_unknown_version_is_not_joined(tls_peer, room):
    room.version = "org.example.other"
    with pytest.raises(HandshakeFailed, match="not supported"):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert "send_join" not in asked(tls_peer)


@pytest.mark.parametrize("version", [["I.1"], {}, 1, ""])
def test_row20_a_version_that_is_none_is_not_supported(version, tls_peer, room):
    honest = tls_peer.endpoints["GET", "make_join"]
    tls_peer.endpoints["GET", "make_join"] = lambda request: (200, honest(request)[1] | {"room_version": version})
    with pytest.raises(HandshakeFailed, match="not supported"):
        handshakes.join(room_id=room.room_id, user_id=ALICE, via=tls_peer.name)
    assert "send_join" not in asked(tls_peer)


def test_row23_a_create_event_of_an_unknown_version_is_not_joined(tls_peer):
    odd = PeerRoom(tls_peer, localpart="odd", version="org.example.other")
    tls_peer.host(odd)
    honest = tls_peer.endpoints["GET", "make_join"]
    tls_peer.endpoints["GET", "make_join"] = lambda request: (200, honest(request)[1] | {"room_version": "I.1"})
    with pytest.raises(HandshakeFailed):
        handshakes.join(room_id=odd.room_id, user_id=ALICE)
    assert "send_join" in asked(tls_peer)
    assert not Room.objects.exists()


@pytest.mark.parametrize("step", [("GET", "make_join"), ("POST", "send_join")], ids=["make", "send"])
def test_row11_the_hubs_refusal_is_told(step, tls_peer, room):
    tls_peer.endpoints[step] = lambda _request: (403, {"errcode": "M_FORBIDDEN", "error": "rule 5.2.3: banned"})
    with pytest.raises(HandshakeFailed, match=r"refused: HTTP 403 M_FORBIDDEN rule 5\.2\.3: banned") as failure:
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert failure.value.status == 403


def asked(*peers):
    """The endpoints that these servers were asked for, in order per server, their keys left out."""
    return [request.parts[0] for peer in peers for request in peer.requests if request.parts[0] != "server"]


@pytest.fixture
def others(transactional_db, tmp_path):
    """Three servers that are not the hub and point to each other in a ring."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(TlsPeer(TEST_AUTHORITY, tmp_path / name, host=f"{name}.localhost"))
            for name in ("one", "two", "three")
        ]
        for server, target in zip(servers, (*servers[1:], servers[0]), strict=True):
            point(server, target.name)
        yield servers


def point(server, target):
    """Have a server say that another is the hub."""
    content = {"errcode": "M_WRONG_SERVER", "error": "not the hub", "hub_server": target}
    server.endpoints["GET", "make_join"] = lambda _request: (400, content)


def test_row91_two_hints_are_followed(tls_peer, room, others):
    one, two, three = others
    point(two, tls_peer.name)
    handshakes.join(room_id=room.room_id, user_id=ALICE, via=one.name)
    assert asked(one, two, three) == ["make_join", "make_join"]
    assert Room.objects.get(room_id=room.room_id).hub_server == tls_peer.name


def test_row91_a_third_hint_is_not_followed_and_the_rooms_own_server_is_asked(tls_peer, room, others):
    one, two, three = others
    point(three, "fourth.localhost:1")
    handshakes.join(room_id=room.room_id, user_id=ALICE, via=one.name)
    assert asked(one, two, three) == ["make_join"] * 3
    assert Room.objects.get(room_id=room.room_id).hub_server == tls_peer.name


@pytest.mark.parametrize("hint", ["itself", "the one before", "us", "127.0.0.1", 7, None])
def test_row91_a_hint_that_leads_nowhere_ends_the_search_there(hint, tls_peer, room, others):
    one, two, three = others
    point(two, {"itself": two.name, "the one before": one.name, "us": "hub.example.org"}.get(hint, hint))
    handshakes.join(room_id=room.room_id, user_id=ALICE, via=one.name)
    assert asked(one, two, three) == ["make_join", "make_join"]


def test_row91_candidates_are_asked_in_their_order_each_once(tls_peer, room, others):
    one, two, three = others
    for server in others:
        server.endpoints["GET", "make_join"] = lambda _request: (404, {"errcode": "M_NOT_FOUND", "error": "Who?"})
    invite = room.member(ALICE, "invite")
    pending.keep(invite.event, event_id=invite.event_id, hub=two.name, version=room.version, shown=[])
    Room.objects.create(room_id=room.room_id, version=room.version, role="participant", hub_server=three.name)
    tls_peer.endpoints["GET", "make_join"] = lambda _request: (403, {"errcode": "M_FORBIDDEN", "error": "No."})
    with pytest.raises(HandshakeFailed) as failure:
        handshakes.join(room_id=room.room_id, user_id=ALICE, via=one.name)
    told = str(failure.value).split("; ")
    assert [line.split(" refused: ")[0] for line in told] == [one.name, two.name, three.name, tls_peer.name]
    assert asked(one, two, three, tls_peer) == ["make_join"] * 4
    assert failure.value.status == 404


def test_row91_a_server_that_is_away_is_passed_over(tls_peer, room):
    handshakes.join(room_id=room.room_id, user_id=ALICE, via="gone.localhost:1")
    assert Room.objects.get(room_id=room.room_id).hub_server == tls_peer.name


def test_row43_row91_an_invite_is_accepted_at_the_server_that_sent_it(tls_peer, room):
    away = PeerRoom(tls_peer, localpart="away", join_rule="invite")
    tls_peer.host(away)
    body = {"event": away.member(ALICE, "invite").event, "room_version": away.version}
    assert tls_peer.request("POST", "/_matrix/federation/v3/invite/x", body).status_code == 200
    handshakes.join(room_id=away.room_id, user_id=ALICE)
    assert Room.objects.get(room_id=away.room_id).hub_server == tls_peer.name
    assert not PendingInvite.objects.exists()


def test_a_missing_event_is_fetched_before_the_one_that_follows_it(tls_peer, room):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    missed = room.add(content={"body": "missed"})
    new = room.add(content={"body": "new"})
    assert tls_peer.send([new.event]).status_code == 200
    assert our_line(room.room_id)[-2:] == [missed.event_id, new.event_id]


def test_a_gap_that_cannot_be_filled_is_no_reason_to_skip_events(tls_peer, room):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    room.add(content={"body": "withheld"})
    new = room.add(content={"body": "new"})
    tls_peer.endpoints["GET", "backfill"] = lambda _request: (404, {"errcode": "M_NOT_FOUND", "error": ""})
    before = our_line(room.room_id)
    response = tls_peer.send([new.event], txn_id="again")
    assert (response.status_code, response.json()["errcode"]) == (503, "M_UNKNOWN")
    assert our_line(room.room_id) == before
    tls_peer.host(room)
    assert tls_peer.send([new.event], txn_id="again").status_code == 200
    assert our_line(room.room_id)[-1] == new.event_id


def test_another_server_cannot_claim_a_room_that_we_know(tls_peer, room, tmp_path):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    tls_peer.send([room.member(ALICE, "leave").event])
    with TlsPeer(TEST_AUTHORITY, tmp_path / "other", host="other.localhost") as thief:
        stolen = PeerRoom(thief)
        stolen.room_id, stolen.line, stolen.state = room.room_id, [], {}
        stolen.add(type="m.room.create", content={"room_version": stolen.version}, state_key="")
        stolen.member(thief.user("user"), "join")
        stolen.add(type="m.room.join_rules", content={"join_rule": "public"}, state_key="")
        thief.host(stolen)
        with pytest.raises(HandshakeFailed, match=r"rule 3\.2"):
            handshakes.join(room_id=room.room_id, user_id=ALICE, via=thief.name)
    assert Room.objects.get(room_id=room.room_id).hub_server == tls_peer.name


def test_history_that_the_hub_did_not_give_is_asked_for_again_when_the_hub_is_back(tls_peer, room):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    answer = tls_peer.endpoints.pop(("GET", "backfill"))
    gap = Gap.objects.get()
    assert gaps.fill_gap(gap.pk) is gaps.Progress.LATER
    assert gaps.due_gaps() == []
    tls_peer.endpoints["GET", "backfill"] = answer
    retrying.reset_backoff(tls_peer.name)
    assert gaps.due_gaps() == [gap.pk]
    assert gaps.fill_gap(gap.pk) is gaps.Progress.CLOSED
