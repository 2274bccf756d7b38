"""Addresses of a room's pages, beside those of the list of rooms."""

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path

from linmatrix.console.rooms import acting, encryption, people, state, timeline
from linmatrix.console.rooms.frame import TABS, room_page, url, visible_tabs
from rooms.models import Room

app_name = "room"


@room_page("rooms.view_room")
def first_page(request: HttpRequest, room: Room) -> HttpResponse:
    """To the first of the room's pages that the operator may see, or to its row."""
    tab = next(iter(visible_tabs(request)), None)
    if tab is None:
        return admin.site.get_model_admin(Room).change_view(request, quote(room.room_id))
    return HttpResponseRedirect(url(tab.name, room.room_id))


_VIEWS = {
    "timeline": timeline.timeline,
    "members": people.members,
    "state": state.state,
    "servers": people.servers,
    "findings": state.findings,
    "encryption": encryption.encryption,
}

urlpatterns = [
    path("enter/<str:name>/", acting.enter, name="enter"),
    path("<str:key>/", first_page, name="room"),
    *(path(f"<str:key>/{tab.name}/", _VIEWS[tab.name], name=tab.name) for tab in TABS),
    path("<str:key>/events/<str:event_key>/", timeline.event, name="event"),
    path("<str:key>/sent/<str:lpdu_key>/", acting.sent, name="sent"),
    path("<str:key>/act/<str:name>/", acting.act_in_room, name="act"),
]
