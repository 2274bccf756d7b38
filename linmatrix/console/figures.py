"""The figures of the dashboard's plots: a row per minute, written by a worker, from rows' own times.

Counting is done by indexes over time (of events a BRIN index, which costs an append next to nothing). A minute is
written once it is over, and once only: a second worker's row is not kept.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from linmatrix.console.models import Minute
from linmatrix.console.standing import standing

MINUTE = timedelta(minutes=1)

KEPT = timedelta(days=14)
"""How long minutes are kept: twice the longest plot."""

MADE_UP_FOR = 60
"""Minutes that are filled in after no worker ran; of those before, nothing is known."""

SETTLES = timedelta(seconds=5)
"""How long after a minute's end what happened in it is visible: transactions that append are over by then."""

_EVENTS = """
    SELECT date_trunc('minute', received_at),
        count(*) FILTER (WHERE verdict IN ('accepted', 'redacted')), count(*) FILTER (WHERE verdict = 'redacted'),
        count(*) FILTER (WHERE verdict = 'soft-failed'), count(*) FILTER (WHERE verdict = 'rejected')
    FROM rooms_event WHERE received_at >= %s AND received_at < %s GROUP BY 1
"""
_DELIVERIES = """
    SELECT date_trunc('minute', acked_at), sum(events),
        1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acked_at - created_at)),
        1000 * percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM acked_at - created_at))
    FROM federation_outboundtransaction WHERE acked_at >= %s AND acked_at < %s GROUP BY 1
"""
_FINDINGS = """
    SELECT date_trunc('minute', created_at), count(*)
    FROM rooms_finding WHERE created_at >= %s AND created_at < %s GROUP BY 1
"""
_HAPPENED = (
    (_EVENTS, ("accepted", "redacted", "soft_failed", "rejected")),
    (_DELIVERIES, ("delivered", "half_within_ms", "most_within_ms")),
    (_FINDINGS, ("findings",)),
)
MOST_MS = 2**31 - 1


def record(*, now: datetime) -> int:
    """Write the minutes that are over and not written yet, and drop those that are old; how many were written."""
    until = (now - SETTLES).replace(second=0, microsecond=0)
    last = Minute.objects.filter(begins__gte=until - MADE_UP_FOR * MINUTE).order_by("-begins").first()
    since = last.begins + MINUTE if last else until - MADE_UP_FOR * MINUTE
    if since >= until:
        return 0
    Minute.objects.filter(begins__lt=now - KEPT).delete()
    rows = {
        since + number * MINUTE: Minute(begins=since + number * MINUTE) for number in range((until - since) // MINUTE)
    }
    for query, fields in _HAPPENED:
        for begins, *values in _ask(query, since, until):
            for field, value in zip(fields, values, strict=True):
                setattr(rows[begins], field, None if value is None else min(int(value), MOST_MS))
    stand = standing(now=now)
    newest = rows[until - MINUTE]
    newest.waiting, newest.failing = stand.waiting_servers, stand.failing_servers
    oldest = stand.oldest_waiting
    newest.oldest_seconds = max((now - oldest).total_seconds(), 0.0) if oldest else 0.0
    return len(Minute.objects.bulk_create(rows.values(), ignore_conflicts=True))


def _ask(query: str, since: datetime, until: datetime) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, [since, until])
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
        return rows
