"""Links to what can be done in a room, for those who may do it."""

from urllib.parse import urlencode

from django.http import HttpRequest

from linmatrix.console.rooms.actions import IN_ROOM
from linmatrix.console.rooms.frame import url
from linmatrix.pages import Button
from rooms.models import Room


def buttons(request: HttpRequest, room: Room, place: str, **filled: str) -> list[Button]:
    """The buttons of one of a room's pages for what the operator may do there, with fields filled in."""
    everywhere = "blocked" if room.blocked else "open"
    return [
        Button(action.title, address(room.room_id, name, **filled), icon=action.icon)
        for name, action in IN_ROOM.items()
        if (place in action.places or (everywhere in action.places and place != "event")) and action.allowed(request)
    ]


def address(room_id: str, name: str, **filled: str) -> str:
    """Where an action's form is, with fields filled in."""
    query = f"?{urlencode(filled)}" if filled else ""
    return url("act", room_id, name) + query
