"""`GET event`, `state`, `state_ids`, `backfill` (draft, "Event and State APIs"; decisions 57, 59 to 61, 84 to 87).

What a server may not know of is answered like what does not exist. Events are served as they are stored,
byte for byte, but for those whose contents the server may not see.
"""

from collections.abc import Iterable
from urllib.parse import unquote

from django.http import HttpResponse
from rest_framework.request import Request

from federation.errors import ApiError
from federation.responses import CONTENT_TYPE, json_list, json_response, spliced_response
from federation.views.base import FederationView, hosted_room, open_room, room_id_parameter
from linmatrix.protocol import canonical_json
from linmatrix.protocol.redaction import redact
from rooms.append import ACCEPTED
from rooms.models import Event, Room
from rooms.state import auth_chain, event_ids_before, events_before
from rooms.visibility import View

MAX_BACKFILL = 100
"""Events of one answer (decision 84): 6.5 MB at most."""


class GetEvent(FederationView):
    """One event."""

    http_method_names = ["get"]

    def get(self, request: Request, event_id: str, *, stable: bool) -> HttpResponse:
        """The event, or its redacted copy."""
        event = visible_event(unquote(event_id), self.origin)
        view = View.of(open_room(event.room_id), self.origin)
        return HttpResponse(served(view, event), content_type=CONTENT_TYPE)


class State(FederationView):
    """The room's state before an event."""

    http_method_names = ["get"]

    def get(self, request: Request, room_id: str) -> HttpResponse:
        """`pdus` and their `auth_chain`."""
        room, event = self._subject(request, room_id)
        pdus = events_before(room, event.position or 0)
        return spliced_response(pdus=json_list(pdus), auth_chain=json_list(auth_chain(pdus).values()))

    def _subject(self, request: Request, encoded_room_id: str) -> tuple[Room, Event]:
        room = hosted_room(room_id_parameter(encoded_room_id))
        event_id = request.query_params.get("event_id")
        if not event_id:
            raise ApiError(400, "M_INVALID_PARAM", "event_id is required.")
        return room, visible_event(event_id, self.origin, room)


class StateIds(State):
    """The same as ids."""

    def get(self, request: Request, room_id: str) -> HttpResponse:
        """`pdu_ids` and `auth_chain_ids`."""
        room, event = self._subject(request, room_id)
        chain = auth_chain(events_before(room, event.position or 0))
        return json_response({"pdu_ids": event_ids_before(room, event.position or 0), "auth_chain_ids": list(chain)})


class Backfill(FederationView):
    """An event and those before it."""

    http_method_names = ["get"]

    def get(self, request: Request, room_id: str, *, stable: bool) -> HttpResponse:
        """`pdus`, oldest first."""
        room = open_room(room_id_parameter(room_id))
        limit = _limit(request.query_params.get("limit"))
        newest = visible_event(request.query_params.get("v", ""), self.origin, room)
        view = View.of(room, self.origin)
        events = Event.objects.filter(room=room, position__lte=newest.position, verdict__in=ACCEPTED)
        page: Iterable[Event] = reversed(events.order_by("-position")[:limit])
        return spliced_response(pdus=json_list(served(view, event) for event in page))


def _limit(text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) < 1:
        raise ApiError(400, "M_INVALID_PARAM", "limit must be a positive integer.")
    return min(int(text), MAX_BACKFILL)


def visible_event(event_id: str, server: str, room: Room | None = None) -> Event:
    """An event that is in a line and that `server` may know of, in `room` where one is given.

    Raises `ApiError` 404 for any other, whatever the reason.
    """
    events = Event.objects.select_related("room").filter(position__isnull=False, verdict__in=ACCEPTED)
    if room is not None:
        events = events.filter(room=room)
    event = events.filter(event_id=event_id).first()
    if event is None or not View.of(event.room, server).shows(event.position or 0):
        raise ApiError(404, "M_NOT_FOUND", "Unknown event.")
    return event


def served(view: View, event: Event) -> str:
    """The JSON text of an event as the view's server may see it."""
    if view.shows_content(event):
        return event.json
    return canonical_json.dumps(redact(canonical_json.loads(event.json.encode()))).decode()
