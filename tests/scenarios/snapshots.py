"""All that a server holds of its rooms and of what is on its way, read from its database at one moment.

`tests.scenarios.verdict` compares snapshots. One is taken in a single read-only database transaction, so what stands in
it was true together, whatever web processes and workers did meanwhile.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row

from linmatrix.protocol.state import StateKey

CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a room's line."""

    position: int
    event_id: str
    lpdu_id: str | None
    verdict: str
    json: str


@dataclass(frozen=True, slots=True)
class Stay:
    """A stay of a server in a room, as that copy of the room counts positions."""

    server: str
    joined: int
    left: int | None
    sent: int


@dataclass(slots=True)
class Copy:
    """A server's copy of a room. `gaps` are the ids of events that history is missing from, with the last error."""

    room_id: str
    role: str
    hub_server: str
    head_position: int
    head_event_id: str
    line: list[Entry] = field(default_factory=list)
    state: dict[StateKey, str] = field(default_factory=dict)
    stays: list[Stay] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    redactions: dict[str, set[str]] = field(default_factory=dict)
    """Those that took effect, by the event that they name."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A server that is sent to."""

    server: str
    pending: bool
    next_attempt: datetime | None
    lease_until: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that is still to be sent, or was set aside."""

    destination: str
    txn_id: str
    events: int
    attempts: int
    last_error: str
    set_aside: bool


@dataclass(frozen=True, slots=True)
class QueuedLpdu:
    """An LPDU of the server's users; `status` as in `federation.models.OutboundLpdu`."""

    destination: str
    lpdu_id: str
    status: str
    reason: str


@dataclass(slots=True)
class Snapshot:
    """What one server has. `joins` and `leaves` are under way, as "user to room"."""

    server: str
    rooms: dict[str, Copy] = field(default_factory=dict)
    destinations: dict[str, Destination] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    lpdus: list[QueuedLpdu] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)


def snapshot(database_url: str, *, server: str) -> Snapshot:
    """Read the database of the server of that name. Raises `psycopg.OperationalError` while it is away."""
    with psycopg.connect(database_url, connect_timeout=CONNECT_SECONDS) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        taken = Snapshot(server)
        _read_rooms(connection, taken)
        _read_deliveries(connection, taken)
        return taken


def _read_rooms(connection: psycopg.Connection[Any], taken: Snapshot) -> None:
    rooms = "SELECT room_id, role, hub_server, head_position, head_event_id FROM rooms_room"
    taken.rooms = {row[0]: Copy(*row) for row in connection.execute(rooms)}
    events = (
        "SELECT room_id, position, event_id, lpdu_id, verdict, json FROM rooms_event"
        " WHERE position IS NOT NULL ORDER BY room_id, position"
    )
    for room_id, *event in connection.execute(events):
        taken.rooms[room_id].line.append(Entry(*event))
    state = "SELECT room_id, type, state_key, event_id FROM rooms_stateentry WHERE replaced_at IS NULL"
    for room_id, type_, state_key, event_id in connection.execute(state):
        taken.rooms[room_id].state[type_, state_key] = event_id
    redactions = "SELECT room_id, redacts, event_id FROM rooms_redaction WHERE applied"
    for room_id, redacts, event_id in connection.execute(redactions):
        taken.rooms[room_id].redactions.setdefault(redacts, set()).add(event_id)
    stays = (
        "SELECT room_id, server, joined_position, left_position, sent_position FROM rooms_roomserver"
        " ORDER BY room_id, server, joined_position"
    )
    for room_id, *stay in connection.execute(stays):
        taken.rooms[room_id].stays.append(Stay(*stay))
    for room_id, missing, error in connection.execute("SELECT room_id, missing_event_id, last_error FROM rooms_gap"):
        taken.rooms[room_id].gaps.append(f"{missing} ({error or 'not tried yet'})")
    for room_id, kind, event_id, evidence in connection.execute(
        "SELECT room_id, kind, event_id, evidence FROM rooms_finding ORDER BY created_at"
    ):
        taken.rooms[room_id].findings.append(f"{kind} {event_id}: {evidence.partition(chr(10))[0]}")
    # Of a join that was cut off the row stays, and holds nothing up when its lease has run out.
    joins = "SELECT user_id, room_id FROM rooms_pendingjoin WHERE lease_until > now() ORDER BY room_id, user_id"
    leaves = "SELECT user_id, room_id FROM federation_pendingleave ORDER BY room_id, user_id"
    taken.joins = [f"{user_id} to {room_id}" for user_id, room_id in connection.execute(joins)]
    taken.leaves = [f"{user_id} to {room_id}" for user_id, room_id in connection.execute(leaves)]


def _read_deliveries(connection: psycopg.Connection[Any], taken: Snapshot) -> None:
    with connection.cursor(row_factory=class_row(Destination)) as cursor:
        cursor.execute("SELECT server, pending, next_attempt, lease_until, last_error FROM federation_destination")
        taken.destinations = {row.server: row for row in cursor}
    with connection.cursor(row_factory=class_row(Transaction)) as cursor:
        cursor.execute(
            "SELECT destination_id AS destination, txn_id, events, attempts, last_error,"
            " set_aside_at IS NOT NULL AS set_aside FROM federation_outboundtransaction"
            " WHERE acked_at IS NULL AND split_at IS NULL ORDER BY id"
        )
        taken.transactions = cursor.fetchall()
    with connection.cursor(row_factory=class_row(QueuedLpdu)) as cursor:
        cursor.execute(
            "SELECT destination_id AS destination, lpdu_id, status, reason FROM federation_outboundlpdu"
            " ORDER BY destination_id, id"
        )
        taken.lpdus = cursor.fetchall()
