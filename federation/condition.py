"""How a destination is, in the words that the console uses, and how much waits for it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q

from federation.blocking import BlockList, block_list, blocked_sql
from federation.models import Destination

BRIEF = timedelta(minutes=5)
"""Who has not answered for less is being backed off from, as ever on a network; after that it is failing."""

MOST_COUNTED = 1_000
"""Events that are counted of what waits for a destination; of more it is said that they are more."""

STAYS_IN_LIST = 500
STAYS_ON_PAGE = 20_000
"""Rooms of a destination that are looked at for what waits, for each of many and for a single one."""


class Condition(enum.Enum):
    """Of a destination; the first that fits."""

    BLOCKED = "blocked"
    PAUSED = "paused"
    FAILING = "failing"
    BACKING_OFF = "backing off"
    HEALTHY = "healthy"


def condition_of(destination: Destination, *, now: datetime, blocked: BlockList = block_list) -> Condition:
    """How a destination is."""
    if blocked.blocks(destination.server):
        return Condition.BLOCKED
    if destination.paused_at is not None:
        return Condition.PAUSED
    if destination.failing_since is None:
        return Condition.HEALTHY
    return Condition.FAILING if now - destination.failing_since >= BRIEF else Condition.BACKING_OFF


def in_condition(condition: Condition, *, now: datetime, blocked: BlockList = block_list) -> Q:
    """The destinations in a condition, as a filter."""
    is_blocked = blocked.among("server")
    long_ago = now - BRIEF
    running = ~held_back(blocked=blocked)
    match condition:
        case Condition.BLOCKED:
            return is_blocked
        case Condition.PAUSED:
            return ~is_blocked & Q(paused_at__isnull=False)
        case Condition.FAILING:
            return running & Q(failing_since__lte=long_ago)
        case Condition.BACKING_OFF:
            return running & Q(failing_since__gt=long_ago)
        case Condition.HEALTHY:
            return running & Q(failing_since__isnull=True)


def held_back(*, destination: str = "", blocked: BlockList = block_list) -> Q:
    """Of destinations, those that staff have paused or blocked: what waits for them does so on purpose. `destination`
    is the way there from other rows, ending in `__`."""
    return Q(**{f"{destination}paused_at__isnull": False}) | blocked.among(f"{destination}server")


HELD_BACK_SQL = f"(destination.paused_at IS NOT NULL OR {blocked_sql('destination.server')})"
"""The same as a condition of SQL's on a row of `federation_destination destination`."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Events and EDUs that a destination has still to get: a number, or the least that there are."""

    events: int
    more: bool = False

    def __str__(self) -> str:
        if self.more:
            return f"at least {self.events:,}" if self.events else "not counted: too many rooms"
        return f"{self.events:,}"


# Bounded for each destination before rooms are looked at: a server may be in a hundred thousand rooms, and have missed
# millions of events. Positions of a room that we host have no gaps, so they count its events.
_WAITING = f"""
    SELECT destination.server, lines.events, lines.stays, queue.entries
    FROM unnest(%s::text[]) AS destination (server)
    CROSS JOIN LATERAL (
        SELECT count(*) AS stays, COALESCE(sum(LEAST({MOST_COUNTED + 1}, CASE WHEN room.role = 'hub'
            THEN GREATEST(LEAST(stay.left_position, room.head_position) - stay.sent_position, 0) END)), 0) AS events
        FROM (
            SELECT room_id, left_position, sent_position FROM rooms_roomserver
            WHERE server = destination.server AND (left_position IS NULL OR sent_position < left_position)
            LIMIT %s
        ) stay JOIN rooms_room room ON room.room_id = stay.room_id
    ) lines
    CROSS JOIN LATERAL (
        SELECT count(*) AS entries FROM (
            (SELECT 1 FROM federation_outboundlpdu
            WHERE destination_id = destination.server AND status = 'queued' LIMIT {MOST_COUNTED + 1})
            UNION ALL
            (SELECT 1 FROM federation_outboundedu
            WHERE destination_id = destination.server LIMIT {MOST_COUNTED + 1})
            UNION ALL
            (SELECT 1 FROM federation_devicelistcursor
            WHERE destination_id = destination.server AND told < wanted LIMIT {MOST_COUNTED + 1})
        ) entry
    ) queue
"""  # noqa: S608  numbers of ours


def waiting_for(servers: Sequence[str], *, most_stays: int) -> dict[str, Waiting]:
    """How much waits for each of these servers: one query, which looks at `most_stays` rooms of each."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [list(servers), most_stays])
        return {
            server: Waiting(
                min(int(events) + entries, MOST_COUNTED), more=stays >= most_stays or events + entries > MOST_COUNTED
            )
            for server, events, stays, entries in cursor.fetchall()
        }
