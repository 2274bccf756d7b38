"""The verdict on servers sees what is planted, and says which server, which room, what and where."""

from copy import deepcopy
from dataclasses import replace
from datetime import datetime

import pytest
from django.db import connection
from django.utils import timezone

from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.outbound import queue_lpdu
from linmatrix.protocol import canonical_json
from linmatrix.protocol.completion import make_lpdu, new_event
from linmatrix.protocol.hashes import event_id
from linmatrix.protocol.redaction import redact
from rooms.hub import append_own, member_event
from rooms.models import Room, RoomServer
from tests.scenarios.snapshots import Copy, Entry, QueuedLpdu, Snapshot, Stay, Transaction, snapshot
from tests.scenarios.snapshots import Destination as Sent
from tests.scenarios.verdict import Promise, differences, forgotten
from tests.support.hosted import CREATOR
from tests.support.keys import key

HUB, PEER, ROOM = "hub.example.org", "part.example.org", "!room:hub.example.org"


def line(*bodies):
    """A line of messages, each following the one before."""
    entries = []
    for position, body in enumerate(bodies, start=1):
        event = new_event(
            room_id=ROOM, sender=f"@{body}:{HUB}", type="m.room.message", content={"body": body}, origin_server_ts=1
        )
        event |= {"prev_events": [entry.event_id for entry in entries[-1:]], "hashes": {}, "signatures": {}}
        text = canonical_json.dumps(event).decode()
        entries.append(Entry(position, event_id(event), f"$lpdu-{body}", "accepted", text))
    return entries


@pytest.fixture
def taken():
    """Two servers in a room of one of them, at rest: (the hub's snapshot, the participant's)."""
    entries = line("one", "two", "three")
    state = {("m.room.name", ""): entries[0].event_id}
    hub = Copy(ROOM, "hub", HUB, 3, entries[-1].event_id, entries, state)
    hub.stays = [Stay(HUB, 1, None, 0), Stay(PEER, 2, None, 3), Stay("elsewhere.example.org", 2, 2, 2)]
    part = Copy(ROOM, "participant", HUB, 13, entries[-1].event_id)
    part.line = [replace(entry, position=entry.position + 10) for entry in entries]
    part.state = dict(state)
    destination = Sent(PEER, pending=False, next_attempt=None, lease_until=None, last_error="")
    return [Snapshot(HUB, {ROOM: hub}, {PEER: destination}), Snapshot(PEER, {ROOM: deepcopy(part)})]


def promised(id, server=HUB):
    return [Promise(server, ROOM, id)]


def test_servers_that_hold_the_same_do_not_differ(taken):
    copy = taken[0].rooms[ROOM]
    assert differences(taken, [Promise(HUB, ROOM, copy.line[0].event_id), Promise(PEER, ROOM, "$lpdu-three")]) == []


def lose(taken):
    del taken[1].rooms[ROOM].line[1]


def lose_the_last(taken):
    copy = taken[1].rooms[ROOM]
    del copy.line[2]
    copy.head_position, copy.head_event_id = 12, copy.line[-1].event_id


def swap(taken):
    copy = taken[1].rooms[ROOM]
    one, two, three = copy.line
    copy.line = [replace(two, position=11), replace(one, position=12), three]


def add(taken):
    taken[1].rooms[ROOM].line.insert(0, replace(line("another")[0], position=10))


def double(taken):
    copy = taken[0].rooms[ROOM]
    copy.line[1] = replace(copy.line[1], lpdu_id="$lpdu-one")


def change(taken):
    copy = taken[1].rooms[ROOM]
    copy.line[0] = replace(copy.line[0], json=copy.line[0].json.replace('"body":"one"', '"body":"eins"'))


def redact_at_the_hub(taken, *, by):
    """Have the hub redact the first event; the redaction is the event at this place of its line."""
    copy = taken[0].rooms[ROOM]
    copy.redactions = {copy.line[0].event_id: {copy.line[by].event_id}}
    event = redact(canonical_json.loads_object(copy.line[0].json.encode()))
    copy.line[0] = replace(copy.line[0], json=canonical_json.dumps(event).decode())


@pytest.mark.parametrize(("left_before", "told"), [(True, 0), (False, 1)])
def test_who_left_before_a_redaction_has_what_was_redacted_and_nobody_else(taken, left_before, told):
    redact_at_the_hub(taken, by=2)
    if left_before:
        hub, part = taken[0].rooms[ROOM], taken[1].rooms[ROOM]
        del part.line[2]
        part.head_position, part.head_event_id = 12, part.line[-1].event_id
        hub.stays[1] = replace(hub.stays[1], left=2, sent=2)
    assert sum("with other bytes" in text for text in differences(taken)) == told


def reject(taken):
    copy = taken[1].rooms[ROOM]
    copy.line[0] = replace(copy.line[0], verdict="rejected")


def skip(taken):
    copy = taken[0].rooms[ROOM]
    copy.line[2] = replace(copy.line[2], position=4)
    copy.head_position = 4


def other_state(taken):
    taken[1].rooms[ROOM].state["m.room.name", ""] = "$other"


def not_sent(taken):
    copy = taken[0].rooms[ROOM]
    copy.stays[1] = replace(copy.stays[1], sent=2)


def open_transaction(taken):
    taken[0].transactions.append(Transaction(PEER, "txn", 5, 7, "HTTP 500", set_aside=False))


def set_aside(taken):
    taken[0].transactions.append(Transaction(PEER, "txn", 1, 7, "HTTP 400", set_aside=True))


def queued(taken):
    taken[1].lpdus.append(QueuedLpdu(HUB, "$lpdu", "queued", ""))


def pending(taken):
    due = datetime.fromisoformat("2030-01-01T12:34:56+00:00")
    row = taken[0].destinations[PEER]
    taken[0].destinations[PEER] = replace(row, pending=True, next_attempt=due, last_error="HTTP 503")


def unknown_room(taken):
    taken[1].rooms.clear()


def gap(taken):
    taken[1].rooms[ROOM].gaps.append("$missing (not tried yet)")


def finding(taken):
    taken[1].rooms[ROOM].findings.append("fork $x: it follows other events")


def joining(taken):
    taken[1].joins.append(f"@a:{PEER} to {ROOM}")


def leaving(taken):
    taken[1].leaves.append(f"@a:{PEER} to {ROOM}")


PLANTED = [
    (lose, "lacks 1 of 2 events of its stay from 2 on"),
    (lose, "follows"),
    (lose_the_last, "lacks 1 of 2 events of its stay from 2 on"),
    (swap, "the hub has them the other way round"),
    (add, "which the hub does not have"),
    (double, "LPDU $lpdu-one is in the line 2 times"),
    (change, "with other bytes than the hub"),
    (reject, "is rejected"),
    (skip, "positions do not count from 1 without gaps"),
    (other_state, "state m.room.name '' is $other"),
    (not_sent, f"{PEER} was sent up to 2 of 3"),
    (not_sent, f"{HUB} forgot {PEER}: what follows 2"),
    (open_transaction, f"transaction txn of 5 events to {PEER} is open after 7 attempts: HTTP 500"),
    (open_transaction, f"{HUB} forgot {PEER}: transaction txn"),
    (set_aside, f"transaction txn of 1 events to {PEER} was set aside: HTTP 400"),
    (queued, f"LPDU $lpdu to {HUB} is queued"),
    (queued, f"{PEER} forgot {HUB}: LPDU $lpdu"),
    (pending, f"still to send to {PEER} (due at 12:34:56, HTTP 503)"),
    (unknown_room, f"{PEER} does not know {ROOM}"),
    (gap, "history is missing from $missing"),
    (finding, "finding fork $x"),
    (joining, f"the join of @a:{PEER} to {ROOM} is under way"),
    (leaving, f"not been told of the leave of @a:{PEER}"),
]


@pytest.mark.parametrize(
    ("plant", "told"), PLANTED, ids=[f"{plant.__name__} {number}" for number, (plant, _) in enumerate(PLANTED)]
)
def test_what_is_planted_is_told(taken, plant, told):
    plant(taken)
    assert [text for text in differences(taken) if told in text], differences(taken)


def test_an_accepted_event_that_is_nowhere_is_a_broken_promise(taken):
    assert differences(taken, promised("$gone")) == [f"{HUB} accepted $gone, which is not in {ROOM}"]


@pytest.mark.parametrize(("refusable", "broken"), [(False, 1), (True, 0)])
def test_a_refused_event_keeps_its_promise_only_where_refusals_are_expected(taken, refusable, broken):
    taken[1].lpdus.append(QueuedLpdu(HUB, "$refused", "refused", "rule 7: no"))
    found = differences(taken, [Promise(PEER, ROOM, "$refused", refusable)])
    assert len(found) == broken
    assert all("it was refused: rule 7: no" in text for text in found)


def test_what_is_marked_is_not_forgotten(taken):
    not_sent(taken)
    pending(taken)
    assert forgotten(taken[0]) == []


# What is read from a database.


def database_url():
    settings = connection.settings_dict
    return (
        f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    )


@pytest.fixture
def read(hosted):
    """Reads the test's own database, in which there is a room."""
    return lambda: snapshot(database_url(), server="hub.example.org")


def test_a_room_that_is_hosted_here_is_read_whole(read, hosted):
    now = timezone.now()
    append_own(
        hosted.room_id,
        [member_event(room_id=hosted.room_id, sender=CREATOR, user_id=CREATOR, membership="leave", now=now)],
        now=now,
    )
    copy = read().rooms[hosted.room_id]
    room = Room.objects.get()
    assert (copy.role, copy.head_position, copy.head_event_id) == ("hub", room.head_position, room.head_event_id)
    assert len(copy.line) == room.head_position
    assert copy.state["m.room.member", CREATOR] == room.head_event_id
    assert [(stay.server, stay.left) for stay in copy.stays] == [("hub.example.org", room.head_position)]
    assert differences([read()]) == []


def test_what_waits_and_is_not_marked_is_found_in_the_database(read, hosted):
    event = new_event(
        room_id=hosted.room_id, sender=CREATOR, type="m.room.message", content={"body": "x"}, origin_server_ts=1
    )
    queue_lpdu("far.example.org", make_lpdu(event, hub_server="far.example.org", key=key(1)))
    RoomServer.objects.create(
        room=hosted, server="near.example.org", joined_position=1, sent_position=0, joined_users=1
    )
    assert [text.split(":")[0] for text in forgotten(read())] == ["hub.example.org forgot near.example.org"]
    Destination.objects.update(pending=False)
    Destination.objects.create(server="near.example.org", pending=True)
    assert [text.split(":")[0] for text in forgotten(read())] == ["hub.example.org forgot far.example.org"]
    OutboundLpdu.objects.update(status="sent")
    assert forgotten(read()) == []
    OutboundTransaction.objects.create(
        destination_id="far.example.org", txn_id="t", path="/", body=b"{}", cursors=[], lpdus=[], events=1
    )
    assert [text.split(", ")[0] for text in forgotten(read())] == [
        "hub.example.org forgot far.example.org: transaction t waits"
    ]
