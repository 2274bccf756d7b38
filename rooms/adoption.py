"""Taking over a room's state from its hub's answer to our join, where our line does not reach up to it.

Draft section "POST send_join"; decision 92. What is taken over has been checked (`rooms.join_answer`). The events
get no place in the line yet: `rooms.history` finds it for them. The position before the stay's first counts as the
one where all of the state came about.
"""

from collections import Counter
from collections.abc import Mapping

from linmatrix.protocol.events import Pdu
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.state import StateKey
from rooms.append import Line, close_state, insert_events
from rooms.join_answer import CheckedAnswer
from rooms.models import Event, Gap, Room, RoomServer, StateEntry
from rooms.redactions import redact_inserted
from rooms.state_events import state_event

HISTORY_POSITIONS = 2**32
"""Positions kept free before a stay for the history that precedes it; no room has had as many events."""

ROWS_PER_STATEMENT = 1000


def adopt_state(line: Line, answer: CheckedAnswer, *, missing_event_id: str) -> None:
    """Make the answer's state the room's, and leave a gap before it that begins with `missing_event_id`."""
    room, position = line.room, line.room.head_position + HISTORY_POSITIONS - 1
    _store(line, answer)
    _replace_state(room, answer.state, position=position)
    line.moved_servers |= _replace_stays(room, answer.state, position=position)
    line.state.clear()
    for key, pdu in answer.state.items():
        line.state[key] = state_event(pdu.event_id, pdu.event)
    room.head_position = position
    Gap.objects.get_or_create(
        room=room,
        before_position=position + 1,
        defaults={"missing_event_id": missing_event_id, "next_attempt": line.now},
    )


def _store(line: Line, answer: CheckedAnswer) -> None:
    """Store what is new of the answer; the id of an LPDU stays with the event that had it first."""
    ids = [pdu.event_id for pdu in answer.events]
    stored = set(Event.objects.filter(event_id__in=ids).values_list("event_id", flat=True))
    new = [pdu for pdu in answer.events if pdu.event_id not in stored]
    used = line.known_lpdus([pdu.lpdu_id for pdu in new if pdu.lpdu_id])
    rows = []
    for pdu in new:
        verdict = Event.Verdict.REDACTED if pdu.redacted else Event.Verdict.ACCEPTED
        first = not pdu.lpdu_id or used.setdefault(pdu.lpdu_id, pdu.event_id) == pdu.event_id
        rows.append((pdu if first else pdu._replace(lpdu_id=None), None, verdict, ""))
    if rows:
        insert_events(line.room.room_id, rows, received_at=line.now)
        redact_inserted(line.room, new)


def _replace_state(room: Room, entries: Mapping[StateKey, Pdu], *, position: int) -> None:
    current = StateEntry.objects.filter(room=room, replaced_at__isnull=True)
    same = {entry.event_id for entry in current if _same(entry, entries)}
    gone = [(entry.type, entry.state_key) for entry in current if entry.event_id not in same]
    close_state(room.room_id, dict.fromkeys(gone, position))
    StateEntry.objects.bulk_create(
        [
            StateEntry(room=room, type=key[0], state_key=key[1], event_id=pdu.event_id, position=position)
            for key, pdu in entries.items()
            if pdu.event_id not in same
        ],
        batch_size=ROWS_PER_STATEMENT,
    )


def _same(entry: StateEntry, entries: Mapping[StateKey, Pdu]) -> bool:
    pdu = entries.get((entry.type, entry.state_key))
    return pdu is not None and pdu.event_id == entry.event_id


def _replace_stays(room: Room, entries: Mapping[StateKey, Pdu], *, position: int) -> set[str]:
    """Count the joined users of every server anew, since we did not see all of their changes; the servers of which a
    stay began or ended."""
    joined = Counter(
        domain_of(key[1])
        for key, pdu in entries.items()
        if key[0] == "m.room.member" and pdu.event["content"].get("membership") == "join"
    )
    moved: set[str] = set()
    for stay in RoomServer.objects.filter(room=room, left_position__isnull=True):
        stay.joined_users = joined.pop(stay.server, 0)
        stay.left_position = None if stay.joined_users else position
        stay.save(update_fields=["joined_users", "left_position"])
        if stay.left_position is not None:
            moved.add(stay.server)
    RoomServer.objects.bulk_create(
        RoomServer(room=room, server=server, joined_position=position, sent_position=position, joined_users=count)
        for server, count in joined.items()
    )
    return moved | joined.keys()
