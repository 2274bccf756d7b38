"""What a room's pages have in common: who may see them, the room in words, tabs, and buttons for what can be done."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from linmatrix.pages import Button, Crumb, page
from linmatrix.protocol.encryption import room_algorithm
from linmatrix.protocol.identifiers import is_room_id
from linmatrix.protocol.state import CREATE
from rooms.models import Room, RoomServer
from rooms.overview import members_of, name_of, with_overview
from rooms.state import current_state
from rooms.wording import shown

MAX_QUERY_LENGTH = 255
"""Characters of a search: more than an id has."""


class Tab(NamedTuple):
    """One of a room's pages; `permission` is needed beside the one to see rooms. `of_encrypted` is for those of which
    nothing leads to them where the room is not encrypted."""

    name: str
    text: str
    permission: str
    of_encrypted: bool = False


TABS = (
    Tab("timeline", "Timeline", "rooms.view_event"),
    Tab("members", "Members", "rooms.view_stateentry"),
    Tab("state", "State", "rooms.view_stateentry"),
    Tab("servers", "Servers", "rooms.view_roomserver"),
    Tab("findings", "Findings", "rooms.view_finding"),
    Tab("encryption", "Encryption", "rooms.view_mlsgroup", of_encrypted=True),
)

RoomView = Callable[..., HttpResponse]


def room_page(permission: str) -> Callable[[RoomView], Callable[..., HttpResponse]]:
    """A view of a room, for staff who may see rooms and have `permission`; the room comes with its overview."""

    def decorate(view: RoomView) -> Callable[..., HttpResponse]:
        def allowed(request: HttpRequest, key: str, **more: Any) -> HttpResponse:
            if not request.user.has_perms(("rooms.view_room", permission)):
                raise PermissionDenied
            return view(request, room_or_404(key), **more)

        return admin.site.admin_view(allowed)

    return decorate


def room_or_404(key: str) -> Room:
    """The room that an address names, with its overview."""
    room_id = unquote(key)
    room = with_overview(Room.objects.filter(pk=room_id)).first() if is_room_id(room_id) else None
    if room is None:
        raise Http404
    return room


def url(name: str, room_id: str, *more: str) -> str:
    """The address of one of a room's pages."""
    return reverse(f"room:{name}", args=[quote(room_id), *map(quote, more)])


def crumbs(room: Room) -> list[Crumb]:
    """The way to a room's page."""
    return [Crumb("Rooms", reverse("admin:rooms_room_changelist")), Crumb(title_of(room), url("room", room.room_id))]


def title_of(room: Room) -> str:
    """The room's name, or its id where it has none."""
    return name_of(room) or room.room_id


def show(
    request: HttpRequest, room: Room, template: str, *, tab: str, buttons: Iterable[Button] = (), **context: Any
) -> HttpResponse:
    """One of a room's pages."""
    algorithm = algorithm_of(room)
    seen = [item for item in visible_tabs(request) if algorithm or not item.of_encrypted]
    return page(
        request,
        f"console/rooms/{template}.html",
        title=title_of(room),
        crumbs=crumbs(room)[:1],
        buttons=buttons,
        room=room,
        about=_about(room, algorithm),
        tabs=[(item.text, url(item.name, room.room_id), item.name == tab) for item in seen],
        **context,
    )


def visible_tabs(request: HttpRequest) -> list[Tab]:
    """The pages that the operator may see."""
    return [tab for tab in TABS if request.user.has_perm(tab.permission)]


def algorithm_of(room: Room) -> str:
    """The algorithm that the room is encrypted with, empty for none."""
    return room_algorithm(current_state(room.room_id, [CREATE]))


def _about(room: Room, algorithm: str) -> list[tuple[str, str]]:
    """What stands above all of a room's pages."""
    servers = RoomServer.objects.filter(room=room, left_position__isnull=True).count()
    hosted = room.role == Room.Role.HUB
    log = reverse("admin:rooms_room_history", args=[quote(room.room_id)])
    return [
        ("Room", room.room_id),
        ("Hosted by", "this server" if hosted else shown(room.hub_server)),
        ("In it now", f"{_number(members_of(room), 'person', 'people')}, {_number(servers, 'server', 'servers')}"),
        ("Version", room.version),
        ("Encryption", shown(algorithm) or "none"),
        ("Known here since", f"{room.created_at:%Y-%m-%d %H:%M} UTC"),
        ("Done by staff", format_html('<a class="lm-link" href="{}">what was done here</a>', log)),
    ]


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def asked(request: HttpRequest, name: str) -> str:
    """A text in the query, without what PostgreSQL takes in no text."""
    return request.GET.get(name, "").replace("\0", "")[:MAX_QUERY_LENGTH].strip()


def asked_position(request: HttpRequest, name: str) -> int | None:
    """A position in the query, None for none and for what is none."""
    text = asked(request, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
