"""The single writer of rooms' lines: events, state and audience.

A room's line is appended to by whoever holds the lock of the room's row, and by nobody else; there is no
lock beyond that one, so rooms contend only with themselves. Under the lock there is no network and no
verification of signatures, only what must see the line's end: authorization, positions, the hub's own
signing.

`open_line` takes the lock and gives a `Line`. Callers load the state that they need, check events against
it, and `append` them one by one: state evolves in memory with each. Everything is written in a handful of
statements when the block ends, however many events there are, and is committed with it.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction

from linmatrix import prepared
from linmatrix.metrics import instruments
from linmatrix.protocol.auth_events import read_state
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.server_acl import SERVER_ACL
from linmatrix.protocol.state import CREATE, StateEvent, StateKey, member, membership
from rooms.audience import AudienceChanges
from rooms.models import Event, Room, StateEntry
from rooms.redactions import Redactions
from rooms.signals import audience_changed, events_appended
from rooms.state_events import state_event, state_events

if TYPE_CHECKING:
    from rooms.mls.line import Commits

# The statements of every append are written out: the query builder would cost as much as the signatures.
_ROOM_FIELDS = [field.attname for field in Room._meta.concrete_fields]
_SELECT_ROOM = f"SELECT {', '.join(_ROOM_FIELDS)} FROM rooms_room WHERE"  # noqa: S608  names of columns

ACCEPTED = (Event.Verdict.ACCEPTED, Event.Verdict.REDACTED)
"""Verdicts with which an event takes effect."""


_row_wait = instruments.lock_wait_seconds.labels("row")


class _Row(NamedTuple):
    pdu: Pdu
    position: int
    verdict: str
    reason: str


class Line:
    """The end of one room's line while its row is locked.

    `state` holds the entries that were loaded with `load_state`, as they are after the last appended event.
    """

    def __init__(self, room: Room, *, now: datetime) -> None:
        self.room = room
        self.now = now
        self.state: dict[StateKey, StateEvent] = {}
        # Who may send what as the state is now, with the auth events: the hub's, for messages that follow one another.
        self.allowed: dict[tuple[str, str], list[str]] = {}
        self._rows: list[_Row] = []
        self._state_rows: list[tuple[StateKey, str, int]] = []
        self._audience = AudienceChanges()
        self._moved_users: set[str] = set()
        self.moved_servers: set[str] = set()
        """Those whose stay began or ended without an event, as the room was taken over from its hub."""
        self._redactions = Redactions()
        self._first_position = room.head_position + 1
        # Of an encrypted room, once a commit comes (`rooms.mls`).
        self.commits: Commits | None = None

    @property
    def follows_create(self) -> bool:
        """Whether the last event is the create event (rule 5.2.1)."""
        create = self.state.get(CREATE)
        return create is not None and create.event_id == self.room.head_event_id

    def load_state(self, keys: Iterable[StateKey]) -> None:
        """Load the current entries of these state keys into `state`, where they are not yet.

        The create event and the server ACL always come along: every event is checked against them.
        """
        wanted = [key for key in {CREATE, SERVER_ACL, *keys} if key not in self.state]
        self.state.update(current_entries(self.room.room_id, wanted))

    def load_changes(self, since: int) -> None:
        """Load the current entries that came about after the position `since`."""
        rows = prepared.execute(
            "SELECT type, state_key FROM rooms_stateentry WHERE room_id = %s AND position > %s AND replaced_at IS NULL",
            [self.room.room_id, since],
        )
        self.load_state(rows)

    def load_state_for(self, events: Iterable[dict[str, Any]]) -> None:
        """Load the state that the rules read for these events."""
        self.load_state(
            key
            for event in events
            for key in read_state(
                type=event["type"],
                state_key=event.get("state_key"),
                sender=event["sender"],
                content=event["content"],
            )
        )

    def known_lpdus(self, lpdu_ids: Collection[str]) -> dict[str, str]:
        """Which of these LPDUs are in the room's line already: their events' ids by LPDU id (decision 38)."""
        rows = prepared.execute(
            "SELECT lpdu_id, event_id FROM rooms_event WHERE room_id = %s AND lpdu_id = ANY(%s)",
            [self.room.room_id, list(lpdu_ids)],
        )
        return dict(rows)

    def append(self, pdu: Pdu, *, verdict: str = "", reason: str = "") -> int:
        """Put an event at the end of the line and give its position.

        A state event that takes effect changes `state`, and a membership the audience; the entry it replaces
        must have been loaded, or the audience would not know who was there before.
        """
        verdict = verdict or (Event.Verdict.REDACTED if pdu.redacted else Event.Verdict.ACCEPTED)
        self.room.head_position += 1
        self.room.head_event_id = pdu.event_id
        position = self.room.head_position
        self._rows.append(_Row(pdu, position, verdict, reason))
        if verdict in ACCEPTED:
            self._redactions.record(self.room, pdu, state=self.state)
            if "state_key" in pdu.event:
                self._advance_state(pdu, position)
        return position

    def _advance_state(self, pdu: Pdu, position: int) -> None:
        key = (pdu.event["type"], pdu.event["state_key"])
        before = membership(self.state, key[1])
        self.state[key] = state_event(pdu.event_id, pdu.event)
        self.allowed.clear()
        self._state_rows.append((key, pdu.event_id, position))
        if key[0] == "m.room.member":
            after = membership(self.state, key[1])
            server = domain_of(key[1])
            self._audience.record(server=server, before=before, after=after, position=position)
            if server == settings.SERVER_NAME and (before == "join") != (after == "join"):
                self._moved_users.add(key[1])

    def write(self, *, announce: bool = True) -> None:
        """Write what was appended. `open_line` calls it at the end of its block.

        `announce` False leaves it to the caller to send `events_appended` in the same transaction.
        """
        if self.commits is not None:
            self.commits.write()
        if not self._rows:
            return
        insert_events(
            self.room.room_id,
            [(row.pdu, row.position, row.verdict, row.reason) for row in self._rows],
            received_at=self.now,
        )
        self._write_state()
        self._write_audience()
        self._redactions.write(self.room, [row.pdu.event_id for row in self._rows])
        prepared.execute(
            "UPDATE rooms_room SET head_position = %s, head_event_id = %s WHERE room_id = %s",
            [self.room.head_position, self.room.head_event_id, self.room.room_id],
        )
        if announce:
            events_appended.send(
                sender=Room, room=self.room, first_position=self._first_position, last_position=self.room.head_position
            )
        verdicts = Counter(str(row.verdict) for row in self._rows)
        transaction.on_commit(partial(_count_events, str(self.room.role), verdicts))
        self._rows, self._state_rows = [], []

    def _write_audience(self) -> None:
        users, servers = self._moved_users, self._audience.write(self.room) | self.moved_servers
        servers.discard(settings.SERVER_NAME)
        if users or servers:
            audience_changed.send(
                sender=Room, room=self.room, since_position=self._first_position, users=users, servers=servers
            )
        self._moved_users, self.moved_servers = set(), set()

    def _write_state(self) -> None:
        if not self._state_rows:
            return
        replaced: dict[StateKey, int] = {}
        entries: list[StateEntry] = []
        latest: dict[StateKey, StateEntry] = {}
        for key, event_id, position in self._state_rows:
            if key in latest:
                latest[key].replaced_at = position
            else:
                replaced[key] = position
            entry = StateEntry(room=self.room, type=key[0], state_key=key[1], event_id=event_id, position=position)
            latest[key] = entry
            entries.append(entry)
        close_state(self.room.room_id, replaced)
        StateEntry.objects.bulk_create(entries)


def _count_events(role: str, verdicts: dict[str, int]) -> None:
    for verdict, number in verdicts.items():
        instruments.events.labels(role, verdict).inc(number)


def current_entries(room_id: str, keys: Collection[StateKey]) -> dict[StateKey, StateEvent]:
    """The current state events under these keys, where there are any."""
    rows = prepared.execute(
        "SELECT entry.type, entry.state_key, entry.event_id FROM rooms_stateentry entry"
        " JOIN unnest(%s::text[], %s::text[]) AS wanted (type, state_key)"
        " ON entry.type = wanted.type AND entry.state_key = wanted.state_key"
        " WHERE entry.room_id = %s AND entry.replaced_at IS NULL",
        [[key[0] for key in keys], [key[1] for key in keys], room_id],
    )
    events = state_events.get_many([event_id for _, _, event_id in rows])
    return {(type_, state_key): events[event_id] for type_, state_key, event_id in rows}


def current_memberships(room_id: str, user_ids: Collection[str]) -> dict[StateKey, StateEvent]:
    """The current membership events of these users, where there are any. For many at once: `current_entries` is for
    the handful that an event needs, and gets slow in proportion to the square of their number."""
    rows = prepared.execute(
        "SELECT state_key, event_id FROM rooms_stateentry"
        " WHERE room_id = %s AND type = 'm.room.member' AND state_key = ANY(%s) AND replaced_at IS NULL",
        [room_id, list(user_ids)],
    )
    events = state_events.get_many([event_id for _, event_id in rows])
    return {member(user_id): events[event_id] for user_id, event_id in rows}


def close_state(room_id: str, replaced: dict[StateKey, int]) -> None:
    """End the current entries of these state keys at the given positions."""
    prepared.execute(
        "UPDATE rooms_stateentry entry SET replaced_at = new.position"
        " FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS new (type, state_key, position)"
        " WHERE entry.room_id = %s AND entry.type = new.type AND entry.state_key = new.state_key"
        " AND entry.replaced_at IS NULL",
        [[key[0] for key in replaced], [key[1] for key in replaced], list(replaced.values()), room_id],
    )


def insert_events(
    room_id: str,
    events: Sequence[tuple[Pdu, int | None, str, str]],
    *,
    received_at: datetime,
) -> None:
    """Insert events, given as (pdu, position or None, verdict, reason), in one statement.

    Arrays with binary parameters: a quarter of what an INSERT with a row of parameters per event costs. None of the
    events may be stored already, nor another one of the room with an LPDU id of theirs.
    """
    columns: list[Sequence[Any]] = [
        [pdu.event_id for pdu, *_ in events],
        [position for _, position, *_ in events],
        [pdu.lpdu_id for pdu, *_ in events],
        [pdu.event["type"] for pdu, *_ in events],
        [pdu.event.get("state_key") for pdu, *_ in events],
        [pdu.event["sender"] for pdu, *_ in events],
        [pdu.event["origin_server_ts"] for pdu, *_ in events],
        [pdu.encoded.decode() for pdu, *_ in events],
        [str(verdict) for _, _, verdict, _ in events],
        [reason for *_, reason in events],
    ]
    prepared.execute(
        "INSERT INTO rooms_event (room_id, received_at, event_id, position, lpdu_id, type, state_key, sender,"
        " origin_server_ts, json, verdict, reason) SELECT %s, %s, new.* FROM unnest(%b::text[], %b::bigint[],"
        " %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[])"
        " AS new",
        [room_id, received_at, *columns],
    )


def _locked_room(room_id: str) -> Room:
    rows = prepared.execute(f"{_SELECT_ROOM} room_id = %s FOR NO KEY UPDATE", [room_id])
    if not rows:
        raise Room.DoesNotExist(room_id)
    return Room.from_db(connection.alias, _ROOM_FIELDS, rows[0])


def rooms_by_id(room_ids: Collection[str]) -> dict[str, Room]:
    """Those of the rooms that we know, not locked."""
    rows = prepared.execute(f"{_SELECT_ROOM} room_id = ANY(%s)", [list(room_ids)])
    rooms = [Room.from_db(connection.alias, _ROOM_FIELDS, row) for row in rows]
    return {room.room_id: room for room in rooms}


@contextmanager
def open_line(room_id: str, *, now: datetime) -> Iterator[Line]:
    """Lock a room's row and give the end of its line; what was appended is committed when the block ends.

    Raises `Room.DoesNotExist`. An exception in the block leaves the room unchanged.
    """
    begun = time.perf_counter()
    with transaction.atomic():
        room = _locked_room(room_id)
        locked = time.perf_counter()
        line = Line(room, now=now)
        yield line
        line.write()
    _row_wait.observe(locked - begun)
    instruments.append_seconds.observe(time.perf_counter() - locked)


def create_line(room: Room, *, now: datetime) -> Line:
    """The empty line of a room that is being created; the caller holds a transaction and calls `write`."""
    room.save(force_insert=True)
    return Line(room, now=now)
