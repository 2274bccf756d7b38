"""What a participant finds out about its hub, and what each kind of finding keeps as evidence."""

import json

import pytest
from django.utils import timezone

from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json, completion
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.receipt import receive_pdu
from linmatrix.protocol.signing import VerifyKey
from rooms import findings
from rooms.findings import Findings
from rooms.models import Event, Finding, Room, StateEntry
from rooms.participant import Predecessor, append_pdus
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db

HUB = Peer("hub.example.com")
OTHER = Peer("third.example.org")
KEYS = {
    (peer.name, peer.key.key_id): [VerifyKey.from_bytes(peer.key.public_key, valid_until_ts=2**53)]
    for peer in (HUB, OTHER)
}


@pytest.fixture
def room():
    """A room on another hub, all of whose line we have; `@user` of a third server is joined to it."""
    room = PeerRoom(HUB)
    Room.objects.create(
        room_id=room.room_id, version=room.version, role=Room.Role.PARTICIPANT, hub_server=room.hub.name
    )
    room.add(lpdu=OTHER.join(room.room_id, hub=HUB.name))
    take(room, *room.line)
    assert not Finding.objects.exists()
    return room


def take(room, *pdus):
    return append_pdus(room.room_id, pdus, now=timezone.now())


def taken_over_the_wire(event):
    return receive_pdu(check_schema(event), hub=HUB.name, keys=KEYS)


def verdict(pdu):
    return Event.objects.values_list("verdict", flat=True).get(event_id=pdu.event_id)


def evidence(kind):
    """The reason and the events of the one finding of a kind."""
    finding = Finding.objects.get(kind=kind)
    reason, _, events = finding.evidence.partition("\n")
    return reason, json.loads(events)


def test_an_honest_line_gives_no_finding(room):
    take(room, *(room.add(content={"n": number}) for number in range(3)), room.member(OTHER.user("new"), "invite"))
    assert not Finding.objects.exists()


def test_a_fork_keeps_both_events_that_the_hub_signed_after_the_same_one(room):
    before = room.line[-1]
    first, second = room.add(content={"n": 1}), room.add(content={"n": 2})
    take(room, first, second)
    fork = room.make(content={"n": 3}, prev_event=before.event_id)
    take(room, fork)
    reason, events = evidence("fork")
    assert second.event_id in reason
    assert events == [fork.event, first.event]
    assert all(event["prev_events"] == [before.event_id] for event in events)
    assert [taken_over_the_wire(event).event_id for event in events] == [fork.event_id, first.event_id]


def test_a_fork_within_one_transaction_keeps_both_events(room):
    before = room.line[-1]
    first = room.add(content={"n": 1})
    fork = room.make(content={"n": 3}, prev_event=before.event_id)
    take(room, first, fork)
    assert evidence("fork")[1] == [fork.event, first.event]


def test_a_replay_keeps_the_event_that_used_the_lpdu_first(room):
    lpdu = OTHER.lpdu(room.room_id, hub=HUB.name)
    first = room.add(lpdu=lpdu)
    take(room, first)
    again = room.add(lpdu=lpdu)
    take(room, again)
    assert evidence("replay")[1] == [again.event, first.event]
    assert verdict(again) == "rejected"


def test_a_join_replayed_after_a_leave_brings_nobody_back(room):
    join = OTHER.join(room.room_id, "late", hub=HUB.name)
    leave = OTHER.lpdu(
        room.room_id,
        hub=HUB.name,
        localpart="late",
        type="m.room.member",
        content={"membership": "leave"},
        state_key=OTHER.user("late"),
    )
    take(room, room.add(lpdu=join), left := room.add(lpdu=leave), room.add(lpdu=join))
    current = StateEntry.objects.get(type="m.room.member", state_key=OTHER.user("late"), replaced_at=None)
    assert current.event_id == left.event_id
    assert list(Finding.objects.values_list("kind", flat=True)) == ["replay"]


def test_a_rejected_event_is_kept_with_the_state_that_refuses_it(room):
    name = room.make(localpart="stranger", type="m.room.name", content={"name": "mine"}, state_key="")
    take(room, name)
    reason, events = evidence("rejected")
    assert reason == "rule 6: the sender's membership is leave, not join"
    assert events[0] == name.event
    assert [event["type"] for event in events[1:]] == ["m.room.create", "m.room.power_levels"]


def test_row59_power_levels_that_an_event_does_not_cite_count_nevertheless(room):
    takeover = {"users": {OTHER.user("user"): 100}}
    lpdu = OTHER.lpdu(room.room_id, hub=HUB.name, type="m.room.power_levels", content=takeover, state_key="")
    state = room.state
    cited = [state["m.room.create", ""].event_id, state["m.room.member", OTHER.user("user")].event_id]
    pdu = room.make(lpdu=lpdu, auth_events=cited)
    take(room, pdu)
    assert verdict(pdu) == "rejected"
    current = StateEntry.objects.get(type="m.room.power_levels", replaced_at=None)
    assert current.event_id == state["m.room.power_levels", ""].event_id


def test_row59_an_allowed_event_that_leaves_out_the_power_levels_is_taken_and_noted(room):
    levels = room.state["m.room.power_levels", ""].event_id
    honest = room.make(content={"n": 1})
    pdu = room.make(content={"n": 1}, auth_events=[cited for cited in honest.event["auth_events"] if cited != levels])
    take(room, pdu)
    assert verdict(pdu) == "accepted"
    reason, events = evidence("citation")
    assert levels in reason
    assert [event["type"] for event in events[1:]] == ["m.room.create", "m.room.power_levels", "m.room.member"]


def test_an_older_event_cited_in_place_of_the_current_one_is_noted(room):
    old = room.state["m.room.power_levels", ""].event_id
    new = room.add(
        type="m.room.power_levels", content={"users": {HUB.user("user"): 100}, "users_default": 1}, state_key=""
    )
    honest = room.make(content={"n": 1})
    stale = [old if cited == new.event_id else cited for cited in honest.event["auth_events"]]
    take(room, new, room.make(content={"n": 1}, auth_events=stale))
    assert Finding.objects.values_list("kind", flat=True).get() == "citation"


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_row31_auth_events_of_another_room_do_not_change_the_state(room, at_once):
    elsewhere = PeerRoom(HUB, localpart="elsewhere")
    Room.objects.create(
        room_id=elsewhere.room_id, version=elsewhere.version, role=Room.Role.PARTICIPANT, hub_server=HUB.name
    )
    take(elsewhere, *elsewhere.line)
    foreign = elsewhere.state["m.room.power_levels", ""].event_id
    honest = room.make(type="m.room.name", content={"name": "x"}, state_key="")
    cited = [*honest.event["auth_events"][:1], foreign, *honest.event["auth_events"][2:]]
    pdu = room.put(room.make(type="m.room.name", content={"name": "x"}, state_key="", auth_events=cited))
    after = room.add(content={"body": "after"})
    take(room, *((pdu, after) if at_once else (pdu,)))
    take(room, after)
    assert evidence("rejected")[0].startswith("rule 4.room")
    assert (verdict(pdu), verdict(after)) == ("rejected", "accepted")
    assert not StateEntry.objects.filter(room_id=room.room_id, type="m.room.name").exists()


def test_row29_a_content_that_does_not_match_is_kept_redacted_and_noted(room):
    pdu = room.make(lpdu=OTHER.lpdu(room.room_id, hub=HUB.name, content={"body": "yes"}))
    take(room, taken_over_the_wire({**pdu.event, "content": {"body": "no"}}))
    assert verdict(pdu) == "redacted"
    _, (event,) = evidence("edit")
    assert event["content"] == {}
    assert event["signatures"] == pdu.event["signatures"]


def test_row29_a_redacted_copy_is_kept_and_held_against_nobody(room):
    pdu = room.make(lpdu=OTHER.lpdu(room.room_id, hub=HUB.name, content={"body": "yes"}))
    take(room, taken_over_the_wire({**pdu.event, "content": {}}))
    assert verdict(pdu) == "redacted"
    assert not Finding.objects.exists()


def test_an_lpdu_whose_own_hash_is_wrong_is_not_held_against_the_hub(room):
    wrong = OTHER.lpdu(room.room_id, hub=HUB.name, content={"body": "as hashed"})
    lpdu = completion.make_lpdu(OTHER.event(room.room_id), hub_server=HUB.name, key=OTHER.key)
    event = {**lpdu.event, "hashes": wrong.event["hashes"]}
    del event["signatures"]
    signed = completion.signed_bytes(event)
    event["signatures"] = {OTHER.name: {OTHER.key.key_id: OTHER.key.sign(signed)}}
    redacted = {**event, "content": {}}
    pdu = room.make(lpdu=completion.Lpdu(redacted, "$x", redacted=True))
    take(room, arrived := taken_over_the_wire(canonical_json.loads(canonical_json.dumps(pdu.event))))
    assert arrived.redacted
    assert verdict(arrived) == "redacted"
    assert not Finding.objects.exists()


def test_a_finding_is_recorded_once_however_often_its_event_comes(room):
    stranger = room.make(localpart="stranger", content={})
    take(room, stranger)
    take(room, stranger)
    found = Findings(Room.objects.get())
    found.add(Finding.Kind.REJECTED, stranger, "again")
    found.add(Finding.Kind.REJECTED, stranger, "and again")
    found.write()
    assert Finding.objects.get().evidence.startswith("rule 6")


def test_findings_of_a_kind_have_a_limit_and_other_kinds_their_own(room):
    pdus = [
        room.put(room.make(localpart="stranger", content={"n": number}))
        for number in range(DEFAULTS.findings_per_room + 2)
    ]
    take(room, *pdus[: DEFAULTS.findings_per_room])
    take(room, *pdus[DEFAULTS.findings_per_room :])
    assert Finding.objects.filter(kind="rejected").count() == DEFAULTS.findings_per_room
    assert {verdict(pdu) for pdu in pdus} == {"rejected"}
    take(room, room.make(content={}, prev_event=room.line[0].event_id))
    assert Finding.objects.filter(kind="fork").count() == 1


def test_the_evidence_of_one_finding_has_a_limit(room):
    large = [room.add(content={"body": str(number) * 60_000}) for number in range(6)]
    take(room, *large)
    found = Findings(Room.objects.get())
    found.add(Finding.Kind.FORK, large[0], "large", related=[pdu.event_id for pdu in large[1:]])
    found.write()
    finding = Finding.objects.get()
    assert DEFAULTS.evidence_bytes - 62_000 < len(finding.evidence) <= DEFAULTS.evidence_bytes + 1000


@pytest.mark.parametrize("name", ["a\0b", "line\nbreak", "\u202e", "x" * 300])
def test_a_reason_that_quotes_the_hub_can_be_stored_whatever_is_in_it(room, name):
    pdu = room.make(
        type="m.room.power_levels", content={"users": {HUB.user("user"): 100}, "events": {name: 101}}, state_key=""
    )
    take(room, pdu)
    assert verdict(pdu) == "rejected"
    reason, events = evidence("rejected")
    assert events[0] == pdu.event
    assert reason.startswith("rule 9.")
    assert reason == Event.objects.values_list("reason", flat=True).get(event_id=pdu.event_id)


def test_a_reason_is_one_line_of_bounded_length():
    assert findings.one_line("a\nb\0c") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    assert len(findings.one_line("x" * 10_000)) == findings.MAX_REASON_LENGTH


def test_row52_an_event_whose_predecessor_is_unknown_is_not_appended_and_changes_nothing(room):
    before = list(Event.objects.values_list("event_id", flat=True))
    room.add(content={"body": "withheld"})
    with pytest.raises(Predecessor):
        take(room, room.add(content={"body": "new"}))
    assert list(Event.objects.values_list("event_id", flat=True)) == before
    assert not Finding.objects.exists()


def test_several_predecessors_of_which_one_is_unknown_are_a_fork(room):
    pdu = room.make(content={})
    event = {**pdu.event, "prev_events": [room.line[-1].event_id, "$unknown"]}
    take(room, completion.Pdu(event, "$several", None, canonical_json.dumps(event)))
    assert Finding.objects.get().kind == "fork"
    assert Room.objects.get().head_event_id == "$several"
