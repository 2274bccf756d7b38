"""Beginning a stay: the whole of a hub's answer to a join is checked, and twins that differ in one defect show it."""

import json
from collections.abc import Callable

import pytest
from django.utils import timezone

from linmatrix.protocol import canonical_json, completion
from linmatrix.protocol.errors import Rejected
from rooms.models import Event, Finding, Gap, Room, RoomServer, StateEntry
from rooms.participant import append_pdus, begin_stay
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import US, Peer

pytestmark = pytest.mark.django_db

HUB, OTHER, WE = Peer("hub.example.com"), Peer("third.example.org"), Peer(US)
ALICE = WE.user("alice")


class Answer:
    """An honest hub's answer to alice's join; tests change it before it is taken."""

    def __init__(self, room: PeerRoom) -> None:
        self.room, self.hub, self.version = room, room.hub.name, room.version
        self.state = room.state_before(len(room.line))
        self.auth_chain = [pdu for pdu in room.line if "state_key" in pdu.event]
        self.join = room.add(lpdu=WE.join(room.room_id, "alice", hub=self.hub))

    def entry(self, type, state_key=""):
        return next(pdu for pdu in self.state if (pdu.event["type"], pdu.event["state_key"]) == (type, state_key))

    def without(self, pdu):
        self.state = [other for other in self.state if other.event_id != pdu.event_id]
        self.auth_chain = [other for other in self.auth_chain if other.event_id != pdu.event_id]

    def take(self):
        return begin_stay(
            room_id=self.room.room_id,
            hub=self.hub,
            version=self.version,
            state=self.state,
            auth_chain=self.auth_chain,
            join=self.join,
            now=timezone.now(),
        )


@pytest.fixture
def room():
    """A public room on another hub with members of a third server, whose power levels have changed."""
    room = PeerRoom(HUB)
    for user in ("one", "two"):
        room.add(lpdu=OTHER.join(room.room_id, user, hub=HUB.name))
    room.add(
        type="m.room.power_levels",
        content={"users": {HUB.user("user"): 100, OTHER.user("one"): 50}, "invite": 10},
        state_key="",
    )
    room.add(type="m.room.name", content={"name": "a room"}, state_key="")
    room.add(content={"body": "a message"})
    return room


@pytest.fixture
def answer(room):
    return Answer(room)


def current_state():
    return set(StateEntry.objects.filter(replaced_at=None).values_list("event_id", flat=True))


def by_other(room, localpart, type, content, state_key):
    return OTHER.lpdu(room.room_id, hub=HUB.name, localpart=localpart, type=type, content=content, state_key=state_key)


def test_an_honest_answer_is_taken_over_whole(answer):
    answer.take()
    assert current_state() == {pdu.event_id for pdu in [*answer.state, answer.join]}
    assert not Finding.objects.exists()
    assert Gap.objects.get().missing_event_id == answer.join.event["prev_events"][0]
    joined = RoomServer.objects.values_list("server", "joined_users")
    assert sorted(joined) == [(HUB.name, 1), (US, 1), (OTHER.name, 2)]


def test_a_whole_line_in_place_of_the_state_is_the_same_answer(answer):
    honest = {pdu.event_id for pdu in [*answer.state, answer.join]}
    answer.state = answer.room.line[:-1]
    answer.auth_chain = []
    answer.take()
    assert current_state() == honest
    assert not Finding.objects.exists()


def test_the_join_itself_in_the_state_is_not_part_of_what_was_before(answer):
    answer.state = [*answer.state, answer.join]
    answer.take()
    stored = Event.objects.get(event_id=answer.join.event_id)
    assert stored.position == Room.objects.get().head_position


def test_duplicates_in_state_and_chain_change_nothing(answer):
    honest = {pdu.event_id for pdu in [*answer.state, answer.join]}
    answer.state, answer.auth_chain = answer.state * 2, answer.auth_chain * 3
    answer.take()
    assert current_state() == honest


def test_a_knock_that_led_to_our_invite_holds_though_it_cites_no_join_rules(room):
    room.add(type="m.room.join_rules", content={"join_rule": "knock"}, state_key="")
    for peer, localpart in ((WE, "alice"), (OTHER, "knocking")):
        user = peer.user(localpart)
        knock = {"type": "m.room.member", "content": {"membership": "knock"}, "state_key": user}
        room.add(lpdu=peer.lpdu(room.room_id, hub=HUB.name, localpart=localpart, **knock))
    room.member(ALICE, "invite")
    answer = Answer(room)
    answer.take()
    assert current_state() == {pdu.event_id for pdu in [*answer.state, answer.join]} - {
        answer.entry("m.room.member", ALICE).event_id
    }
    assert not Finding.objects.exists()


# What is not to be trusted at all.


def no_create(answer):
    answer.without(answer.entry("m.room.create"))


def create_only_in_the_chain(answer):
    answer.state = [pdu for pdu in answer.state if pdu.event["type"] != "m.room.create"]


def create_of_another_version(answer):
    answer.version = "I.1"


def created_elsewhere(answer):
    answer.hub = OTHER.name


def two_create_events(answer):
    create = answer.entry("m.room.create")
    other = completion.complete(
        HUB.event(answer.room.room_id, type="m.room.create", content=create.event["content"], state_key="", ts=5),
        auth_events=[],
        prev_event=None,
        server=HUB.name,
        key=HUB.key,
    )
    answer.auth_chain = [*answer.auth_chain, other]


def power_levels_left_out(answer):
    answer.without(answer.entry("m.room.power_levels"))


def power_levels_in_the_chain_only(answer):
    levels = answer.entry("m.room.power_levels")
    answer.state = [pdu for pdu in answer.state if pdu is not levels]


def join_rules_left_out(answer):
    answer.without(answer.entry("m.room.join_rules"))


def old_power_levels_in_the_state(answer):
    levels = answer.entry("m.room.power_levels")
    old = next(pdu for pdu in answer.room.line if pdu.event["type"] == "m.room.power_levels")
    answer.state = [old if pdu is levels else pdu for pdu in answer.state]


def forged(answer, *, localpart, type, content):
    """Replace a state event and what the join cites by one that no rule allows, though the hub has signed it."""
    answer.without(answer.entry(type))
    room = answer.room
    room.line.pop()
    bad = room.add(type=type, content=content, state_key="", localpart=localpart)
    answer.state.append(bad)
    answer.join = room.add(lpdu=WE.join(room.room_id, "alice", hub=answer.hub))


def power_levels_by_a_stranger(answer):
    forged(
        answer,
        localpart="stranger",
        type="m.room.power_levels",
        content={"users": {HUB.user("stranger"): 100}},
    )


def join_rules_by_a_stranger(answer):
    forged(answer, localpart="stranger", type="m.room.join_rules", content={"join_rule": "public"})


def power_levels_that_rest_on_nothing(answer):
    first = next(pdu for pdu in answer.room.line if pdu.event["type"] == "m.room.power_levels")
    answer.without(first)


def a_ban_of_ours_that_the_join_does_not_cite(answer):
    room = answer.room
    room.line.pop()
    del room.state["m.room.member", ALICE]
    ban = room.make(type="m.room.member", content={"membership": "ban"}, state_key=ALICE)
    answer.state.append(ban)
    answer.join = room.add(lpdu=WE.join(room.room_id, "alice", hub=answer.hub))


def a_join_that_follows_nothing(answer):
    event = {**answer.join.event, "prev_events": []}
    answer.join = completion.Pdu(event, "$join", answer.join.lpdu_id, canonical_json.dumps(event))


DEFECTS: list[tuple[Callable, str]] = [
    (no_create, "4.3"),
    (create_only_in_the_chain, "4.3"),
    (create_of_another_version, "4.3"),
    (created_elsewhere, "3.2"),
    (two_create_events, "3.1"),
    (power_levels_left_out, "4"),
    (power_levels_in_the_chain_only, "4"),
    (join_rules_left_out, "4"),
    (old_power_levels_in_the_state, "4"),
    (power_levels_by_a_stranger, "4"),
    (join_rules_by_a_stranger, "4"),
    (power_levels_that_rest_on_nothing, "4"),
    (a_ban_of_ours_that_the_join_does_not_cite, "4"),
    (a_join_that_follows_nothing, "4"),
]


@pytest.mark.parametrize(("defect", "rule"), DEFECTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_join_that_rests_on_what_does_not_hold_leaves_nothing_behind(answer, defect, rule):
    defect(answer)
    with pytest.raises(Rejected) as refusal:
        answer.take()
    assert refusal.value.rule == rule
    assert not Room.objects.exists()
    assert not Event.objects.exists()
    assert not Finding.objects.exists()


def test_a_room_whose_join_rule_lets_nobody_in_is_not_joined(room):
    room.add(type="m.room.join_rules", content={"join_rule": "invite"}, state_key="")
    with pytest.raises(Rejected) as refusal:
        Answer(room).take()
    assert refusal.value.rule == "5.2.4"
    assert not Room.objects.exists()


# What can be done without.


def test_row24_a_state_event_that_is_missing_or_unverifiable_does_not_prevent_the_join(answer):
    name = answer.entry("m.room.name")
    answer.without(name)
    answer.take()
    assert name.event_id not in current_state()
    assert answer.entry("m.room.member", OTHER.user("two")).event_id in current_state()


def test_row24_what_rests_on_an_event_that_is_missing_is_left_out_and_the_join_succeeds(room):
    """A member of the third server invited a fourth; the membership of the first is spoiled on the way."""
    invite = room.add(lpdu=by_other(room, "one", "m.room.member", {"membership": "invite"}, "@new:fourth.example.org"))
    answer = Answer(room)
    spoiled = answer.entry("m.room.member", OTHER.user("one"))
    answer.without(spoiled)
    answer.take()
    assert invite.event_id not in current_state()
    assert not Event.objects.filter(event_id__in=[invite.event_id, spoiled.event_id]).exists()
    finding = Finding.objects.get()
    assert (finding.kind, finding.event_id, finding.server) == ("state", invite.event_id, HUB.name)
    assert "4.unknown" in finding.evidence


def test_state_that_the_rules_refuse_is_left_out_with_what_rests_on_it_and_noted(answer):
    room = answer.room
    room.line.pop()
    intruder = room.make(
        localpart="stranger", type="m.room.member", content={"membership": "invite"}, state_key="@x:fourth.example.org"
    )
    topic = room.make(localpart="stranger", type="m.room.topic", content={"topic": "mine"}, state_key="")
    answer.state += [intruder, topic]
    answer.take()
    assert not current_state() & {intruder.event_id, topic.event_id}
    found = {finding.event_id: finding.evidence.partition("\n") for finding in Finding.objects.filter(kind="state")}
    assert found[intruder.event_id][0].startswith("rule 5.3.1")
    assert found[topic.event_id][0].startswith("rule 6")
    assert json.loads(found[topic.event_id][2])[0] == topic.event


def test_row25_a_membership_with_an_odd_display_name_does_not_prevent_the_join(room):
    odd = {"membership": "join", "displayname": {"not": ["a", "name"]}, "avatar_url": 5}
    member = room.add(lpdu=by_other(room, "one", "m.room.member", odd, OTHER.user("one")))
    Answer(room).take()
    assert member.event_id in current_state()
    assert not Finding.objects.exists()


def test_events_of_another_room_are_no_part_of_the_answer(answer):
    elsewhere = PeerRoom(HUB, localpart="elsewhere")
    answer.state += elsewhere.line
    answer.auth_chain += elsewhere.line
    answer.take()
    assert not Event.objects.filter(event_id__in=[pdu.event_id for pdu in elsewhere.line]).exists()


@pytest.mark.parametrize("held", [True, False], ids=["which we have", "which we do not have"])
def test_row36_state_that_rests_on_another_room_is_left_out(room, held):
    elsewhere = PeerRoom(HUB, localpart="elsewhere")
    if held:
        Room.objects.create(
            room_id=elsewhere.room_id, version=elsewhere.version, role=Room.Role.PARTICIPANT, hub_server=HUB.name
        )
        append_pdus(elsewhere.room_id, elsewhere.line, now=timezone.now())
    answer = Answer(room)
    room.line.pop()
    foreign = elsewhere.state["m.room.power_levels", ""].event_id
    honest = room.make(type="m.room.topic", content={}, state_key="").event["auth_events"]
    topic = room.make(type="m.room.topic", content={}, state_key="", auth_events=[honest[0], foreign, honest[2]])
    answer.state.append(topic)
    answer.take()
    assert topic.event_id not in set(StateEntry.objects.filter(room_id=room.room_id).values_list("event_id", flat=True))
    assert Finding.objects.get(room_id=room.room_id).kind == "state"


def test_row57_state_without_auth_events_is_left_out(answer):
    room = answer.room
    room.line.pop()
    topic = room.make(type="m.room.topic", content={}, state_key="", auth_events=[])
    answer.state.append(topic)
    answer.take()
    assert topic.event_id not in current_state()
    assert "rule 4.3" in Finding.objects.get().evidence


def test_row35_a_chain_that_is_missing_altogether_is_an_error_and_not_a_wedge(answer):
    answer.auth_chain = []
    with pytest.raises(Rejected):
        answer.take()
    honest = Answer.__new__(Answer)
    honest.__dict__ = {**answer.__dict__, "auth_chain": [pdu for pdu in answer.room.line if "state_key" in pdu.event]}
    honest.take()
    assert answer.join.event_id in current_state()


def test_a_join_whose_content_was_altered_counts_as_its_redacted_copy_and_is_noted(answer):
    answer.join = completion.redacted_copy(answer.join)
    answer.take()
    assert Event.objects.get(event_id=answer.join.event_id).verdict == "redacted"
    assert not Finding.objects.exclude(kind="edit").exists()


def test_coming_back_to_a_room_with_another_create_event_is_refused(room):
    Answer(room).take()
    append_pdus(room.room_id, [room.member(ALICE, "leave")], now=timezone.now())
    other = PeerRoom(HUB)
    other.member(HUB.user("another"), "invite")
    with pytest.raises(Rejected) as refusal:
        Answer(other).take()
    assert refusal.value.rule == "3.1"


def test_what_an_earlier_stay_brought_need_not_come_again(room):
    Answer(room).take()
    leave = room.member(ALICE, "leave")
    append_pdus(room.room_id, [leave], now=timezone.now())
    room.add(type="m.room.name", content={"name": "meanwhile"}, state_key="")
    again = Answer(room)
    again.auth_chain = []
    again.take()
    assert current_state() == {pdu.event_id for pdu in [*again.state, again.join]} - {leave.event_id}
    assert not Finding.objects.exists()


def test_servers_that_left_while_we_were_away_are_no_longer_in_the_room(room):
    Answer(room).take()
    append_pdus(room.room_id, [room.member(ALICE, "leave")], now=timezone.now())
    for user in ("one", "two"):
        room.add(lpdu=by_other(room, user, "m.room.member", {"membership": "leave"}, OTHER.user(user)))
    Answer(room).take()
    current = RoomServer.objects.filter(left_position=None).values_list("server", "joined_users")
    assert sorted(current) == [(HUB.name, 1), (US, 1)]


def test_an_lpdu_that_the_answer_has_twice_stays_with_the_event_that_had_it_first(room):
    """The later event is what the room's state is; only the id of its LPDU is not kept with it."""
    lpdu = by_other(room, "one", "m.room.member", {"membership": "join", "displayname": "One"}, OTHER.user("one"))
    first, again = room.add(lpdu=lpdu), room.add(lpdu=lpdu)
    Answer(room).take()
    stored = Event.objects.in_bulk([first.event_id, again.event_id])
    assert (stored[first.event_id].lpdu_id, stored[again.event_id].lpdu_id) == (lpdu.lpdu_id, None)
    assert again.event_id in current_state()


def test_a_long_chain_of_state_is_checked_without_running_out_of_stack(room):
    for number in range(1200):
        content = {"users": {HUB.user("user"): 100}, "ban": number % 50}
        room.add(type="m.room.power_levels", content=content, state_key="")
    answer = Answer(room)
    answer.take()
    assert answer.entry("m.room.power_levels").event_id in current_state()
    assert not Finding.objects.exists()
