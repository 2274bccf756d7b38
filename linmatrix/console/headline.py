"""Is federation healthy? In words, each with a link to exactly the rows that it is about."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.urls import reverse

from linmatrix.console.standing import Standing

SLOW = timedelta(minutes=1)
"""An event that waits for longer has not just been sent."""

SILENT = timedelta(minutes=3)
"""Without a new minute's figures for so long, no worker is at work."""


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence of the headline. `level` is a message's in unfold: success, info, warning, error; `permission` is
    what it takes to be told."""

    level: str
    text: str
    url: str = ""
    link: str = ""
    permission: str = "federation.view_destination"


def headline(stand: Standing, *, last_figures: datetime | None, now: datetime) -> list[Line]:
    """What an operator should know first; the worst comes first, and one line at least."""
    servers = [*_failing(stand, now), *_waiting(stand, now), *_paused(stand)]
    lines = [*_workers(last_figures, now), *servers, *_left_behind(stand)]
    if not (stand.waiting_servers or stand.failing_servers or stand.set_aside or stand.paused_servers):
        lines.append(Line("success", "Everything that was sent has arrived."))
    return sorted(lines, key=lambda line: ("error", "warning", "info", "success").index(line.level))


def _workers(last_figures: datetime | None, now: datetime) -> list[Line]:
    if last_figures is None or now - last_figures < SILENT:
        return []
    text = (
        f"No worker has been at work since {clock(last_figures, now)}: nothing is delivered until worker and beat run."
    )
    return [Line("error", text)]


def _failing(stand: Standing, now: datetime) -> list[Line]:
    if not stand.failing_servers or stand.failing_since is None:
        return []
    one = stand.failing_servers == 1
    who = "1 server has" if one else f"{stand.failing_servers:,} servers have"
    first = "" if one else ", the first of them"
    text = f"{who} not been reached{first} since {clock(stand.failing_since, now)}{_events(stand, now, '; ')}."
    return [Line("warning", text, _destinations(failing_since__isnull="False"), "Which, and why")]


def _waiting(stand: Standing, now: datetime) -> list[Line]:
    if stand.failing_servers or not stand.waiting_servers:
        return []
    who = "1 server" if stand.waiting_servers == 1 else f"{stand.waiting_servers:,} servers"
    slow = stand.oldest_waiting is not None and now - stand.oldest_waiting > SLOW
    text = f"Something is on its way to {who}{_events(stand, now, ': ')}."
    return [Line("warning" if slow else "info", text, _destinations(pending__exact="1"), "Which")]


def _paused(stand: Standing) -> list[Line]:
    if not stand.paused_servers:
        return []
    who = "1 server is" if stand.paused_servers == 1 else f"{stand.paused_servers:,} servers are"
    return [Line("info", f"{who} paused: what waits there is kept.", _destinations(state="paused"), "Which, and why")]


def _left_behind(stand: Standing) -> list[Line]:
    lines = []
    if stand.set_aside:
        what = (
            "event that could not be delivered was"
            if stand.set_aside.one
            else "events that could not be delivered were"
        )
        url = _list("federation_outboundtransaction", set_aside_at__isnull="False")
        text = f"{stand.set_aside} {what} set aside."
        lines.append(Line("warning", text, url, "See them", "federation.view_outboundtransaction"))
    if stand.findings:
        what = "finding" if stand.findings.one else "findings"
        text = f"{stand.findings} {what} about other servers in the last day."
        lines.append(Line("warning", text, _list("rooms_finding"), "See them", "rooms.view_finding"))
    return lines


def _events(stand: Standing, now: datetime, before: str) -> str:
    if not stand.waiting_events:
        return ""
    verb = "event waits" if stand.waiting_events.one else "events wait"
    oldest = f", the oldest for {duration(now - stand.oldest_waiting)}" if stand.oldest_waiting else ""
    return f"{before}{stand.waiting_events} {verb}{oldest}"


def _destinations(**filters: str) -> str:
    return _list("federation_destination", **filters)


def _list(name: str, **filters: str) -> str:
    url = reverse(f"admin:{name}_changelist")
    return f"{url}?{urlencode(filters)}" if filters else url


def clock(moment: datetime, now: datetime) -> str:
    """A time of today, or a day and a time; in UTC."""
    return f"{moment:%H:%M} UTC" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M} UTC"


def duration(time: timedelta) -> str:
    """A length of time in its largest unit."""
    seconds = max(time.total_seconds(), 0.0)
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{int(seconds)} second{'' if int(seconds) == 1 else 's'}"
