"""The console's first page: whether federation is healthy, how things stand, and how they went.

Everybody sees what their permissions let them see in the lists as well. The page is drawn whole; a script then fetches
the same figures again and again (`figures`) and puts them in their places, so that nobody loses theirs.
"""

from datetime import datetime
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from linmatrix.console import plots
from linmatrix.console.headline import Line, clock, duration, headline
from linmatrix.console.standing import Count, Standing, standing

REFRESH_SECONDS = 15
WITHOUT_SCRIPT_SECONDS = 60


class Tile(NamedTuple):
    """A number at a glance, and the list of what it counts."""

    text: str
    value: str
    url: str
    permission: str
    note: str = ""
    level: str = ""


def add_figures(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What console/dashboard.html needs besides what every page of the console has."""
    now = timezone.now()
    span = request.GET.get("span", plots.DEFAULT_SPAN)
    span = span if span in plots.SPANS else plots.DEFAULT_SPAN
    stand = standing(now=now)
    shown = [plot for plot in plots.PLOTS if request.user.has_perm(plot.permission)]
    rows = plots.points(span, now=now)
    lines = headline(stand, last_figures=plots.last_figures(), now=now)
    told = [line for line in lines if request.user.has_perm(line.permission)]
    columns = [series for plot in shown for series in plot.series]
    return {
        **context,
        "title": "Dashboard",
        "headline": told or [_NOT_ALLOWED],
        "tiles": [tile for tile in _tiles(stand, now) if request.user.has_perm(tile.permission)],
        "plots": [(plot, plots.said(plot, rows, span)) for plot in shown],
        "drawn": plots.drawn(shown, rows, span),
        "columns": [f"{series.text} ({plot.unit})" for plot in shown for series in plot.series],
        "table": [(row[0], [plots.shown(row[series.column]) for series in columns]) for row in reversed(rows)],
        "spans": [(name, words, name == span) for name, (words, _, _) in plots.SPANS.items()],
        "span": span,
        "now": now,
        "refresh_seconds": REFRESH_SECONDS,
        "without_script_seconds": WITHOUT_SCRIPT_SECONDS,
    }


def figures(request: HttpRequest) -> HttpResponse:
    """The parts of the dashboard that change, for the script that shows it."""
    return render(request, "console/dashboard/figures.html", add_figures(request, {}))


_NOT_ALLOWED = Line("info", "Whether federation is healthy is shown to staff who may view destinations.")
"""For who is told nothing else."""


def _tiles(stand: Standing, now: datetime) -> list[Tile]:
    rooms, servers = _list("rooms_room"), _list("federation_destination")
    oldest = stand.oldest_waiting
    return [
        Tile("Rooms hosted here", str(stand.rooms_hosted), f"{rooms}?role__exact=hub", "rooms.view_room"),
        Tile("Rooms hosted elsewhere", str(stand.rooms_joined), f"{rooms}?role__exact=participant", "rooms.view_room"),
        Tile("Servers we send to", f"{stand.servers:,}", servers, "federation.view_destination"),
        Tile(
            "Servers waited for", f"{stand.waiting_servers:,}", f"{servers}?pending__exact=1",
            "federation.view_destination",
            note=_events(stand.waiting_events),
        ),
        Tile(
            "Servers failing", f"{stand.failing_servers:,}", f"{servers}?failing_since__isnull=False",
            "federation.view_destination", level="danger" if stand.failing_servers else "",
            note=f"since {clock(stand.failing_since, now)}" if stand.failing_since else "all were reached",
        ),
        Tile(
            "Oldest event that waits", duration(now - oldest) if oldest else "-", f"{servers}?pending__exact=1",
            "federation.view_destination", note=f"came {clock(oldest, now)}" if oldest else "",
        ),
        Tile(
            "Events set aside", str(stand.set_aside),
            f"{_list('federation_outboundtransaction')}?set_aside_at__isnull=False",
            "federation.view_outboundtransaction", level="warning" if stand.set_aside else "",
            note="could not be delivered" if stand.set_aside else "",
        ),
        Tile(
            "Findings of a day", str(stand.findings), _list("rooms_finding"), "rooms.view_finding",
            level="warning" if stand.findings else "",
        ),
    ]  # fmt: skip


def _events(number: Count) -> str:
    return f"{number} event{'' if number.one else 's'}" if number else "nothing waits"


def _list(name: str) -> str:
    return reverse(f"admin:{name}_changelist")
