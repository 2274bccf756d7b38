"""Who is in a room: its members, and the servers that get what happens there, each with how far it has come."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.admin.utils import quote
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from federation.admin.destinations import LABELS as LABELS_OF_CONDITIONS
from federation.condition import condition_of
from federation.models import Destination
from linmatrix.console.rooms.actions import IN_ROOM
from linmatrix.console.rooms.frame import asked, asked_position, room_page, show, url
from linmatrix.console.rooms.links import address, buttons
from linmatrix.protocol.identifiers import domain_of
from rooms.members import PRESENT, Member, page_of_members
from rooms.models import Room, RoomServer
from rooms.wording import shown

PAGE = 100
"""Members or servers on a page."""

MEMBERSHIPS = {"join": "joined", "invite": "invited", "knock": "asks to be let in", "ban": "banned"}
LABELS = {"join": "success", "invite": "info", "knock": "warning", "ban": "danger"}

POSSIBLE = {
    "join": ("power", "kick", "ban"),
    "invite": ("kick", "ban"),
    "knock": ("invite", "kick", "ban"),
    "ban": ("unban",),
}
"""What can be done about who has a membership, by others."""


@room_page("rooms.view_stateentry")
def members(request: HttpRequest, room: Room) -> HttpResponse:
    """A page of members, by user id."""
    chosen, contains = asked(request, "membership"), asked(request, "q")
    found = page_of_members(
        room.room_id,
        after=asked(request, "after"),
        contains=contains,
        memberships=(chosen,) if chosen in PRESENT else PRESENT,
        limit=PAGE + 1,
    )
    rows = [_member(request, room, member) for member in found[:PAGE]]
    here = url("members", room.room_id)
    given = {name: value for name, value in (("q", contains), ("membership", chosen)) if value}
    return show(
        request,
        room,
        "members",
        tab="members",
        buttons=buttons(request, room, "members"),
        rows=rows,
        q=contains,
        chosen=chosen,
        choices=MEMBERSHIPS.items(),
        first=f"{here}?{urlencode(given)}" if asked(request, "after") else "",
        following=f"{here}?{urlencode({**given, 'after': found[PAGE - 1].user_id})}" if len(found) > PAGE else "",
    )


def _member(request: HttpRequest, room: Room, member: Member) -> dict[str, Any]:
    ours = domain_of(member.user_id) == settings.SERVER_NAME
    names = (*POSSIBLE[member.membership], *(("leave",) if ours and member.membership != "ban" else ()))
    return {
        "user_id": shown(member.user_id),
        "name": shown(member.display_name, limit=80),
        "membership": MEMBERSHIPS[member.membership],
        "label": LABELS[member.membership],
        "level": member.level,
        "ours": ours,
        "event": url("event", room.room_id, member.event_id),
        "links": [
            ("Leave" if name == "leave" else "Power" if name == "power" else IN_ROOM[name].title,
             address(room.room_id, name, user_id=member.user_id))
            for name in names if IN_ROOM[name].allowed(request)
        ],
    }  # fmt: skip


class ServerRow(NamedTuple):
    """A server's stay as the page shows it."""

    server: str
    url: str
    users: int
    ended: bool
    lag: int | None
    health: str
    label: str
    since: str


@room_page("rooms.view_roomserver")
def servers(request: HttpRequest, room: Room) -> HttpResponse:
    """A page of the servers in the room by name, or of those that have left, or lack something."""
    chosen = asked(request, "show")
    after, position = asked(request, "after"), asked_position(request, "from")
    # A server may have left often: its stays may be on several pages.
    further = Q(server__gt=after) | Q(server=after, joined_position__gt=position) if position else Q(server__gt=after)
    stays = RoomServer.objects.filter(further, room=room)
    if chosen == "behind":
        stays = stays.filter(_behind(room)).exclude(server=settings.SERVER_NAME)
    elif chosen == "left":
        stays = stays.filter(left_position__isnull=False)
    else:
        stays = stays.filter(left_position__isnull=True)
    found = list(stays.order_by("server", "joined_position")[: PAGE + 1])
    page = found[:PAGE]
    here = url("servers", room.room_id)
    given = {"show": chosen} if chosen else {}
    last = {"after": page[-1].server, "from": page[-1].joined_position} if len(found) > PAGE else {}
    return show(
        request,
        room,
        "servers",
        tab="servers",
        buttons=buttons(request, room, "servers"),
        rows=_stays(request, room, page),
        chosen=chosen,
        hosted=room.role == Room.Role.HUB,
        head=room.head_position,
        following=f"{here}?{urlencode({**given, **last})}" if last else "",
        here=here,
    )


def _behind(room: Room) -> Q:
    """The stays whose servers have not been sent all of it."""
    ended = Q(left_position__isnull=False, sent_position__lt=F("left_position"))
    return ended | Q(left_position__isnull=True, sent_position__lt=room.head_position)


def _stays(request: HttpRequest, room: Room, stays: Sequence[RoomServer]) -> list[ServerRow]:
    names = {stay.server for stay in stays}
    may_look = request.user.has_perm("federation.view_destination")
    found = Destination.objects.filter(server__in=names) if may_look else ()
    known = {destination.server: destination for destination in found}
    rows = [_stay(room, stay, known.get(stay.server)) for stay in stays]
    return rows if may_look else [row._replace(health="", label="") for row in rows]


def _stay(room: Room, stay: RoomServer, destination: Destination | None) -> ServerRow:
    lag = None
    if room.role == Room.Role.HUB and stay.server != settings.SERVER_NAME:
        end = room.head_position if stay.left_position is None else stay.left_position
        lag = max(0, end - stay.sent_position)
    health, label = _health(stay, destination)
    return ServerRow(
        server=shown(stay.server),
        url=reverse("admin:federation_destination_change", args=[quote(stay.server)]) if destination else "",
        users=stay.joined_users,
        ended=stay.left_position is not None,
        lag=lag,
        health=health,
        label=label,
        since=f"from {stay.joined_position} to {stay.left_position}" if stay.left_position is not None else "",
    )


def _health(stay: RoomServer, destination: Destination | None) -> tuple[str, str]:
    """How a server is, in the words of the list of destinations, and the colour of it."""
    if stay.server == settings.SERVER_NAME:
        return "this server", "info"
    if destination is None:
        return "nothing sent yet", ""
    condition = condition_of(destination, now=timezone.now())
    return condition.value, LABELS_OF_CONDITIONS[condition.value]
