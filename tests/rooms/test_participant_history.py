"""History before a stay: only what the chain of predecessors allows takes a place, and branches are noted."""

import json

import pytest
from django.utils import timezone

from linmatrix.limits import DEFAULTS
from linmatrix.protocol import completion
from rooms.findings import record
from rooms.history import insert_history
from rooms.models import Event, Finding, Gap, Room
from rooms.participant import append_pdus, begin_stay
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import US, Peer

pytestmark = pytest.mark.django_db

HUB, OTHER, WE = Peer("hub.example.com"), Peer("third.example.org"), Peer(US)
ALICE = WE.user("alice")


@pytest.fixture
def room():
    """A room on another hub with ten messages, that alice has joined; the history is missing."""
    room = PeerRoom(HUB)
    for number in range(10):
        room.add(content={"n": number})
    join(room)
    return room


def join(room):
    state = room.state_before(len(room.line))
    pdu = room.add(lpdu=WE.join(room.room_id, "alice", hub=HUB.name))
    begin_stay(
        room_id=room.room_id,
        hub=HUB.name,
        version=room.version,
        state=state,
        auth_chain=[other for other in room.line[:-1] if "state_key" in other.event],
        join=pdu,
        now=timezone.now(),
    )


def fill(pdus, **passed_over):
    return insert_history(Gap.objects.get(), pdus, now=timezone.now(), **passed_over)


def our_line(room):
    events = Event.objects.filter(room_id=room.room_id, position__isnull=False).order_by("position")
    return list(events.values_list("event_id", flat=True))


def ids(pdus):
    return [pdu.event_id for pdu in pdus]


def evidence(kind="equivocation"):
    return json.loads(Finding.objects.get(kind=kind).evidence.partition("\n")[2])


@pytest.mark.parametrize("order", [1, -1], ids=["oldest first", "newest first"])
def test_row37_history_fits_whichever_end_comes_first(room, order):
    assert fill(room.line[5:-1][::order]) is False
    assert our_line(room) == ids(room.line[5:])
    assert fill(room.line[:5][::order]) is True
    assert our_line(room) == ids(room.line)
    assert not Finding.objects.exists()


def test_what_nothing_names_takes_no_place(room):
    elsewhere = PeerRoom(HUB, localpart="elsewhere")
    unrelated = room.make(content={"n": "unrelated"}, prev_event="$unknown")
    gap = Gap.objects.values().get()
    assert fill([*elsewhere.line, unrelated, *room.line[:5]]) is False
    assert Gap.objects.values("missing_event_id", "before_position").get() == {
        "missing_event_id": gap["missing_event_id"],
        "before_position": gap["before_position"],
    }
    assert our_line(room) == ids(room.line[-1:])


def test_a_branch_beside_the_history_is_kept_as_evidence(room):
    branch = room.make(content={"n": "other"}, prev_event=room.line[8].event_id)
    assert fill([*room.line[:-1], branch]) is True
    assert our_line(room) == ids(room.line)
    assert evidence() == [branch.event, room.line[9].event]


def test_history_that_leads_past_what_the_hub_sent_before_is_kept_as_evidence(room):
    """After alice left, the hub tells another story of how the room went on before that."""
    fill(room.line[:-1])
    leave = room.member(ALICE, "leave")
    append_pdus(room.room_id, [leave], now=timezone.now())
    left_at = room.line.index(leave)
    rewritten = PeerRoom.__new__(PeerRoom)
    rewritten.__dict__ = {**room.__dict__, "line": room.line[: left_at - 1], "state": dict(room.state)}
    del rewritten.state["m.room.member", ALICE]
    other = rewritten.add(content={"n": "rewritten"})
    join(rewritten)
    assert fill([other]) is True
    assert evidence() == [other.event, room.line[left_at - 1].event]
    assert other.event["prev_events"] == room.line[left_at - 1].event["prev_events"]


def test_coming_back_to_an_honest_room_gives_no_finding(room):
    fill(room.line[:-1])
    append_pdus(room.room_id, [room.member(ALICE, "leave")], now=timezone.now())
    for number in range(3):
        room.add(content={"away": number})
    join(room)
    assert fill(room.line[-10:]) is True
    assert our_line(room) == ids(room.line)
    assert not Finding.objects.exists()


def test_history_that_begins_with_another_event_than_the_creation_is_noted(room):
    room.line[4:-1] = []
    room.line.pop()
    beginning = completion.complete(
        HUB.event(room.room_id, content={"n": "first"}),
        auth_events=[],
        prev_event=None,
        server=HUB.name,
        key=HUB.key,
    )
    gap = Gap.objects.get()
    gap.missing_event_id = beginning.event_id
    gap.save()
    assert fill([beginning]) is True
    assert evidence() == [beginning.event, room.line[0].event]


def test_a_second_create_event_in_the_history_is_rejected(room):
    second = completion.complete(
        HUB.event(room.room_id, type="m.room.create", content={"room_version": room.version}, state_key="", ts=1),
        auth_events=[],
        prev_event=room.line[3].event_id,
        server=HUB.name,
        key=HUB.key,
    )
    gap = Gap.objects.get()
    gap.missing_event_id = second.event_id
    gap.save()
    assert fill([second, *room.line[:4]]) is True
    assert Event.objects.get(event_id=second.event_id).verdict == "rejected"
    assert evidence("rejected") == [second.event, room.line[0].event]


def test_an_lpdu_that_history_has_twice_is_noted_with_both_events():
    room = PeerRoom(HUB)
    room.add(lpdu=OTHER.join(room.room_id, hub=HUB.name))
    lpdu = OTHER.lpdu(room.room_id, hub=HUB.name)
    first, again = room.add(lpdu=lpdu), room.add(lpdu=lpdu)
    join(room)
    assert fill(room.line[:-1]) is True
    assert our_line(room) == ids(room.line)
    assert evidence("replay") == [first.event, again.event]


def test_row34_history_goes_on_over_an_event_that_fails_the_checks(room):
    bad = room.line[8]
    rest = [pdu for pdu in room.line[:-1] if pdu is not bad]
    assert fill(rest, passed_over={bad.event_id: bad.event["prev_events"][0]}) is True
    assert our_line(room) == [event_id for event_id in ids(room.line) if event_id != bad.event_id]


def test_an_event_that_was_passed_over_lets_its_successor_follow(room):
    fill(room.line[:-1])
    bad, after = room.add(content={"n": "bad"}), room.add(content={"n": "after"})
    stored = Room.objects.get()
    record(stored, Finding.Kind.INVALID, bad.event_id, "it is none", predecessor=bad.event["prev_events"][0])
    append_pdus(room.room_id, [after], now=timezone.now())
    assert our_line(room)[-1] == after.event_id
    assert not Finding.objects.filter(kind="fork").exists()


def test_an_event_is_not_passed_over_together_with_what_is_missing_before_it(room):
    fill(room.line[:-1])
    room.add(content={"n": "missing"})
    bad, after = room.add(content={"n": "bad"}), room.add(content={"n": "after"})
    stored = Room.objects.get()
    record(stored, Finding.Kind.INVALID, bad.event_id, "it is none", predecessor=bad.event["prev_events"][0])
    with pytest.raises(Exception, match="predecessor"):
        append_pdus(room.room_id, [after], now=timezone.now())


def test_only_so_many_events_of_a_room_are_passed_over(room):
    stored = Room.objects.get()
    for number in range(DEFAULTS.findings_per_room + 1):
        record(stored, Finding.Kind.INVALID, f"${number}", "it is none")
    assert Finding.objects.filter(kind="invalid").count() == DEFAULTS.findings_per_room
