"""Taking part in a room that another server hosts: its line as the hub sends it, checked again.

Draft section "Receiving Events/PDUs"; decisions 38 to 42, 83, 92. A participant does not decide what the
line is, the hub does; it checks every event with the same rules. What fails keeps its place in the line,
takes no effect, and becomes a `Finding`.

Our positions need not be the hub's. A stay begins at a position well above what we have, and the history
before it, fetched afterwards, fills the positions below it downwards (`insert_history`).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from linmatrix.protocol import auth_rules
from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.state import State, StateKey
from rooms.append import Line, close_state, insert_events, open_line
from rooms.models import Event, Finding, Gap, PendingJoin, Room, RoomServer, StateEntry
from rooms.state_events import state_event

HISTORY_POSITIONS = 2**32
"""Positions kept free before a stay for the history that precedes it; no room has had as many events."""

JOIN_LEASE = timedelta(seconds=90)
"""How long a join may take before the room's events are no longer held up for it: the timeout of its two
requests and time to check the answer."""


class Predecessor(Exception):
    """An event's predecessor is not in our line: it must be fetched before the event can be appended."""

    def __init__(self, pdu: Pdu) -> None:
        super().__init__(f"the predecessor of {pdu.event_id} is not known")
        self.pdu = pdu


def known_events(room_id: str, event_ids: Collection[str]) -> set[str]:
    """Which of these events have a place in our copy of the room's line."""
    known = Event.objects.filter(event_id__in=event_ids, room_id=room_id, position__isnull=False)
    return set(known.values_list("event_id", flat=True))


def _stored(event_ids: Iterable[str]) -> set[str]:
    """Which of these events we have, in the line or outside of it: neither is to be appended again."""
    return set(Event.objects.filter(event_id__in=list(event_ids)).values_list("event_id", flat=True))


def append_pdus(room_id: str, pdus: Sequence[Pdu], *, now: datetime) -> list[str]:
    """Append checked PDUs from the room's hub in the order of their arrival; ids of those that are new.

    Raises `Predecessor`, with nothing changed, when one's predecessor is unknown; `Room.DoesNotExist`.
    """
    with open_line(room_id, now=now) as line:
        stored = _stored(pdu.event_id for pdu in pdus)
        known = known_events(room_id, _predecessors(pdus))
        known_lpdus = line.known_lpdus([pdu.lpdu_id for pdu in pdus if pdu.lpdu_id])
        cited = _cited_events([event_id for pdu in pdus for event_id in pdu.event["auth_events"]])
        line.load_state_for(pdu.event for pdu in pdus)
        appended: list[str] = []
        for pdu in pdus:
            if pdu.event_id in stored:
                continue
            if pdu.event["prev_events"] and not known.intersection(pdu.event["prev_events"]):
                raise Predecessor(pdu)
            _append_one(line, pdu, known_lpdus, cited)
            stored.add(pdu.event_id)
            known.add(pdu.event_id)
            cited[pdu.event_id] = _cited(pdu)
            appended.append(pdu.event_id)
    return appended


def _append_one(line: Line, pdu: Pdu, known_lpdus: dict[str, str], cited: dict[str, CitedEvent]) -> None:
    _note_fork(line.room, pdu)
    if pdu.redacted:
        _find(line.room, Finding.Kind.EDIT, pdu, "the content does not match its hash")
    if pdu.lpdu_id in known_lpdus:
        reason = f"its LPDU was used before, in {known_lpdus[pdu.lpdu_id]}"
        _find(line.room, Finding.Kind.REPLAY, pdu, reason)
        line.append(_without_lpdu_id(pdu), verdict=Event.Verdict.REJECTED, reason=reason)
        return
    try:
        authorize(pdu, state=line.state, version=line.room.version, follows_create=line.follows_create, cited=cited)
    except Rejected as refusal:
        _find(line.room, Finding.Kind.REJECTED, pdu, str(refusal))
        line.append(pdu, verdict=Event.Verdict.REJECTED, reason=str(refusal))
    else:
        line.append(pdu)
    if pdu.lpdu_id:
        known_lpdus[pdu.lpdu_id] = pdu.event_id


def authorize(pdu: Pdu, *, state: State, version: str, follows_create: bool, cited: dict[str, CitedEvent]) -> None:
    """Check a PDU against the state before it and the events that it cites. Raises `Rejected`."""
    auth_rules.check(
        AuthorizedEvent.of(pdu.event),
        state=state,
        room_version=ROOM_VERSIONS[version],
        previous_is_create=follows_create,
        auth_events=cited,
    )


def _note_fork(room: Room, pdu: Pdu) -> None:
    """Record that the event does not follow our last one alone, which an honest hub's events do (decision 83)."""
    if pdu.event["prev_events"] != [room.head_event_id]:
        _find(room, Finding.Kind.FORK, pdu, f"it follows other events than {room.head_event_id}")


def _find(room: Room, kind: Finding.Kind, pdu: Pdu, reason: str) -> None:
    Finding.objects.get_or_create(
        room=room,
        kind=kind,
        event_id=pdu.event_id,
        defaults={"server": room.hub_server, "evidence": f"{reason}\n{pdu.encoded.decode()}"},
    )


def _without_lpdu_id(pdu: Pdu) -> Pdu:
    """The event without the id of an LPDU that another event of the room has."""
    return Pdu(pdu.event, pdu.event_id, None, pdu.encoded, pdu.redacted)


def _predecessors(pdus: Sequence[Pdu]) -> set[str]:
    return {event_id for pdu in pdus for event_id in pdu.event["prev_events"]}


def _cited(pdu: Pdu) -> CitedEvent:
    return CitedEvent(pdu.event["room_id"], pdu.event["type"], pdu.event.get("state_key"))


def _cited_events(event_ids: Collection[str]) -> dict[str, CitedEvent]:
    rows = Event.objects.filter(event_id__in=event_ids).values_list("event_id", "room_id", "type", "state_key")
    return {event_id: CitedEvent(room_id, type_, state_key) for event_id, room_id, type_, state_key in rows}


def hold_for_join(room_id: str, user_id: str, *, now: datetime) -> None:
    """Note that a join is under way: events of the room that arrive meanwhile wait for it."""
    PendingJoin.objects.update_or_create(room_id=room_id, user_id=user_id, defaults={"lease_until": now + JOIN_LEASE})


def release_join(room_id: str, user_id: str) -> None:
    """Note that the join has ended, however it did."""
    PendingJoin.objects.filter(room_id=room_id, user_id=user_id).delete()


def join_under_way(room_ids: Collection[str], *, now: datetime) -> bool:
    """Whether one of our users is joining one of the rooms at this moment."""
    return PendingJoin.objects.filter(room_id__in=room_ids, lease_until__gt=now).exists()


def begin_stay(
    *, room_id: str, hub: str, version: str, state: Sequence[Pdu], auth_chain: Sequence[Pdu], join: Pdu, now: datetime
) -> Room:
    """Store what a hub answered to our join and begin a stay in its room.

    `state` is the room's state before `join`, whose events passed `protocol.receipt`, and must allow it.
    Where our line ends just before the join, our own state counts, and the answer's is not looked at.
    Raises `Rejected`, also for a room that we know under another hub or version.
    """
    with transaction.atomic():
        room, _ = Room.objects.get_or_create(
            room_id=room_id,
            defaults={"version": version, "role": Room.Role.PARTICIPANT, "hub_server": hub},
        )
        if (room.hub_server, room.version) != (hub, version):
            raise Rejected("3.2", f"{room_id} is known with the hub {room.hub_server} and version {room.version}")
        with open_line(room_id, now=now) as line:
            if known_events(room_id, [join.event_id]):
                return room
            if join.event["prev_events"] != [line.room.head_event_id]:
                _adopt_state(line, state=state, auth_chain=auth_chain, join=join)
            line.load_state_for([join.event])
            cited = _cited_events(join.event["auth_events"])
            authorize(join, state=line.state, version=version, follows_create=False, cited=cited)
            line.append(join)
        PendingJoin.objects.filter(room_id=room_id).delete()
    return room


def _adopt_state(line: Line, *, state: Sequence[Pdu], auth_chain: Sequence[Pdu], join: Pdu) -> None:
    """Take a hub's word for the state before a join that does not follow what we know."""
    room, position = line.room, line.room.head_position + HISTORY_POSITIONS
    outliers = {pdu.event_id: pdu for pdu in (*auth_chain, *state)}
    stored = _stored(outliers)
    new = [pdu for event_id, pdu in outliers.items() if event_id not in stored]
    _insert(line, [(pdu, None) for pdu in new])
    entries = {(pdu.event["type"], pdu.event["state_key"]): pdu for pdu in state}
    _replace_state(room, entries, position=position - 1)
    _replace_stays(room, entries, position=position - 1)
    for key, pdu in entries.items():
        line.state[key] = state_event(pdu.event_id, pdu.event)
    room.head_position = position - 1
    Gap.objects.get_or_create(
        room=room,
        before_position=position,
        defaults={"missing_event_id": join.event["prev_events"][0], "next_attempt": line.now},
    )


def _replace_state(room: Room, entries: dict[StateKey, Pdu], *, position: int) -> None:
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
        batch_size=1000,
    )


def _same(entry: StateEntry, entries: dict[StateKey, Pdu]) -> bool:
    pdu = entries.get((entry.type, entry.state_key))
    return pdu is not None and pdu.event_id == entry.event_id


def _replace_stays(room: Room, entries: dict[StateKey, Pdu], *, position: int) -> None:
    """Count the joined users of every server anew, since we did not see all of their changes."""
    joined = Counter(
        domain_of(key[1])
        for key, pdu in entries.items()
        if key[0] == "m.room.member" and pdu.event["content"].get("membership") == "join"
    )
    stays = {stay.server: stay for stay in RoomServer.objects.filter(room=room, left_position__isnull=True)}
    for server, stay in stays.items():
        stay.joined_users = joined.pop(server, 0)
        stay.left_position = None if stay.joined_users else position
        stay.save(update_fields=["joined_users", "left_position"])
    RoomServer.objects.bulk_create(
        RoomServer(room=room, server=server, joined_position=position, sent_position=position, joined_users=count)
        for server, count in joined.items()
    )


def insert_history(gap: Gap, pdus: Sequence[Pdu], *, now: datetime) -> bool:
    """Fill a gap from its newer end with checked events, oldest first; whether it is closed now.

    Each event must be the one that its successor names, so that the hub cannot put anything else there
    (threat T33); the rest is not used. The gap closes at the create event or at an event that we have.
    """
    with open_line(gap.room_id, now=now) as line:
        current = Gap.objects.select_for_update().filter(pk=gap.pk).first()
        if current is None or current.missing_event_id != gap.missing_event_id:
            return current is None  # another worker was faster
        gap = current
        by_id = {pdu.event_id: pdu for pdu in pdus}
        known = known_events(gap.room_id, by_id.keys() | _predecessors(pdus) | {gap.missing_event_id})
        chain: list[Pdu] = []
        missing: str | None = gap.missing_event_id
        while missing is not None and missing not in known and missing in by_id:
            pdu = by_id[missing]
            chain.append(pdu)
            missing = next(iter(pdu.event["prev_events"]), None)
        _insert_before(line, chain, gap.before_position)
        if missing is None or missing in known:
            gap.delete()
            return True
        gap.before_position -= len(chain)
        gap.missing_event_id = missing
        gap.failures, gap.last_error, gap.next_attempt = 0, "", now
        gap.save()
    return False


def _insert_before(line: Line, chain: Sequence[Pdu], before_position: int) -> None:
    """Insert events, newest first, at the positions below `before_position`."""
    positions = {pdu.event_id: before_position - offset for offset, pdu in enumerate(chain, start=1)}
    outliers = list(Event.objects.filter(event_id__in=positions, room=line.room, position__isnull=True))
    for outlier in outliers:
        outlier.position = positions.pop(outlier.event_id)
    Event.objects.bulk_update(outliers, ["position"])
    _insert(line, [(pdu, positions[pdu.event_id]) for pdu in chain if pdu.event_id in positions])


def _insert(line: Line, events: Sequence[tuple[Pdu, int | None]]) -> None:
    """Store accepted events that are not at the line's end, given with their positions.

    An LPDU id that another event has already is left out, as for a replay at the end of the line.
    """
    used = line.known_lpdus([pdu.lpdu_id for pdu, _ in events if pdu.lpdu_id])
    rows = []
    for pdu, position in events:
        verdict = Event.Verdict.REDACTED if pdu.redacted else Event.Verdict.ACCEPTED
        rows.append((_without_lpdu_id(pdu) if pdu.lpdu_id in used else pdu, position, verdict, ""))
        used[pdu.lpdu_id or ""] = pdu.event_id
    insert_events(line.room.room_id, rows, received_at=line.now)
