"""Every way to break a promise is found, and a kept one is not taken for broken: each test plants one fault."""

import json

import pytest

from soak.ledger import Entry
from soak.reckoning import lost_joins, promises, reckon
from tests.scenarios import snapshots
from tests.scenarios.snapshots import Copy, QueuedLpdu, Snapshot, Stay

ROOM, HUB, OTHER = "!room:hub", "hub", "other"
ANN, BOB = f"@ann:{HUB}", f"@bob:{OTHER}"


def entry(number, *, answer="accepted", actor=BOB, id=None, verb="message", waited=True, reason=""):
    """An action and its answer."""
    return Entry(
        number=number,
        at=float(number),
        seconds=0.1,
        actor=actor,
        room_id=ROOM,
        verb=verb,
        other="",
        answer=answer,
        event_id=f"$lpdu{number}" if id is None else id,
        reason=reason,
        waited=waited,
        text=f"text {number}",
    )


def line(*numbers):
    """The messages of these numbers, in this order."""
    return [
        snapshots.Entry(
            position,
            f"$event{position}",
            f"$lpdu{number}",
            "accepted",
            json.dumps({"content": {"body": f"text {number}"}}),
        )
        for position, number in enumerate(numbers, start=1)
    ]


def servers(*numbers, lpdus=(), stays=(), theirs=()):
    """A hub with these messages in its room, and another server with `theirs` in its copy."""
    hub = Copy(ROOM, "hub", HUB, len(numbers), "", line=line(*numbers), stays=list(stays))
    other = Copy(ROOM, "participant", HUB, len(theirs), "", line=line(*theirs))
    queue = [QueuedLpdu(HUB, id, status, "") for id, status in lpdus]
    return [Snapshot(HUB, {ROOM: hub}), Snapshot(OTHER, {ROOM: other} if theirs else {}, lpdus=queue)]


def found(entries, taken):
    """What is wrong: lost, duplicated, anything else."""
    reckoning = reckon(entries, taken)
    return len(reckoning.lost), len(reckoning.duplicated), len(reckoning.wrong)


def test_kept_promises_are_counted_and_nothing_is_found():
    entries = [entry(1), entry(2, answer="queued", waited=False), entry(3, answer="unknown", id=""), entry(4)]
    reckoning = reckon(entries, servers(1, 2, 3, 4))
    assert (reckoning.sent, reckoning.lost, reckoning.duplicated, reckoning.wrong) == (4, [], [], [])


def test_an_accepted_event_that_is_not_in_the_line_is_lost():
    assert found([entry(1), entry(2)], servers(1)) == (1, 0, 0)


def test_a_queued_event_that_is_not_in_the_line_is_lost():
    assert found([entry(1), entry(2, answer="queued", waited=False)], servers(1)) == (1, 0, 0)


def test_one_that_the_hub_refused_in_the_end_is_not_lost():
    """The twin of the test above."""
    taken = servers(1, lpdus=[("$lpdu2", "refused")])
    assert found([entry(1), entry(2, answer="queued", waited=False)], taken) == (0, 0, 0)


def test_one_whose_sender_was_told_that_it_is_in_the_line_cannot_be_refused_later():
    taken = servers(1, lpdus=[("$lpdu2", "refused")])
    assert found([entry(1), entry(2)], taken) == (1, 0, 0)


def test_an_lpdu_that_its_hub_acknowledged_and_does_not_have_is_lost_whoever_sent_it():
    assert found([], servers(1, lpdus=[("$lpdu1", "sent"), ("$lpdu2", "sent")])) == (1, 0, 0)


def test_what_was_cut_off_may_be_there_once_or_not_at_all():
    entries = [entry(1, answer="unknown", id="")]
    assert found(entries, servers()) == (0, 0, 0)
    assert found(entries, servers(1)) == (0, 0, 0)


def test_what_is_in_the_line_twice_is_a_duplicate():
    assert found([entry(1, answer="unknown", id="")], servers(1, 1)) == (0, 1, 0)


def test_what_was_refused_must_not_be_in_the_line():
    assert found([entry(1, answer="refused", id="")], servers()) == (0, 0, 0)
    assert found([entry(1, answer="refused", id="")], servers(1)) == (0, 0, 1)


def test_what_only_the_hub_accepts_is_wrong():
    assert found([entry(1, answer="disputed", id="")], servers(1)) == (0, 0, 1)


def test_a_senders_messages_keep_their_order():
    assert found([entry(1), entry(2)], servers(1, 2)) == (0, 0, 0)
    assert found([entry(1), entry(2)], servers(2, 1)) == (0, 0, 1)


def test_those_of_two_senders_need_none():
    """The twin of the test above: only one sender differs."""
    assert found([entry(1), entry(2, actor=ANN)], servers(2, 1)) == (0, 0, 0)


def test_only_what_nobody_waited_for_may_be_refused_in_the_end():
    made = promises([entry(1), entry(2, waited=False), entry(3, answer="refused", id="")])
    assert [(one.server, one.id, one.refusable) for one in made] == [(OTHER, "$lpdu1", False), (OTHER, "$lpdu2", True)]


@pytest.mark.parametrize(
    ("answer", "theirs", "lost"),
    [("unknown", (), {(OTHER, ROOM)}), ("unknown", (1,), set()), ("accepted", (), set())],
    ids=["cut off", "cut off, and known after all", "answered"],
)
def test_a_join_whose_answer_was_lost_is_one_that_the_server_does_not_know(answer, theirs, lost):
    taken = servers(1, 2, stays=[Stay(OTHER, 1, None, 2)], theirs=theirs)
    assert lost_joins([entry(1, verb="join", answer=answer)], taken) == lost
