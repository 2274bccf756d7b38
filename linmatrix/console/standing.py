"""How federation stands at this moment, from rows that matter now: what waits, for whom, and since when.

It costs the same whatever has happened before. Destinations are as many as the servers that we talk to; of everything
else a bounded number of rows is looked at, and a number that may be larger says so (`Count.more`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count as CountOf
from django.db.models import Min, Q, QuerySet, Sum

from federation.condition import HELD_BACK_SQL, held_back
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.models.outbound import OPEN
from rooms.models import Finding, Room

MOST_COUNTED = 10_000
"""Rows of a kind that are counted; of more it is said that there are at least so many."""

MOST_SERVERS = 500
"""Servers that something waits for whose rooms are looked at, those first that are failing the longest."""

MOST_STAYS_EACH = 50
MOST_STAYS = 3_000
"""Rooms of such a server, and of all together, of which it is found out what they wait for."""

FINDINGS_OF = timedelta(days=1)

# Bounded before rooms and events are looked at: a server may be in a hundred thousand rooms.
_WAITING = f"""
    WITH behind AS MATERIALIZED (
        SELECT server FROM federation_destination destination WHERE pending AND NOT {HELD_BACK_SQL}
        ORDER BY failing_since LIMIT {MOST_SERVERS}
    ), stay AS MATERIALIZED (
        SELECT stay.* FROM behind CROSS JOIN LATERAL (
            SELECT server, room_id, left_position, sent_position FROM rooms_roomserver
            WHERE server = behind.server AND (left_position IS NULL OR sent_position < left_position)
            LIMIT {MOST_STAYS_EACH}
        ) stay LIMIT {MOST_STAYS}
    ), unsent AS MATERIALIZED (
        SELECT stay.room_id, stay.sent_position,
            LEAST(stay.left_position, room.head_position) - stay.sent_position AS events
        FROM stay JOIN rooms_room room ON room.room_id = stay.room_id
        WHERE room.role = 'hub' AND room.head_position > stay.sent_position
    )
    SELECT COALESCE(sum(events), 0)::bigint, min(event.received_at),
        (SELECT count(*) FROM behind) >= {MOST_SERVERS} OR (SELECT count(*) FROM stay) >= {MOST_STAYS}
            OR EXISTS (SELECT FROM stay GROUP BY server HAVING count(*) >= {MOST_STAYS_EACH})
    FROM unsent LEFT JOIN LATERAL (
        SELECT received_at FROM rooms_event
        WHERE room_id = unsent.room_id AND position = unsent.sent_position + 1
    ) event ON true
"""  # noqa: S608  numbers of ours


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows, or the least that there are."""

    number: int
    more: bool = False

    def __str__(self) -> str:
        return f"at least {self.number:,}" if self.more else f"{self.number:,}"

    def __bool__(self) -> bool:
        return self.number > 0

    @property
    def one(self) -> bool:
        """Whether it is spoken of in the singular."""
        return self.number == 1 and not self.more


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand. Events are those on their way to other servers, one for each server that is to have it. Servers
    that staff have paused or blocked neither fail nor are waited for."""

    rooms_hosted: Count
    rooms_joined: Count
    servers: int
    waiting_servers: int
    failing_servers: int
    failing_since: datetime | None
    paused_servers: int
    waiting_events: Count
    oldest_waiting: datetime | None
    set_aside: Count
    findings: Count


def standing(*, now: datetime) -> Standing:
    """Ask the database: always the same number of queries."""
    running = ~held_back()
    failing = running & Q(failing_since__isnull=False)
    servers = Destination.objects.aggregate(
        all=CountOf("pk"),
        waiting=CountOf("pk", filter=running & Q(pending=True)),
        failing=CountOf("pk", filter=failing),
        since=Min("failing_since", filter=failing),
        paused=CountOf("pk", filter=Q(paused_at__isnull=False)),
    )
    waiting_events, oldest = _waiting()
    return Standing(
        rooms_hosted=counted(Room.objects.filter(role=Room.Role.HUB)),
        rooms_joined=counted(Room.objects.filter(role=Room.Role.PARTICIPANT)),
        servers=servers["all"],
        waiting_servers=servers["waiting"],
        failing_servers=servers["failing"],
        failing_since=servers["since"],
        paused_servers=servers["paused"],
        waiting_events=waiting_events,
        oldest_waiting=oldest,
        set_aside=_set_aside(),
        findings=counted(Finding.objects.filter(created_at__gt=now - FINDINGS_OF)),
    )


def counted(rows: "QuerySet[Any]") -> Count:
    """How many rows there are, up to `MOST_COUNTED`."""
    number = rows.order_by()[: MOST_COUNTED + 1].count()
    return Count(min(number, MOST_COUNTED), more=number > MOST_COUNTED)


def _waiting() -> tuple[Count, datetime | None]:
    """Events that are still to be sent, and when the oldest of them came."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        events, received_at, more = cursor.fetchone()
    running = ~held_back(destination="destination__")
    queued = OutboundLpdu.objects.filter(running, status=OutboundLpdu.Status.QUEUED).order_by()[: MOST_COUNTED + 1]
    lpdus = queued.aggregate(number=CountOf("pk"), oldest=Min("created_at"))
    under_way = OutboundTransaction.objects.filter(OPEN, running).order_by()[: MOST_COUNTED + 1]
    transactions = under_way.aggregate(events=Sum("events"), oldest=Min("created_at"))
    # What is under way is among the events of the rooms, of which not all may have been looked at.
    number = max(events + lpdus["number"], transactions["events"] or 0)
    times = [time for time in (received_at, lpdus["oldest"], transactions["oldest"]) if time is not None]
    return Count(number, more=bool(number) and (more or lpdus["number"] > MOST_COUNTED)), min(times, default=None)


def _set_aside() -> Count:
    """Events in transactions that were set aside."""
    rows = OutboundTransaction.objects.filter(set_aside_at__isnull=False).order_by()[: MOST_COUNTED + 1]
    found = rows.aggregate(transactions=CountOf("pk"), events=Sum("events"))
    return Count(found["events"] or 0, more=found["transactions"] > MOST_COUNTED)
