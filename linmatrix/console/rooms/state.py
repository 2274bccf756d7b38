"""What is in force in a room, and what is held against its hub."""

from django.contrib.admin.utils import quote
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from linmatrix.console.rooms.frame import asked, room_page, show, url
from linmatrix.console.rooms.links import buttons
from linmatrix.readonly_admin import list_link, pretty_json, seconds_precise
from rooms.models import Event, Finding, Gap, Room, StateEntry
from rooms.wording import happened, shown

PAGE = 50
"""Entries on a page, each with its JSON."""

MAX_FINDINGS = 50
"""The latest; the list has all."""

MAX_GAPS = 50
"""Places at once where history is missing."""


@room_page("rooms.view_stateentry")
def state(request: HttpRequest, room: Room) -> HttpResponse:
    """A page of the current state by type and state key, but for memberships, which have a page of their own."""
    last = Event.objects.filter(room=room, event_id=asked(request, "after"), state_key__isnull=False).first()
    after = Q(type__gt=last.type) | Q(type=last.type, state_key__gt=last.state_key) if last else Q()
    entries = StateEntry.objects.filter(after, room=room, replaced_at__isnull=True).exclude(type="m.room.member")
    # By columns that the unique index of the current state has, in its order.
    found = list(entries.select_related("event").order_by("type", "state_key")[: PAGE + 1])
    rows = [
        {
            "type": shown(entry.type),
            "state_key": shown(entry.state_key),
            "what": happened(entry.event),
            "sender": shown(entry.event.sender),
            "time": seconds_precise(entry.event.received_at),
            "url": url("event", room.room_id, entry.event_id),
            "json": pretty_json(entry.event.json),
        }
        for entry in found[:PAGE]
    ]
    return show(
        request,
        room,
        "state",
        tab="state",
        buttons=buttons(request, room, "state"),
        rows=rows,
        # By an event, since types and state keys may be anything.
        after=found[PAGE - 1].event_id if len(found) > PAGE else "",
        past=list_link(StateEntry, "All entries, past ones too", room=room.pk),
    )


@room_page("rooms.view_finding")
def findings(request: HttpRequest, room: Room) -> HttpResponse:
    """The latest findings about the room's hub, and where history is missing."""
    found = Finding.objects.filter(room=room).order_by("-created_at", "-pk")[:MAX_FINDINGS]
    gaps = Gap.objects.filter(room=room).order_by("-before_position")[:MAX_GAPS]
    return show(
        request,
        room,
        "findings",
        tab="findings",
        buttons=buttons(request, room, "findings"),
        hosted=room.role == Room.Role.HUB,
        findings=[
            {
                "time": seconds_precise(finding.created_at),
                "kind": finding.get_kind_display(),
                "server": shown(finding.server),
                "reason": shown(finding.evidence.partition("\n")[0], limit=500),
                "url": reverse("admin:rooms_finding_change", args=[quote(finding.pk)]),
            }
            for finding in found
        ],
        gaps=[
            {
                "position": gap.before_position,
                "missing": shown(gap.missing_event_id),
                "failures": gap.failures,
                "next": seconds_precise(gap.next_attempt),
                "error": shown(gap.last_error, limit=500),
            }
            for gap in gaps
        ],
        all_findings=list_link(Finding, "All findings of the room", room=room.pk),
    )
