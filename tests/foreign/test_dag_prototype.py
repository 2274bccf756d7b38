"""Rooms with a server that behaves as Synapse's prototype does, in both directions, over plain HTTP.

The fake is `tests.support.dag_prototype`; the numbers in the names of the tests are those of its habits. Not to be
seen from outside: for how long it remembers whether a peer is linearized (1), what it does with a malformed LPDU (4;
none is ever sent), that its `state` and `state_ids` work (7; nothing here asks a hub for them), and the rest of what
its redaction keeps (13; one of the fields shows what comes of it).

It never sends an LPDU, so its users cannot join rooms of ours (decision 13): there the tests show that it is refused
cleanly, and that neither the room nor what we have for it suffers.
"""

import pytest

from federation import handshakes
from federation.handshakes import HandshakeFailed
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.sending import outcome, send_event
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from rooms.models import Event, Gap, PendingInvite, Room
from tests.support import broker  # noqa: F401  wake-ups go nowhere
from tests.support.dag_prototype import BACK_OFF_SECONDS, DagPrototype, credentials
from tests.support.foreign_talk import (
    ALICE,
    BOB,
    Worker,
    carry,
    fill_gaps,
    findings,
    membership_here,
    our_line,
    our_messages,
    say,
)
from tests.support.hosted import CREATOR, membership, snapshot
from tests.support.peers import US
from tests.support.plain_peer import UNST, V1, path

pytestmark = pytest.mark.django_db(transaction=True)

LEAVE, INVITE, JOIN = {"membership": "leave"}, {"membership": "invite"}, {"membership": "join"}


@pytest.fixture
def kind():
    """What the other servers behave as."""
    return DagPrototype


@pytest.fixture
def theirs(other):
    """A room of the other server that alice has joined."""
    room = other.create_room()
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    other.work()
    return room


def own_message(server, room, body):
    """A message of the hub's own user, sent to us."""
    event_id = server.own(room, "m.room.message", {"body": body})
    server.work()
    return event_id


# Whole conversations


def test_row10_row21_row27_a_conversation_in_a_room_of_theirs(other, theirs):
    sent = say(theirs.room_id, "hello from alice")
    carry(other.name)
    assert not outcome(theirs.room_id, sent.lpdu_id).settled, "a 200 means that it is staged"
    other.work()
    assert outcome(theirs.room_id, sent.lpdu_id).event_id == theirs.ids[-1]
    own_message(other, theirs, "hello alice")
    other.own(theirs, "m.room.name", {"name": "Theirs"}, state_key="")
    other.work()
    assert our_messages(theirs.room_id) == theirs.messages() == ["hello from alice", "hello alice"]
    assert our_line(theirs.room_id)[-1] == theirs.ids[-1]
    other.own(theirs, "m.room.member", LEAVE, state_key=ALICE)
    own_message(other, theirs, "behind our backs")
    assert membership_here(theirs.room_id, ALICE) == "leave"
    assert our_messages(theirs.room_id)[-1] == "hello alice"
    handshakes.join(room_id=theirs.room_id, user_id=ALICE)
    handshakes.leave(room_id=theirs.room_id, user_id=ALICE)
    carry(other.name)
    other.work()
    assert theirs.membership(ALICE) == membership_here(theirs.room_id, ALICE) == "leave"
    assert {reply.status for reply in other.queue(US).sent} == {200}
    assert findings() == []


def test_a_conversation_in_a_room_of_ours_ends_with_the_invite(other, ours):
    handshakes.invite(room_id=ours.room_id, sender=CREATOR, user_id=other.user("user"))
    assert set(other.invites[ours.room_id]["signatures"]) == {US}
    assert membership_here(ours.room_id, other.user("user")) == "invite"
    target = f"{V1}/make_join{path(ours.room_id, other.user('user'))}?ver=1&ver={UNSTABLE_PREFIX}"
    assert other.ask(US, "GET", target).content["room_version"] == ours.version
    before = snapshot(ours.room_id)
    join = other.pdu(ours.room_id, "m.room.member", JOIN, state_key=other.user("user"))
    refused = other.ask_with_fallback(US, "POST", ["send_join", "1"], join)
    assert 400 <= refused.status < 500
    assert refused.errcode
    assert snapshot(ours.room_id) == before
    say(ours.room_id, "without you, then", sender=CREATOR)
    assert our_messages(ours.room_id) == ["without you, then"]


# Its habits


def test_dag_prototype_1_it_knows_us_as_linearized_and_gets_lpdus_from_us(other, theirs):
    assert other.published(US)["m.linearized"] is True
    say(theirs.room_id, "hello")
    carry(other.name)
    lpdus = [pdu for request in other.asked("send") for pdu in request.content["pdus"]]
    assert len(lpdus) == 1
    assert all("auth_events" not in lpdu and lpdu["hub_server"] == other.name for lpdu in lpdus)


def test_dag_prototype_1_an_event_of_ours_that_it_refuses_does_not_keep_our_lpdus_from_it(other, theirs, ours):
    user = other.user("user")
    handshakes.invite(room_id=ours.room_id, sender=CREATOR, user_id=user)
    membership(ours, user, "leave")
    say(theirs.room_id, "hello")
    Worker(other.name).run()
    other.work()
    assert OutboundTransaction.objects.get(set_aside_at__isnull=False).last_error.startswith("HTTP 400 M_BAD_JSON")
    assert our_messages(theirs.room_id) == theirs.messages() == ["hello"]


def test_dag_prototype_2_its_own_events_without_hub_server_are_taken(other, theirs):
    event_id = own_message(other, theirs, "hello")
    assert "hub_server" not in theirs.get(event_id)
    assert Event.objects.get(event_id=event_id).verdict == "accepted"


def test_dag_prototype_2_its_events_for_a_room_of_ours_are_refused_since_they_are_no_lpdus(other, ours):
    before = snapshot(ours.room_id)
    events = [
        other.pdu(ours.room_id, "m.room.member", JOIN, state_key=other.user("user")),
        other.pdu(ours.room_id, "m.room.message", {"body": "hello"}),
    ]
    answer = other.ask(US, "PUT", f"{UNST}/send/1", {"pdus": events, "edus": []})
    assert answer.status == 200
    assert len(answer.content["failed_pdus"]) == 2
    assert "takes LPDUs only" in str(answer.content)
    assert snapshot(ours.room_id) == before


def test_dag_prototype_3_our_signatures_are_accepted_and_its_form_is_remembered(other):
    room = other.create_room()
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    first = len(other.asked("make_join"))
    assert first == 2, "signed with content, which gets a 401, and once more without"
    assert Destination.objects.get(server=other.name).signs_without_content
    second = other.create_room("second")
    handshakes.join(room_id=second.room_id, user_id=ALICE)
    assert len(other.asked("make_join")) == first + 1
    for request in other.requests:
        if request.parts[0] != "server":
            assert credentials(request.headers["Authorization"])["origin"] == US


def test_dag_prototype_4_an_lpdu_that_is_dropped_silently_holds_nothing_up(other, theirs):
    name = send_event(room_id=theirs.room_id, sender=ALICE, type="m.room.name", content={"name": "x"}, state_key="")
    say(theirs.room_id, "hello")
    carry(other.name)
    other.work()
    assert our_messages(theirs.room_id) == ["hello"]
    assert not outcome(theirs.room_id, name.lpdu_id).settled
    assert OutboundLpdu.objects.get(lpdu_id=name.lpdu_id).status == "sent"


def test_dag_prototype_4_a_failure_under_an_id_that_we_do_not_know_is_nobodys(other, theirs):
    other.names_failures = True
    name = send_event(room_id=theirs.room_id, sender=ALICE, type="m.room.name", content={"name": "x"}, state_key="")
    message = say(theirs.room_id, "hello")
    carry(other.name)
    other.work()
    assert not outcome(theirs.room_id, name.lpdu_id).settled
    assert outcome(theirs.room_id, message.lpdu_id).event_id == theirs.ids[-1]


def test_dag_prototype_5_events_that_follow_the_same_one_are_taken_in_order_and_so_is_one_that_follows_several(
    other, theirs
):
    for body in ("one", "two", "three"):
        say(theirs.room_id, body)
    carry(other.name)
    other.work()
    after = own_message(other, theirs, "four")
    follows = [event["prev_events"] for event in theirs.timeline[-4:]]
    assert follows[0] == follows[1] == follows[2]
    assert len(follows[3]) == 3
    assert our_line(theirs.room_id)[-4:] == theirs.ids[-4:]
    assert our_messages(theirs.room_id) == ["one", "two", "three", "four"]
    assert Event.objects.get(event_id=after).verdict == "accepted"


def test_dag_prototype_6_an_lpdu_that_it_takes_twice_counts_once(other, theirs):
    say(theirs.room_id, "once")
    honest, answers = other.answer, []

    def answer_is_lost(request):
        answers.append(honest(request))
        return (502, {}) if len(answers) == 1 else answers[-1]

    other.answer = answer_is_lost
    Worker(other.name).run()
    other.work()
    assert theirs.messages() == ["once", "once"]
    assert our_messages(theirs.room_id) == ["once"]
    assert "replay" in findings()
    own_message(other, theirs, "after")
    assert our_messages(theirs.room_id) == ["once", "after"]


def test_dag_prototype_6_no_transaction_of_ours_has_more_events_than_it_takes(other, theirs):
    bodies = [str(number) for number in range(60)]
    for body in bodies:
        say(theirs.room_id, body)
    carry(other.name)
    other.work()
    assert [len(request.content["pdus"]) for request in other.asked("send")] == [50, 10]
    assert our_messages(theirs.room_id) == bodies


def test_dag_prototype_7_its_history_is_had_event_by_event_since_backfill_is_empty(other, theirs):
    fill_gaps()
    assert not Gap.objects.exists()
    own_message(other, theirs, "hello")
    assert our_line(theirs.room_id) == theirs.ids


def test_dag_prototype_7_row34_a_missing_event_is_had_by_event_since_backfill_is_empty(other, theirs):
    missed = other.own(theirs, "m.room.message", {"body": "missed"})
    other.queue(US).events.clear()
    own_message(other, theirs, "next")
    assert our_messages(theirs.room_id) == ["missed", "next"]
    assert "unsigned" not in Event.objects.get(event_id=missed).json


def third_joins(room, third):
    """The join of a server of the DAG, which sends it to everybody by itself."""
    events = {"auth_events": room.ids[:1] + room.ids[2:4], "prev_events": room.ids[-1:]}
    return third.pdu(room.room_id, "m.room.member", JOIN, state_key=third.user("user"), **events)


def test_dag_prototype_8_events_that_servers_of_the_dag_send_us_by_themselves_change_nothing(other, third, theirs):
    before = snapshot(theirs.room_id)
    answer = third.ask(US, "PUT", f"{UNST}/send/1", {"pdus": [third_joins(theirs, third)], "edus": []})
    assert (answer.status, answer.content) == (200, {"failed_pdus": {}})
    assert snapshot(theirs.room_id) == before


def test_dag_prototype_8_the_room_goes_on_after_an_event_that_its_hub_does_not_relay(other, third, theirs):
    other.take_from_dag(third_joins(theirs, third))
    own_message(other, theirs, "hello")
    assert our_messages(theirs.room_id) == ["hello"]


def test_dag_prototype_9_its_template_and_its_answer_to_an_invite_are_taken(other, theirs, ours):
    assert other.asked("make_join")[0].query["ver"].count(UNSTABLE_PREFIX) == 1
    assert membership_here(theirs.room_id, ALICE) == "join"
    handshakes.invite(room_id=ours.room_id, sender=CREATOR, user_id=other.user("user"))
    assert membership_here(ours.room_id, other.user("user")) == "invite"


def test_dag_prototype_9_it_takes_no_invite_of_ours_for_a_room_of_its_and_says_so(other, third, theirs):
    with pytest.raises(HandshakeFailed, match="M_FORBIDDEN") as refused:
        handshakes.invite(room_id=theirs.room_id, sender=ALICE, user_id=third.user("user"))
    assert refused.value.status == 403
    assert third.invites == {}


def test_dag_prototype_10_its_edus_do_not_keep_its_events_from_us(other, theirs):
    typing = {"edu_type": "m.typing", "content": {"room_id": theirs.room_id, "typing": True}}
    other.queue(US).edus.append(typing)
    own_message(other, theirs, "hello")
    assert other.queue(US).sent[-1].status == 200
    assert our_messages(theirs.room_id) == ["hello"]


def test_dag_prototype_11_it_asks_for_a_profile_invites_and_our_user_joins(other):
    room = other.create_room(join_rule="invite")
    profile = other.ask(US, "GET", f"{V1}/query/profile?user_id={ALICE}")
    assert (profile.status, profile.errcode) == (404, "M_UNRECOGNIZED")
    assert other.invite(room, ALICE).status == 200
    assert set(room.timeline[-1]["signatures"]) == {US, other.name}
    assert PendingInvite.objects.get(user_id=ALICE).hub_server == other.name
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert room.membership(ALICE) == membership_here(room.room_id, ALICE) == "join"


@pytest.mark.parametrize(("method", "endpoint"), [("GET", "event_auth"), ("POST", "user"), ("PUT", "invite")])
def test_dag_prototype_11_row80_what_we_do_not_have_is_unrecognized_under_all_of_its_paths(method, endpoint, other):
    content = None if method == "GET" else {}
    assert other.ask_with_fallback(US, method, [endpoint, "1"], content).errcode == "M_UNRECOGNIZED"


def test_dag_prototype_12_a_request_of_ours_ends_its_backing_off_and_brings_all_that_waited(other, theirs, door):
    now = [0.0]
    other.clock = lambda: now[0]
    door.close()
    own_message(other, theirs, "while we were away")
    door.reopen()
    now[0] = BACK_OFF_SECONDS - 1
    own_message(other, theirs, "while it waits")
    assert our_messages(theirs.room_id) == []
    say(theirs.room_id, "back again")
    carry(other.name)
    other.work()
    assert our_messages(theirs.room_id) == ["while we were away", "while it waits", "back again"]


def test_dag_prototype_13_a_redaction_of_ours_is_not_taken_there_and_holds_nothing_up(other, theirs):
    target = own_message(other, theirs, "oops")
    send_event(room_id=theirs.room_id, sender=ALICE, type="m.room.redaction", content={"redacts": target})
    say(theirs.room_id, "after")
    carry(other.name)
    other.work()
    assert our_messages(theirs.room_id) == theirs.messages() == ["oops", "after"]


def test_dag_prototype_13_a_redaction_of_its_does_not_stop_the_room_here(other, theirs):
    target = own_message(other, theirs, "oops")
    other.own(theirs, "m.room.redaction", {"redacts": target})
    own_message(other, theirs, "after")
    assert our_messages(theirs.room_id)[-1] == "after"


def test_two_users_of_ours_in_a_room_of_theirs_need_one_handshake(other, theirs):
    handshakes.join(room_id=theirs.room_id, user_id=BOB)
    carry(other.name)
    other.work()
    assert theirs.membership(BOB) == membership_here(theirs.room_id, BOB) == "join"
    assert len(other.asked("send_join")) == 1
    assert Room.objects.get(room_id=theirs.room_id).hub_server == other.name
