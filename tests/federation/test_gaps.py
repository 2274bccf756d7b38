"""Gaps in a participant's line against a real TLS peer: filled by backfill, whatever else the hub puts into it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from federation import backoff, gaps, handshakes
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import completion
from rooms.findings import UNVERIFIABLE_GRACE
from rooms.models import Event, Finding, Gap, Room
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


@pytest.fixture
def other():
    """A third server whose keys we know; asked, it does not answer."""
    return Peer("third.invalid").publish()


@pytest.fixture
def room(tls_peer):
    """A room on the peer that alice has joined, all of whose history is here."""
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert gaps.fill_gap(Gap.objects.get().pk) is gaps.Progress.CLOSED
    return room


def our_line(room):
    events = Event.objects.filter(room_id=room.room_id, position__isnull=False).order_by("position")
    return list(events.values_list("event_id", flat=True))


def ids(pdus):
    return [pdu.event_id for pdu in pdus]


def answering(tls_peer, change):
    """Let the peer change its honest answers to backfill."""
    honest = tls_peer.endpoints["GET", "backfill"]

    def backfill(request):
        status, answer = honest(request)
        return status, {"pdus": change(answer["pdus"])}

    tls_peer.endpoints["GET", "backfill"] = backfill


def backfills(tls_peer):
    return [request for request in tls_peer.requests if request.parts[0] == "backfill"]


def ten_at_a_time_newest_first(pdus):
    return pdus[-10:][::-1]


FORMS = {
    "oldest first": lambda pdus: pdus,
    "newest first": lambda pdus: pdus[::-1],
    "ten at a time, newest first": ten_at_a_time_newest_first,
    "one at a time": lambda pdus: pdus[-1:],
    "each twice": lambda pdus: pdus * 2,
    "with event ids": lambda pdus: [{**pdu, "event_id": "$some"} for pdu in pdus],
    "among garbage": lambda pdus: [None, 5, [], {}, {"room_id": 5}, "text", *pdus, {"type": 1, "content": 2}],
}


@pytest.mark.parametrize("form", FORMS)
def test_row34_a_gap_is_filled_from_whatever_form_of_answer(form, tls_peer, room):
    answering(tls_peer, FORMS[form])
    missed = [room.add(content={"n": number}) for number in range(15)]
    new = room.add(content={"n": "new"})
    assert tls_peer.send([new.event]).json() == {"failed_pdus": {}}
    assert our_line(room) == ids(room.line)
    assert len(backfills(tls_peer)) <= 1 + len(missed)
    assert not Finding.objects.exists()


def test_events_of_another_room_in_the_answer_get_nowhere(tls_peer, room):
    elsewhere = PeerRoom(tls_peer, localpart="elsewhere")
    answering(tls_peer, lambda pdus: [*(pdu.event for pdu in elsewhere.line), *pdus])
    room.add(content={"n": "missed"})
    new = room.add(content={"n": "new"})
    assert tls_peer.send([new.event]).status_code == 200
    assert our_line(room) == ids(room.line)
    assert not Event.objects.filter(event_id__in=ids(elsewhere.line)).exists()


def spoiled_content(event):
    return {**event, "content": {"padding": "x" * 70_000}}


def without_a_sender(event):
    return {name: value for name, value in event.items() if name != "sender"}


def with_a_number_for_a_state_key(event):
    return {**event, "state_key": 5}


def without_signatures(event):
    return {**event, "signatures": {}}


def with_another_signature(event):
    (server,) = event["signatures"]
    return {**event, "signatures": {server: dict.fromkeys(event["signatures"][server], "A" * 86)}}


@pytest.mark.parametrize("spoil", [spoiled_content, without_signatures, with_another_signature])
def test_row34_an_event_in_the_gap_that_fails_the_checks_is_ignored_and_the_rest_taken(spoil, tls_peer, room):
    missed = [room.add(content={"n": number}) for number in range(3)]
    bad, new = missed[1], room.add(content={"n": "new"})
    answering(tls_peer, lambda pdus: [spoil(pdu) if pdu == bad.event else pdu for pdu in pdus])
    assert tls_peer.send([new.event]).json() == {"failed_pdus": {}}
    assert our_line(room) == [event_id for event_id in ids(room.line) if event_id != bad.event_id]
    finding = Finding.objects.get()
    assert (finding.kind, finding.event_id) == ("invalid", bad.event_id)
    assert finding.predecessor == missed[0].event_id


@pytest.mark.parametrize("spoil", [without_a_sender, with_a_number_for_a_state_key])
def test_row34_an_object_in_the_place_of_an_event_is_another_one_and_fills_nothing(spoil, tls_peer, room):
    bad, new = room.add(content={"n": "missed"}), room.add(content={"n": "new"})
    answering(tls_peer, lambda pdus: [spoil(pdu) if pdu == bad.event else pdu for pdu in pdus])
    before = our_line(room)
    assert tls_peer.send([new.event], txn_id="again").status_code == 503
    assert our_line(room) == before
    tls_peer.host(room)
    assert tls_peer.send([new.event], txn_id="again").status_code == 200
    assert our_line(room) == ids(room.line)


def test_row41_an_event_of_the_hub_that_is_no_event_does_not_stop_the_room(tls_peer, room):
    """An object whose id its successor names, and that no server could ever take: its schema is wrong."""
    event = tls_peer.event(room.room_id) | {"state_key": 5}
    bad = room.put(
        completion.complete(
            event, auth_events=[], prev_event=room.line[-1].event_id, server=tls_peer.name, key=tls_peer.key
        )
    )
    after = room.add(content={"n": "after"})
    assert tls_peer.send([bad.event, after.event]).status_code == 200
    assert our_line(room) == [event_id for event_id in ids(room.line) if event_id != bad.event_id]
    assert Finding.objects.get().kind == "invalid"
    last = room.add(content={"n": "last"})
    assert tls_peer.send([last.event]).status_code == 200
    assert our_line(room)[-1] == last.event_id


def test_an_event_whose_keys_cannot_be_had_is_waited_for_and_in_the_end_passed_over(tls_peer, room):
    gone = Peer("gone.invalid")
    bad = room.add(lpdu=gone.join(room.room_id, hub=tls_peer.name))
    after = room.add(content={"n": "after"})
    assert tls_peer.send([bad.event, after.event], txn_id="again").status_code == 503
    finding = Finding.objects.get()
    assert (finding.kind, finding.event_id) == ("unverifiable", bad.event_id)
    almost = timezone.now() - UNVERIFIABLE_GRACE + timedelta(minutes=1)
    Finding.objects.update(created_at=almost)
    assert tls_peer.send([bad.event, after.event], txn_id="again").status_code == 503
    Finding.objects.update(created_at=almost - timedelta(minutes=1))
    assert tls_peer.send([bad.event, after.event], txn_id="again").status_code == 200
    assert our_line(room)[-1] == after.event_id
    assert not Event.objects.filter(event_id=bad.event_id).exists()


def test_an_event_whose_keys_come_in_time_is_taken(tls_peer, room):
    late = Peer("late.invalid")
    joined = room.add(lpdu=late.join(room.room_id, hub=tls_peer.name))
    after = room.add(content={"n": "after"})
    assert tls_peer.send([joined.event, after.event], txn_id="again").status_code == 503
    late.publish()
    assert tls_peer.send([joined.event, after.event], txn_id="again").status_code == 200
    assert our_line(room) == ids(room.line)


def test_a_hub_that_does_not_give_what_is_missing_is_noted_and_its_events_are_not_lost(tls_peer, room):
    missed, new = room.add(content={"n": "missed"}), room.add(content={"n": "new"})
    answering(tls_peer, lambda pdus: [pdu for pdu in pdus if pdu != missed.event])
    for _ in range(2):
        assert tls_peer.send([new.event], txn_id="again").status_code == 503
    finding = Finding.objects.get()
    assert (finding.kind, finding.event_id) == ("gap", missed.event_id)
    tls_peer.host(room)
    assert tls_peer.send([new.event], txn_id="again").status_code == 200
    assert our_line(room) == ids(room.line)


def test_a_hub_that_is_in_trouble_is_not_blamed_for_a_gap(tls_peer, room):
    room.add(content={"n": "missed"})
    new = room.add(content={"n": "new"})
    tls_peer.endpoints["GET", "backfill"] = lambda _request: (500, {"errcode": "M_UNKNOWN", "error": ""})
    assert tls_peer.send([new.event]).status_code == 503
    assert not Finding.objects.exists()


def test_a_gap_longer_than_a_transaction_waits_for_is_not_taken_in_part(tls_peer, room):
    missed = [room.add(content={"n": number}) for number in range(DEFAULTS.gap_events + 1)]
    new = room.add(content={"n": "new"})
    before, asked = our_line(room), len(backfills(tls_peer))
    assert tls_peer.send([new.event], txn_id="again").status_code == 503
    assert len(backfills(tls_peer)) - asked == DEFAULTS.gap_events / gaps.PAGE
    assert our_line(room) == before
    assert tls_peer.send([missed[0].event]).status_code == 200
    assert tls_peer.send([new.event], txn_id="again").status_code == 200
    assert our_line(room) == ids(room.line)


def test_a_gap_is_given_up_after_so_many_pages(tls_peer, room):
    answering(tls_peer, lambda pdus: pdus[-1:])
    for number in range(DEFAULTS.gap_pages + 1):
        room.add(content={"n": number})
    new = room.add(content={"n": "new"})
    asked = len(backfills(tls_peer))
    assert tls_peer.send([new.event]).status_code == 503
    assert len(backfills(tls_peer)) - asked == DEFAULTS.gap_pages


def test_of_a_page_no_more_is_looked_at_than_was_asked_for(tls_peer, room):
    line = [room.add(content={"n": number}).event for number in range(gaps.PAGE + 1)]
    tls_peer.endpoints["GET", "backfill"] = lambda _request: (200, {"pdus": line})
    stored = Room.objects.get()
    assert len(gaps.fetch_page(stored, room.line[-2].event_id).events) == gaps.PAGE
    with pytest.raises(gaps.Withheld):
        gaps.fetch_page(stored, room.line[-1].event_id)


def test_row34_history_goes_on_over_a_bad_event_and_comes_to_the_creation(tls_peer):
    room = PeerRoom(tls_peer)
    messages = [room.add(content={"n": number}) for number in range(10)]
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    answering(
        tls_peer,
        lambda pdus: [spoiled_content(pdu) if pdu == messages[4].event else pdu for pdu in pdus][-3:],
    )
    assert gaps.fill_gap(Gap.objects.get().pk) is gaps.Progress.CLOSED
    assert our_line(room) == [event_id for event_id in ids(room.line) if event_id != messages[4].event_id]
    assert Finding.objects.get().kind == "invalid"


def test_history_with_an_event_whose_keys_are_missing_comes_as_far_as_that_and_later_on(tls_peer):
    late = Peer("late.invalid")
    room = PeerRoom(tls_peer)
    joined = room.add(lpdu=late.join(room.room_id, hub=tls_peer.name))
    for number in range(3):
        room.add(content={"n": number})
    room.add(lpdu=late.lpdu(room.room_id, hub=tls_peer.name))
    tls_peer.host(room)
    late.publish()
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert gaps.fill_gap(Gap.objects.get().pk) is gaps.Progress.CLOSED
    assert our_line(room) == ids(room.line)
    assert joined.event_id in our_line(room)


def test_history_that_the_hub_withholds_is_noted_and_asked_for_again(tls_peer):
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    tls_peer.endpoints["GET", "backfill"] = lambda _request: (200, {"pdus": []})
    gap = Gap.objects.get()
    assert gaps.fill_gap(gap.pk) is gaps.Progress.LATER
    assert (Finding.objects.get().kind, Finding.objects.get().event_id) == ("gap", gap.missing_event_id)
    gap.refresh_from_db()
    assert gap.failures == 1
    assert gap.next_attempt > timezone.now()


@pytest.mark.parametrize(("ahead", "due"), [(timedelta(seconds=-1), False), (timedelta(seconds=1), True)])
def test_history_put_off_by_a_wrong_clock_is_asked_for(ahead, due, tls_peer):
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    now = timezone.now()
    Gap.objects.update(next_attempt=now + backoff.longest() + ahead)
    assert bool(gaps.due_gaps(now=now)) is due
