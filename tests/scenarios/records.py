"""What a running server has in its database, read from outside of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from linmatrix.protocol.state import StateKey
from linmatrix.stack.server import Server


@dataclass(frozen=True, slots=True)
class Record:
    """An event of a line, as stored."""

    position: int
    event_id: str
    lpdu_id: str | None
    verdict: str
    json: str


@contextmanager
def _connection(server: Server) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        yield connection


def line(server: Server, room_id: str) -> list[Record]:
    """A room's events in the order of their positions."""
    with _connection(server) as connection, connection.cursor(row_factory=class_row(Record)) as cursor:
        return cursor.execute(
            "SELECT position, event_id, lpdu_id, verdict, json FROM rooms_event WHERE room_id = %s ORDER BY position",
            [room_id],
        ).fetchall()


def current_state(server: Server, room_id: str) -> dict[StateKey, str]:
    """The ids of a room's current state events."""
    with _connection(server) as connection:
        rows = connection.execute(
            "SELECT type, state_key, event_id FROM rooms_stateentry WHERE room_id = %s AND replaced_at IS NULL",
            [room_id],
        ).fetchall()
    return {(type_, state_key): event_id for type_, state_key, event_id in rows}


def stays(server: Server, room_id: str) -> dict[str, tuple[int, int]]:
    """The servers that are in a room now: how many joined users, and the position up to which each was sent to."""
    with _connection(server) as connection:
        rows = connection.execute(
            "SELECT server, joined_users, sent_position FROM rooms_roomserver"
            " WHERE room_id = %s AND left_position IS NULL",
            [room_id],
        ).fetchall()
    return {name: (joined_users, sent_position) for name, joined_users, sent_position in rows}


def head(server: Server, room_id: str) -> tuple[int, str]:
    """The position and id of a room's last event."""
    with _connection(server) as connection:
        row = connection.execute(
            "SELECT head_position, head_event_id FROM rooms_room WHERE room_id = %s", [room_id]
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def waiting(server: Server) -> list[str]:
    """The destinations that are not known to have everything."""
    with _connection(server) as connection:
        rows = connection.execute("SELECT server FROM federation_destination WHERE pending ORDER BY server").fetchall()
    return [name for (name,) in rows]
