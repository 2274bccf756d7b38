"""The dashboard's plots: what is drawn, from the minutes of `linmatrix.console.figures`.

However long the time that is shown, there are some eighty points: minutes are put together by PostgreSQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from linmatrix.console.figures import MINUTE, SETTLES
from linmatrix.console.models import Minute

SPANS: dict[str, tuple[str, timedelta, timedelta]] = {
    "hour": ("an hour", timedelta(hours=1), timedelta(minutes=1)),
    "quarter": ("6 hours", timedelta(hours=6), timedelta(minutes=5)),
    "day": ("a day", timedelta(days=1), timedelta(minutes=15)),
    "week": ("a week", timedelta(days=7), timedelta(hours=2)),
}
"""What can be shown: in words, how long, and how long a point stands for."""

DEFAULT_SPAN = "hour"

# Of a point without minutes nothing is known, which is drawn as a gap.
_POINTS = """
    SELECT point, accepted, delivered, half, most, oldest, failing, waiting, redacted, soft_failed, rejected, findings
    FROM generate_series(%(first)s::timestamptz, %(last)s::timestamptz, %(step)s::interval) AS point
    LEFT JOIN (
        SELECT date_bin(%(step)s::interval, begins, %(first)s::timestamptz) AS point,
            avg(accepted)::float AS accepted, avg(delivered)::float AS delivered,
            avg(half_within_ms)::float / 1000 AS half, max(most_within_ms)::float / 1000 AS most,
            max(oldest_seconds) AS oldest, max(failing) AS failing, max(waiting) AS waiting,
            sum(redacted) AS redacted, sum(soft_failed) AS soft_failed, sum(rejected) AS rejected,
            sum(findings) AS findings
        FROM console_minute WHERE begins >= %(first)s GROUP BY 1
    ) AS figure USING (point)
    ORDER BY point
"""


@dataclass(frozen=True, slots=True)
class Series:
    """A line or a row of bars: the column of `_POINTS` that it shows, and one of console.css's colours."""

    column: int
    text: str
    color: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot; `scale` is linear or logarithmic."""

    name: str
    title: str
    unit: str
    kind: str
    series: tuple[Series, ...]
    permission: str
    scale: str = "linear"


PLOTS = (
    Plot(
        "events", "Events", "a minute", "line",
        (Series(1, "accepted", "blue"), Series(2, "delivered", "green", dashed=True)), "rooms.view_event",
    ),
    Plot(
        "lag", "Delivery lag", "seconds", "line",
        (
            Series(3, "half arrived within", "green"),
            Series(4, "19 of 20 within", "orange"),
            Series(5, "oldest that waits", "red", dashed=True),
        ),
        "federation.view_destination", scale="logarithmic",
    ),
    Plot(
        "servers", "Servers not up to date", "servers", "line",
        (Series(6, "failing", "red"), Series(7, "something waits", "blue", dashed=True)), "federation.view_destination",
    ),
    Plot(
        "verdicts", "Events not accepted as they were", "events", "bar",
        (
            Series(8, "redacted", "blue"), Series(9, "soft-failed", "orange"), Series(10, "rejected", "red"),
            Series(11, "findings", "violet"),
        ),
        "rooms.view_event",
    ),
)  # fmt: skip


def points(span: str, *, now: datetime) -> list[tuple[Any, ...]]:
    """The points of a span of `SPANS`, oldest first, as `_POINTS` has its columns."""
    _, length, step = SPANS[span]
    seconds = int(step.total_seconds())
    newest = (now - MINUTE - SETTLES).timestamp()  # of minutes that may be written
    last = datetime.fromtimestamp(newest // seconds * seconds, tz=now.tzinfo)
    with connection.cursor() as cursor:
        cursor.execute(_POINTS, {"first": last - length + step, "last": last, "step": f"{seconds} seconds"})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def drawn(plots: Sequence[Plot], rows: Sequence[tuple[Any, ...]], span: str) -> dict[str, Any]:
    """What console/dashboard.js draws, as JSON has it."""
    day = SPANS[span][1] > timedelta(days=1)
    return {
        "labels": [f"{row[0]:%a %H:%M}" if day else f"{row[0]:%H:%M}" for row in rows],
        "plots": {
            plot.name: {
                "kind": plot.kind,
                "scale": plot.scale,
                "whole": plot.unit in ("servers", "events"),
                "series": [
                    {
                        "text": series.text,
                        "color": series.color,
                        "dashed": series.dashed,
                        # A logarithm has no place for zero: nothing waits, and nothing is drawn.
                        "values": [_value(row[series.column], plot) for row in rows],
                    }
                    for series in plot.series
                ],
            }
            for plot in plots
        },
    }


def _value(value: float | None, plot: Plot) -> float | None:
    if value is None or (plot.scale == "logarithmic" and value <= 0):
        return None
    return round(float(value), 3)


def said(plot: Plot, rows: Sequence[tuple[Any, ...]], span: str) -> str:
    """A plot in words, for who does not see it."""
    parts = []
    for series in plot.series:
        values = [row[series.column] for row in rows if row[series.column] is not None]
        parts.append(
            f"{series.text}: {shown(values[-1])} at last, {shown(max(values))} at most"
            if values
            else f"{series.text}: none"
        )
    return f"{plot.title} ({plot.unit}), {SPANS[span][0]}. {'; '.join(parts)}."


def shown(value: float | None) -> str:
    """A figure for people."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:.2f}"


def last_figures() -> datetime | None:
    """When the newest minute that a worker wrote was over."""
    newest = Minute.objects.order_by("-begins").values_list("begins", flat=True).first()
    return newest + MINUTE if newest else None
