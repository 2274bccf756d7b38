"""What happened in a room, newest first, and whether each event still proves itself.

A page is found by position, so that the first costs as much as the ten thousandth. Its events are read once, for words
and for checks; the keys are those that are stored, since looking at a page must not make anybody's server be asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.admin.utils import unquote
from django.http import Http404, HttpRequest, HttpResponse

from federation.models import OutboundLpdu
from keys.keyring import stored_keys
from linmatrix.console.rooms.frame import asked_position, room_page, show, url
from linmatrix.console.rooms.links import buttons
from linmatrix.protocol.identifiers import is_event_id
from linmatrix.readonly_admin import pretty_json, seconds_precise
from rooms.models import Event, Room
from rooms.redactions import NEVER_REDACTED
from rooms.verification import Parsed, Places, Standing, Verification, both, parse, signers, verify
from rooms.wording import happened, moment, shown

PAGE = 50
"""Events on a page: some 10 ms of checking."""

MAX_WAITING = 20
"""LPDUs shown that wait for the hub."""

LABELS = {Standing.VERIFIED: "success", Standing.NOT_VERIFIABLE: "warning", Standing.FAILS: "danger"}
VERDICT_LABELS = {
    Event.Verdict.REDACTED: "info",
    Event.Verdict.SOFT_FAILED: "warning",
    Event.Verdict.REJECTED: "danger",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One event as the timeline shows it."""

    event: Event
    url: str
    time: str
    sender: str
    what: str
    verdict: str
    verdict_label: str
    reason: str
    verification: Verification
    label: str


@room_page("rooms.view_event")
def timeline(request: HttpRequest, room: Room) -> HttpResponse:
    """A page of the line."""
    before, after = asked_position(request, "before"), asked_position(request, "after")
    events, older = _page(room, before=before, after=after)
    newest = not events or events[0].position == room.head_position
    rows = _rows(room, events[:PAGE], events[PAGE:])
    here = url("timeline", room.room_id)
    return show(
        request,
        room,
        "timeline",
        tab="timeline",
        buttons=buttons(request, room, "timeline"),
        rows=rows,
        older=f"{here}?before={rows[-1].event.position}" if older else "",
        newer=f"{here}?after={rows[0].event.position}" if rows and not newest else "",
        newest="" if newest else here,
        waiting=_waiting(room) if before is None and after is None else [],
    )


def _page(room: Room, *, before: int | None, after: int | None) -> tuple[list[Event], bool]:
    """A page's events, newest first, and the one before them where there is one; whether there is."""
    line = Event.objects.filter(room=room, position__isnull=False)
    if after is not None:
        above = list(line.filter(position__gt=after).order_by("position")[:PAGE])
        before = above[-1].position + 1 if above and above[-1].position is not None else None
    if before is not None:
        line = line.filter(position__lt=before)
    events = list(line.order_by("-position")[: PAGE + 1])
    return events, len(events) > PAGE


def _rows(room: Room, events: Sequence[Event], rest: Sequence[Event]) -> list[Row]:
    parsed = parse(events)
    keys, places = stored_keys(signers(parsed)), Places(room, parsed)
    before = [event.event_id for event in (*events[1:], *rest)]
    rows = []
    for index, item in enumerate(parsed):
        place = places.place(item, before[index] if index < len(before) else None)
        rows.append(_row(item, both(verify(item, hub=room.hub_server, keys=keys), place)))
    return rows


def _row(item: Parsed, verification: Verification) -> Row:
    event = item.event
    return Row(
        event=event,
        url=url("event", event.room_id, event.event_id),
        time=seconds_precise(moment(event.origin_server_ts)),
        sender=shown(event.sender),
        what=happened(event),
        verdict="" if event.verdict == Event.Verdict.ACCEPTED else event.verdict,
        verdict_label=VERDICT_LABELS.get(Event.Verdict(event.verdict), ""),
        reason=shown(event.reason),
        verification=verification,
        label=LABELS[verification.standing],
    )


def _waiting(room: Room) -> list[tuple[str, str, str]]:
    """Events of our users that the room's hub has not taken yet: address, sender and time."""
    if room.role == Room.Role.HUB:
        return []
    queued = OutboundLpdu.objects.filter(
        destination=room.hub_server, room_id=room.room_id, status=OutboundLpdu.Status.QUEUED
    ).order_by("id")
    columns = queued.values_list("lpdu_id", "sender", "created_at")[:MAX_WAITING]
    return [
        (url("sent", room.room_id, lpdu_id), sender, seconds_precise(created_at))
        for lpdu_id, sender, created_at in columns
    ]


@room_page("rooms.view_event")
def event(request: HttpRequest, room: Room, event_key: str) -> HttpResponse:
    """One event: what it is, what its checks say, and its JSON."""
    event_id = unquote(event_key)
    found = Event.objects.filter(room=room, event_id=event_id).first() if is_event_id(event_id) else None
    if found is None:
        raise Http404
    before = None
    if found.position is not None:
        earlier = Event.objects.filter(room=room, position__lt=found.position).order_by("-position")
        before = earlier.values_list("event_id", flat=True).first()
    parsed = parse([found])
    itself = verify(parsed[0], hub=room.hub_server, keys=stored_keys(signers(parsed)))
    place = Verification(Standing.NOT_VERIFIABLE, "its place in the line is not known here")
    if found.position is not None:
        place = Places(room, parsed).place(parsed[0], before)
    redactable = found.type not in NEVER_REDACTED and found.verdict != Event.Verdict.REDACTED
    return show(
        request,
        room,
        "event",
        tab="timeline",
        buttons=buttons(request, room, "event", event_id=event_id) if redactable else [],
        row=_row(parsed[0], both(itself, place)),
        rows=_described(found, before),
        checks=[("The event itself", itself, LABELS[itself.standing]), ("Its place", place, LABELS[place.standing])],
        json=pretty_json(found.json),
    )


def _described(event: Event, before: str | None) -> list[tuple[str, object]]:
    verdict = f"{event.get_verdict_display()}{f': {shown(event.reason)}' if event.reason else ''}"
    return [
        ("Event", event.event_id),
        ("LPDU within", event.lpdu_id or "none: the hub's own event"),
        ("Position", event.position if event.position is not None else "not known"),
        ("Follows", before or "-"),
        ("Type", shown(event.type)),
        ("State key", "none: no state" if event.state_key is None else shown(event.state_key) or "(empty)"),
        ("Sender", shown(event.sender)),
        ("Made at (UTC)", seconds_precise(moment(event.origin_server_ts))),
        ("Received at (UTC)", seconds_precise(event.received_at)),
        ("Verdict", verdict),
    ]
