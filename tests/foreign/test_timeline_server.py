"""Rooms with a server that behaves as eigen-server does, in both directions, over plain HTTP.

The fake is `tests.support.timeline_server`; the numbers in the names of the tests are those of its habits. Not to be
seen from outside: that it looks at no X-Matrix header (3), that numbers above 2^53 fail there (20; no such number is
sent, see decision 33), and what its `state_ids` answers (16; nothing here asks a hub for it).
"""

import threading

import pytest
from django.utils import timezone

from federation import handshakes
from federation.errors import ApiError
from federation.handshakes import HandshakeFailed
from federation.models import Destination, InboundTransaction, OutboundLpdu, OutboundTransaction
from federation.wire_profile import profiles
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from rooms.creation import create_room
from rooms.models import Event, Finding, PendingInvite, Room, StateEntry
from tests.support import broker  # noqa: F401  wake-ups go nowhere
from tests.support.foreign_events import id_there
from tests.support.foreign_talk import (
    ALICE,
    BOB,
    Worker,
    carry,
    fill_gaps,
    findings,
    membership_here,
    our_events,
    our_line,
    our_messages,
    say,
)
from tests.support.hosted import CREATOR, membership, snapshot
from tests.support.peers import US
from tests.support.plain_peer import UNST, V1, path
from tests.support.timeline_server import KEPT, MAX_BODY_BYTES, JoinFailed, TimelineServer

pytestmark = pytest.mark.django_db(transaction=True)

LEAVE, INVITE = {"membership": "leave"}, {"membership": "invite"}


@pytest.fixture
def kind():
    """What the other servers behave as."""
    return TimelineServer


@pytest.fixture
def closed(transactional_db):
    """A room of ours that only invited users may join."""
    return create_room(creator=CREATOR, now=timezone.now(), name="Closed")


@pytest.fixture
def theirs(other):
    """A room of the other server that alice has joined."""
    room = other.create_room()
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    return room


def whole_line(*servers):
    """Set the compatibility mode for servers that play back a room's line, as an operator does."""
    for server in servers:
        Destination.objects.update_or_create(server=server.name, defaults={"timeline_state": True})
        profiles.forget(server.name)


# Whole conversations


def test_row12_row27_row28_a_conversation_in_a_room_of_ours(other, ours):
    room = other.join(ours.room_id, via=US)
    assert membership_here(ours.room_id, other.user("user")) == "join"
    say(ours.room_id, "welcome", sender=CREATOR)
    assert other.say(room, "thanks").status == 200
    say(ours.room_id, "tea?", sender=CREATOR)
    carry(other.name)
    assert our_messages(ours.room_id) == ["welcome", "thanks", "tea?"]
    assert room.ids == our_line(ours.room_id)[-len(room.ids) :]
    assert room.messages()[-3:] == ["welcome", "thanks", "tea?"]
    assert other.send(room, "m.room.member", LEAVE, state_key=other.user("user")).status == 200
    say(ours.room_id, "gone?", sender=CREATOR)
    carry(other.name)
    assert room.membership(other.user("user")) == "leave"
    assert "gone?" not in room.messages()
    assert membership_here(ours.room_id, other.user("user")) == "leave"
    assert {reply.status for _, reply in other.sent} == {200}


def test_row10_row21_row27_a_conversation_in_a_room_of_theirs(other, theirs):
    sent = say(theirs.room_id, "hello from alice")
    carry(other.name)
    other.own(theirs, "m.room.message", {"body": "hello alice"})
    other.own(theirs, "m.room.name", {"name": "Theirs"}, state_key="")
    assert Event.objects.get(lpdu_id=sent.lpdu_id).event_id in theirs.ids
    assert our_messages(theirs.room_id) == theirs.messages() == ["hello from alice", "hello alice"]
    fill_gaps()
    assert our_line(theirs.room_id) == theirs.ids
    other.own(theirs, "m.room.member", LEAVE, state_key=ALICE)
    assert membership_here(theirs.room_id, ALICE) == "leave"
    other.own(theirs, "m.room.message", {"body": "behind our backs"})
    assert our_messages(theirs.room_id)[-1] == "hello alice"
    handshakes.join(room_id=theirs.room_id, user_id=ALICE)
    fill_gaps()
    handshakes.leave(room_id=theirs.room_id, user_id=ALICE)
    carry(other.name)
    assert theirs.membership(ALICE) == membership_here(theirs.room_id, ALICE) == "leave"
    assert our_line(theirs.room_id) == theirs.ids
    assert findings() == []


# Its habits


def test_timeline_server_1_it_finds_event_and_room_version_in_our_template(other, ours):
    target = f"{V1}/make_join{path(ours.room_id, other.user('user'))}?ver={UNSTABLE_PREFIX}"
    template = other.ask(US, "GET", target).content
    assert template["room_version"] == ours.version
    assert {"hub_server", "type", "content", "sender", "state_key"} <= set(template["event"])
    assert other.join(ours.room_id, via=US).ids


def test_timeline_server_1_its_wrapped_template_is_taken(other, theirs):
    (made,) = other.asked("make_join")
    assert made.query["ver"].count(UNSTABLE_PREFIX) == 1
    assert membership_here(theirs.room_id, ALICE) == "join"


def test_timeline_server_2_row42_its_answer_to_an_invite_of_ours_is_taken(other, closed):
    handshakes.invite(room_id=closed.room_id, sender=CREATOR, user_id=other.user("user"))
    (invited,) = (event for event in our_events(closed.room_id) if event.get("state_key") == other.user("user"))
    assert set(invited["signatures"]) == {US, other.name}


def test_timeline_server_2_row43_it_finds_the_event_in_our_answer_to_an_invite(other):
    room = other.create_room(join_rule="invite")
    other.own(room, "m.room.member", INVITE, state_key=ALICE)
    assert set(room.timeline[-1]["signatures"]) == {US, other.name}
    assert PendingInvite.objects.get(user_id=ALICE).hub_server == other.name
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert room.membership(ALICE) == membership_here(room.room_id, ALICE) == "join"


def test_timeline_server_3_a_get_signed_without_content_is_authenticated(other, ours):
    room = other.join(ours.room_id, via=US)
    signed = other.ask(US, "GET", f"{UNST}/event{path(room.ids[0])}")
    assert (signed.status, signed.content["type"]) == (200, "m.room.create")


def test_timeline_server_4_our_lpdus_name_the_hub_and_have_no_auth_events(other, theirs):
    say(theirs.room_id, "hello")
    carry(other.name)
    for lpdu in (other.asked("send_join")[0].content, *other.asked("send")[0].content["pdus"]):
        assert lpdu["hub_server"] == other.name
        assert lpdu.keys().isdisjoint({"auth_events", "prev_events", "event_id"})
    assert theirs.messages() == ["hello"]


def test_timeline_server_5_our_own_events_have_no_hub_server_there(other, ours):
    room = other.join(ours.room_id, via=US)
    say(ours.room_id, "hello", sender=CREATOR)
    carry(other.name)
    own = [event for event in room.timeline if event["sender"] == CREATOR]
    assert len(own) > 1
    assert all("hub_server" not in event and "lpdu" not in event["hashes"] for event in own)
    assert room.timeline[-1]["content"] == {"body": "hello"}


def test_timeline_server_5_its_own_events_without_hub_server_are_taken(other, theirs):
    event_id = other.own(theirs, "m.room.message", {"body": "hello"})
    assert "hub_server" not in theirs.get(event_id)
    assert Event.objects.get(event_id=event_id).verdict == "accepted"


def test_timeline_server_6_we_join_by_a_state_that_is_the_whole_timeline(other):
    room = other.create_room()
    for number in range(5):
        other.own(room, "m.room.topic", {"topic": f"topic {number}"}, state_key="")
        other.own(room, "m.room.message", {"body": f"message {number}"})
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    topic = StateEntry.objects.get(room_id=room.room_id, type="m.room.topic", replaced_at__isnull=True)
    assert room.get(topic.event_id)["content"] == {"topic": "topic 4"}
    fill_gaps()
    assert our_line(room.room_id) == room.ids


@pytest.mark.parametrize("known", [False, True], ids=["as any peer", "as one that needs the whole line"])
def test_timeline_server_6_it_joins_after_an_invited_member_only_with_the_whole_line(known, other, closed):
    membership(closed, ALICE, "invite")
    handshakes.join(room_id=closed.room_id, user_id=ALICE)
    handshakes.invite(room_id=closed.room_id, sender=CREATOR, user_id=other.user("user"))
    if not known:
        with pytest.raises(JoinFailed, match="playing back"):
            other.accept(closed.room_id)
        return
    whole_line(other)
    room = other.accept(closed.room_id)
    carry(other.name)
    assert room.ids == our_line(closed.room_id)


def test_timeline_server_6_the_state_alone_is_enough_where_nobody_was_invited(other, ours):
    assert other.join(ours.room_id, via=US).membership(CREATOR) == "join"


def test_timeline_server_7_it_accepts_an_invite_by_way_of_us_as_the_inviters_server(other, closed):
    handshakes.invite(room_id=closed.room_id, sender=CREATOR, user_id=other.user("user"))
    room = other.accept(closed.room_id)
    assert membership_here(closed.room_id, other.user("user")) == room.membership(other.user("user")) == "join"


def test_timeline_server_7_where_the_inviters_server_is_not_the_hub_it_is_told_who_is(other, third):
    room = other.create_room()
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    handshakes.invite(room_id=room.room_id, sender=ALICE, user_id=third.user("user"))
    assert room.membership(third.user("user")) == "invite"
    with pytest.raises(JoinFailed, match="M_WRONG_SERVER"):
        third.accept(room.room_id)
    target = f"{V1}/make_join{path(room.room_id, third.user('user'))}?ver={UNSTABLE_PREFIX}"
    assert third.ask(US, "GET", target).content["hub_server"] == other.name
    assert third.join(room.room_id, via=other.name).membership(third.user("user")) == "join"
    assert membership_here(room.room_id, third.user("user")) == "join"


def test_timeline_server_8_it_invites_our_user_by_an_lpdu(other, ours):
    room = other.join(ours.room_id, via=US)
    levels = {"users": {CREATOR: 100, other.user("user"): 50}}
    handshakes.send_event(
        room_id=ours.room_id, sender=CREATOR, type="m.room.power_levels", content=levels, state_key=""
    )
    assert other.send(room, "m.room.member", INVITE, state_key=BOB).content == {"failed_pdus": {}}
    assert membership_here(ours.room_id, BOB) == "invite"


def test_timeline_server_8_it_invites_a_user_of_a_third_server_by_an_lpdu(other, third, ours):
    room = other.join(ours.room_id, via=US)
    assert other.send(room, "m.room.member", INVITE, state_key=third.user("user")).content == {"failed_pdus": {}}
    assert membership_here(ours.room_id, third.user("user")) == "invite"
    (invited,) = third.asked("invite")
    assert "auth_events" in invited.content["event"]
    carry(other.name)
    assert room.membership(third.user("user")) == "invite"


def test_timeline_server_9_one_bad_event_does_not_keep_the_others_from_it(other, ours):
    room = other.join(ours.room_id, via=US)
    carry(other.name)
    other.refuses = lambda event: event["content"].get("body") == "bad"
    for body in ("one", "two", "bad", "four", "five"):
        say(ours.room_id, body, sender=CREATOR)
    Worker(other.name).run()
    assert room.messages() == ["one", "two", "four", "five"]
    assert OutboundTransaction.objects.filter(set_aside_at__isnull=False).count() == 1
    say(ours.room_id, "six", sender=CREATOR)
    carry(other.name)
    assert room.messages()[-1] == "six"


def test_timeline_server_9_as_hub_it_gets_all_lpdus_but_the_one_that_it_refuses(other, theirs):
    other.refuses = lambda event: event["content"].get("body") == "bad"
    sent = {body: say(theirs.room_id, body) for body in ("one", "bad", "three")}
    Worker(other.name).run()
    settled = dict(OutboundLpdu.objects.values_list("lpdu_id", "status"))
    assert [settled[sent[body].lpdu_id] for body in ("one", "bad", "three")] == ["sent", "set-aside", "sent"]
    assert set(theirs.messages()) == {"one", "three"}
    assert our_messages(theirs.room_id) == ["one", "three"], "it makes further events of one, and those are replays"


def test_timeline_server_9_it_goes_on_whatever_our_failed_pdus_say(other, ours):
    room = other.join(ours.room_id, via=US)
    refused = other.send(room, "m.room.name", {"name": "mine"}, state_key="")
    assert refused.status == 200
    assert "needs 50" in str(refused.content["failed_pdus"])
    assert other.say(room, "anyway").status == 200
    assert our_messages(ours.room_id) == ["anyway"]


def test_timeline_server_10_its_echo_is_served_while_our_transaction_is_under_way(other, theirs):
    say(theirs.room_id, "one")
    say(theirs.room_id, "two")
    carry(other.name)
    # Both echoes were sent, one by one, before the answer to the transaction.
    assert [reply.status for _, reply in other.sent[-2:]] == [200, 200]
    assert len(other.asked("send")) == 1
    assert our_messages(theirs.room_id) == ["one", "two"]


def test_timeline_server_10_the_echo_of_our_join_is_served_while_the_join_is_under_way(other):
    room = other.create_room()
    other.echoes_joins = True
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert membership_here(room.room_id, ALICE) == "join"
    assert [reply.status for _, reply in other.sent] == [200]


def test_timeline_server_11_an_lpdu_of_its_that_comes_again_is_one_event(other, ours):
    room = other.join(ours.room_id, via=US)
    lpdu = other.lpdu(room, "m.room.message", {"body": "once"})
    for txn_id in ("1m0", "2m0"):
        answer = other.ask(US, "PUT", f"{UNST}/send{path(txn_id)}", {"pdus": [lpdu], "edus": []})
        assert answer.content == {"failed_pdus": {}}
    assert our_messages(ours.room_id) == ["once"]


def test_timeline_server_11_an_lpdu_of_ours_that_it_appends_twice_counts_once(other, theirs):
    say(theirs.room_id, "once")
    honest, answers = other.answer, []

    def answer_is_lost(request):
        answers.append(honest(request))
        return (502, {}) if len(answers) == 1 else answers[-1]

    other.answer = answer_is_lost
    Worker(other.name).run()
    assert theirs.messages() == ["once", "once"]
    assert our_messages(theirs.room_id) == ["once"]
    assert findings() == ["replay"]
    other.own(theirs, "m.room.message", {"body": "after"})
    assert our_messages(theirs.room_id) == ["once", "after"]


def test_timeline_server_11_row52_a_lost_echo_is_fetched_when_the_next_event_comes(other, theirs):
    other.loses = {US}
    sent = say(theirs.room_id, "lost")
    carry(other.name)
    assert not Event.objects.filter(lpdu_id=sent.lpdu_id).exists()
    other.loses = set()
    other.own(theirs, "m.room.message", {"body": "next"})
    assert our_messages(theirs.room_id) == ["lost", "next"]


def test_timeline_server_12_forks_are_appended_in_the_order_of_arrival(other, theirs):
    forked = other.append_at_once(theirs, {"body": "one"}, {"body": "two"})
    after = other.own(theirs, "m.room.message", {"body": "after"})
    assert our_line(theirs.room_id)[-3:] == [*forked, after]
    assert set(Event.objects.filter(event_id__in=forked).values_list("verdict", flat=True)) == {"accepted"}
    assert Finding.objects.filter(kind="fork", event_id=forked[1]).exists()
    say(theirs.room_id, "still there")
    carry(other.name)
    assert our_messages(theirs.room_id) == ["one", "two", "after", "still there"]


def test_timeline_server_13_colliding_transaction_ids_are_different_transactions(other, ours):
    room = other.join(ours.room_id, via=US)
    other.clock = lambda: 1_800_000_000_000
    assert [other.say(room, body).status for body in ("one", "two")] == [200, 200]
    (first, _), (second, _) = other.sent[-2:]
    assert first == second
    assert our_messages(ours.room_id) == ["one", "two"]
    assert InboundTransaction.objects.filter(txn_id=first, endpoint="send").count() == 2


def test_timeline_server_14_transactions_that_come_at_the_same_time_are_all_processed(other, ours):
    room = other.join(ours.room_id, via=US)
    replies = []
    threads = [
        threading.Thread(target=lambda number=number: replies.append(other.say(room, str(number)).status))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [200] * 8
    assert sorted(our_messages(ours.room_id)) == [str(number) for number in range(8)]


def test_timeline_server_15_row34_event_ids_in_its_events_do_not_count(other, theirs):
    other.loses = {US}
    missed = [other.own(theirs, "m.room.message", {"body": str(number)}) for number in range(3)]
    other.loses = set()
    other.own(theirs, "m.room.message", {"body": "next"})
    assert our_line(theirs.room_id)[-4:-1] == missed
    assert "event_id" not in Event.objects.get(event_id=missed[0]).json
    assert findings() == []


def test_timeline_server_16_row34_history_comes_ten_at_a_time_newest_first(other):
    room = other.create_room()
    for number in range(25):
        other.own(room, "m.room.message", {"body": str(number)})
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    fill_gaps()
    assert our_line(room.room_id) == room.ids
    assert len(other.asked("backfill")) == 3


def test_timeline_server_17_no_transaction_is_larger_than_what_it_takes(other, ours):
    room = other.join(ours.room_id, via=US)
    for number in range(5):
        handshakes.send_event(
            room_id=ours.room_id,
            sender=CREATOR,
            type="m.room.message",
            content={"body": str(number), "padding": "x" * 40_000},
        )
    carry(other.name)
    assert room.messages() == ["0", "1", "2", "3", "4"]
    assert max(len(request.body) for request in other.asked("send")) <= MAX_BODY_BYTES
    assert len(other.asked("send")) == 3


def test_timeline_server_18_a_page_for_an_unknown_path_leads_to_the_path_that_it_has(other, theirs):
    Destination.objects.update_or_create(server=other.name, defaults={"stable_paths": True})
    profiles.forget(other.name)
    say(theirs.room_id, "hello")
    carry(other.name)
    assert [f"{UNST}/" in request.target for request in other.asked("send")] == [False, True]
    assert theirs.messages() == our_messages(theirs.room_id) == ["hello"]
    assert Destination.objects.get(server=other.name).stable_paths is False


def test_timeline_server_18_its_refusals_are_told_and_leave_nothing_behind(other, third):
    room = other.create_room(join_rule="invite")
    elsewhere = third.create_room("elsewhere")
    other.join(elsewhere.room_id, via=third.name)
    with pytest.raises(HandshakeFailed, match="M_NOT_FOUND") as refused:
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert refused.value.status == 404
    handshakes.join(room_id=elsewhere.room_id, user_id=BOB, via=other.name)
    assert [room.hub_server for room in Room.objects.all()] == [third.name], "another server is asked after the first"


def test_timeline_server_18_its_word_for_an_unsupported_version_is_passed_on_as_the_drafts(other):
    room = create_room(creator=CREATOR, now=timezone.now(), version="I.1")
    before = snapshot(room.room_id)
    with pytest.raises(ApiError) as refused:
        handshakes.invite(room_id=room.room_id, sender=CREATOR, user_id=other.user("user"))
    assert (refused.value.status, refused.value.errcode) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert snapshot(room.room_id) == before


def test_timeline_server_19_leaving_and_inviting_never_reach_what_it_crashes_at(other, third, theirs):
    handshakes.join(room_id=theirs.room_id, user_id=BOB)
    handshakes.invite(room_id=theirs.room_id, sender=ALICE, user_id=third.user("user"))
    handshakes.leave(room_id=theirs.room_id, user_id=BOB)
    carry(other.name)
    assert theirs.membership(BOB) == "leave"
    # The fakes keep what they crash at, and raise it when the test ends.
    assert other.faults == third.faults == []


def test_timeline_server_20_a_join_rule_with_allow_keeps_us_out_and_leaves_nothing_behind(other):
    room = other.create_room(join_rule="public", allow=[])
    with pytest.raises(HandshakeFailed):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert not Event.objects.exists()
    assert not Room.objects.exists()


def test_timeline_server_20_a_join_rule_with_allow_does_not_stop_the_room_here(other, theirs):
    rules = other.own(theirs, "m.room.join_rules", {"join_rule": "public", "allow": []}, state_key="")
    assert id_there(theirs.get(rules), {}) != id_there(theirs.get(rules), KEPT)
    other.own(theirs, "m.room.message", {"body": "after"})
    assert our_messages(theirs.room_id) == ["after"]
