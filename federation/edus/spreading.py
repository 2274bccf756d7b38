"""Working out whom to tell of which devices, after what happened in rooms and to devices.

A device that changes concerns all servers that its user shares a room with; a user who joins a room, all servers in it;
a server that is new in a room, all of our users there; and the same backwards when somebody leaves. What happens writes
one row, `DeviceListNotice`, in its own database transaction. A worker goes through the pairs of a user and a server
that the row concerns, in batches, and brings each to what is true *then*: a pair that shares a room has a cursor, which
wants all that there is; one that does not has none. So a notice may be gone through twice, or late, or after others.

Who left just before or after is concerned as well: a room's state goes on naming users who left, and of servers a
notice takes those that were in the room at any event from its position on. Of two that leave, the later one's notice
finds the pair.

Notices take turns, batch by batch: one of an enormous room does not keep the others waiting, nor does one that fails.

One worker at a time does this, wherever it runs: what it has looked at must not be undone by one that looked earlier.
"""

import logging
import time
from collections.abc import Iterable

from django.conf import settings
from django.db import DatabaseError, transaction

from federation.models import DeviceListNotice
from federation.outbound import mark_pending
from federation.wake import alarm_clock
from linmatrix import prepared
from rooms.audience import IS_JOINED_SQL, sharing

logger = logging.getLogger(__name__)

TASK = "federation.tasks.spread_device_lists"

PAIRS = 500
"""Pairs of one database transaction: some tens of milliseconds."""

SECONDS = 20.0
"""How long a worker goes on at a stretch before it makes room for other tasks."""

NAMED_AT_MOST = 50
"""Users and servers whose coming and going in one append is noted one by one; of more, the whole room is gone
through."""

_LOCK = 0x6C6D6465
"""Of the worker that goes through notices; the number is of no meaning."""

# Each gives the pairs after the last that was looked at, in order.
_ALL_ROOMS = f"""
    SELECT DISTINCT entry.state_key, stay.server
    FROM rooms_stateentry entry
    JOIN rooms_roomserver stay ON stay.room_id = entry.room_id AND stay.left_position IS NULL
    WHERE entry.state_key = %(user)s AND {IS_JOINED_SQL}
    AND stay.server <> %(us)s AND stay.server > %(done_server)s
    ORDER BY stay.server LIMIT %(most)s
"""  # noqa: S608  texts of ours

# All whom the room's state names, those who left among them: `sharing` then says what is true. One user more than
# pairs, as all of the first one's may have been looked at.
_USERS = """
    SELECT state_key AS user_id FROM rooms_stateentry
    WHERE room_id = %(room)s AND type = 'm.room.member' AND replaced_at IS NULL
    AND substr(state_key, strpos(state_key, ':') + 1) = %(us)s
    AND (%(user)s = '' OR state_key = %(user)s) AND state_key >= %(done_user)s
    ORDER BY state_key LIMIT %(most)s + 1
"""
_SERVERS = """
    SELECT DISTINCT server FROM rooms_roomserver
    WHERE room_id = %(room)s AND (left_position IS NULL OR left_position >= %(since)s)
    AND server <> %(us)s AND (%(server)s = '' OR server = %(server)s)
    AND (local.user_id, server) > (%(done_user)s, %(done_server)s)
    ORDER BY server LIMIT %(most)s
"""
_ONE_ROOM = f"""
    SELECT local.user_id, other.server FROM ({_USERS}) local CROSS JOIN LATERAL ({_SERVERS}) other
    ORDER BY local.user_id, other.server LIMIT %(most)s
"""  # noqa: S608  texts of ours

# In one order, as whoever sends does: `_WANT` and `_FORGET` come to rows of one destination one after the other.
_LOCK_CURSORS = """
    SELECT FROM federation_devicelistcursor cursor
    JOIN unnest(%s::text[], %s::text[]) AS pair (user_id, server)
    ON cursor.destination_id = pair.server AND cursor.user_id = pair.user_id
    ORDER BY cursor.destination_id, cursor.user_id FOR UPDATE OF cursor
"""
_WANT = """
    INSERT INTO federation_devicelistcursor (destination_id, user_id, told, wanted)
    SELECT pair.server, pair.user_id, 0, list.stream_id
    FROM unnest(%s::text[], %s::text[]) AS pair (user_id, server)
    JOIN keys_devicelist list ON list.user_id = pair.user_id AND list.stream_id > 0
    ORDER BY pair.server, pair.user_id
    ON CONFLICT (destination_id, user_id)
    DO UPDATE SET wanted = GREATEST(federation_devicelistcursor.wanted, excluded.wanted)
    RETURNING CASE WHEN told < wanted THEN destination_id END
"""
_FORGET = """
    DELETE FROM federation_devicelistcursor cursor USING unnest(%s::text[], %s::text[]) AS pair (user_id, server)
    WHERE cursor.destination_id = pair.server AND cursor.user_id = pair.user_id
"""


def note_change(user_id: str) -> None:
    """Note that a local user's devices changed. Called in the transaction that changes them."""
    _note([DeviceListNotice(user_id=user_id)])


def note_moves(room_id: str, *, since_position: int, users: Iterable[str], servers: Iterable[str]) -> None:
    """Note that local users joined or left a room, and that stays of other servers in it began or ended, at that
    position or after it. Called in the transaction that appends."""
    users, servers = sorted(users), sorted(servers)
    where = {"room_id": room_id, "since_position": since_position}
    if len(users) + len(servers) > NAMED_AT_MOST:
        _note([DeviceListNotice(**where)])
        return
    _note(
        [DeviceListNotice(user_id=user_id, **where) for user_id in users]
        + [DeviceListNotice(server=server, **where) for server in servers]
    )


def _note(notices: list[DeviceListNotice]) -> None:
    if notices:
        DeviceListNotice.objects.bulk_create(notices)
        transaction.on_commit(wake)


def wake(*, expires: float | None = None) -> None:
    """Have a worker go through the notices; pointless and dropped after `expires` seconds."""
    alarm_clock.publish(TASK, [SECONDS], expires=expires)


def notices_wait() -> bool:
    """Whether there is something to go through: for the sweep."""
    return DeviceListNotice.objects.exists()


def spread(*, seconds: float = SECONDS) -> bool:
    """Go through notices for about so long, each in turn, a batch at a time; whether to come back at once.

    One that fails is left for the next time, and the others go on. Nothing is done while another worker is at it, and
    that one will see to what is there.
    """
    ends = time.monotonic() + seconds
    last, failed = 0, set[int]()
    while time.monotonic() < ends:
        notice = None
        try:
            with transaction.atomic(durable=True):
                if not prepared.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])[0][0]:
                    return False
                notice = _next(last, failed)
                if notice is None:
                    return False
                pairs = _pairs(notice)
                due = _bring_up_to_date(pairs)
            # Apart, since whoever sends locks destinations before cursors. Until this is done the batch is not, either.
            with transaction.atomic(durable=True):
                _note_progress(notice, pairs)
                mark_pending(due)
        except DatabaseError:
            if notice is None:
                raise
            logger.exception("it could not be worked out whom to tell of %s", notice)
            failed.add(notice.pk)
        last = notice.pk
    return True


def _next(last: int, failed: set[int]) -> DeviceListNotice | None:
    """The notice after one that was just looked at, around to the oldest, and none that failed."""
    rows = DeviceListNotice.objects.exclude(pk__in=failed).order_by("id")
    return rows.filter(pk__gt=last).first() or rows.first()


def _note_progress(notice: DeviceListNotice, pairs: list[tuple[str, str]]) -> None:
    row = DeviceListNotice.objects.filter(pk=notice.pk)
    if len(pairs) < PAIRS:
        row.delete()
    else:
        row.update(done_user=pairs[-1][0], done_server=pairs[-1][1])


def _pairs(notice: DeviceListNotice) -> list[tuple[str, str]]:
    """The next pairs that a notice concerns."""
    parameters = {
        "user": notice.user_id,
        "room": notice.room_id,
        "server": notice.server,
        "since": notice.since_position,
        "us": settings.SERVER_NAME,
        "done_user": notice.done_user,
        "done_server": notice.done_server,
        "most": PAIRS,
    }
    rows = prepared.execute(_ONE_ROOM if notice.room_id else _ALL_ROOMS, parameters)
    return [(user_id, server) for user_id, server in rows]


def _bring_up_to_date(pairs: list[tuple[str, str]]) -> set[str]:
    """Have these pairs' cursors say what is true now; the servers to which something is due."""
    if not pairs:
        return set()
    prepared.execute(_LOCK_CURSORS, [*map(list, zip(*pairs, strict=True))])
    shared = sorted(sharing(pairs))
    due: set[str] = set()
    if shared:
        due = {server for (server,) in prepared.execute(_WANT, [*map(list, zip(*shared, strict=True))]) if server}
    if others := sorted(set(pairs).difference(shared)):
        prepared.execute(_FORGET, [*map(list, zip(*others, strict=True))])
    return due
