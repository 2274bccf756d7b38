"""`GET event`, `state`, `state_ids`, `backfill` (draft, "Event and State APIs"; decisions 57, 59 to 61, 84 to 87).

What a server may not know of is answered like what does not exist. Events are served as they are stored,
byte for byte, but for those whose contents the server may not see.
"""

from collections.abc import Sequence
from urllib.parse import unquote

from django.conf import settings
from django.db.models import Max
from django.http import HttpResponse
from rest_framework.request import Request

from federation.errors import UNKNOWN, ApiError
from federation.responses import CONTENT_TYPE, json_list, json_response, spliced_response
from federation.views.base import FederationView, check_room, hosted_room, open_room, room_id_parameter
from linmatrix.protocol.identifiers import is_event_id
from rooms.append import ACCEPTED
from rooms.models import Event, Gap, Room
from rooms.redactions import redacted_text
from rooms.state import auth_chain, by_id, event_ids_before, events_before
from rooms.visibility import View

MAX_LIMIT_DIGITS = 15
"""Of `limit`: far beyond any room, and no work to read."""


class GetEvent(FederationView):
    """One event, on whatever server holds it."""

    http_method_names = ["get"]

    def get(self, request: Request, event_id: str, *, stable: bool) -> HttpResponse:
        """The event, or its redacted copy."""
        event, view = visible_event(unquote(event_id), self.origin)
        # Only now: what the server may not know of does not exist, and is not blocked or closed either.
        check_room(event.room, self.origin)
        (text,) = served(view, [event])
        return HttpResponse(text, content_type=CONTENT_TYPE)


class State(FederationView):
    """The room's state before an event: in full while the server is in the room (decision 61)."""

    http_method_names = ["get"]

    def get(self, request: Request, room_id: str) -> HttpResponse:
        """`pdus` and their `auth_chain`."""
        event, view = self._subject(request, room_id)
        state = events_before(event.room, event.position or 0)
        chain = auth_chain(state)
        if not view.takes_part:
            state = served(view, by_id(event_ids_before(event.room, event.position or 0)))
            return spliced_response(pdus=json_list(state), auth_chain=json_list(served(view, by_id(chain.keys()))))
        return spliced_response(pdus=json_list(state), auth_chain=json_list(chain.values()))

    def _subject(self, request: Request, encoded_room_id: str) -> tuple[Event, View]:
        room = hosted_room(room_id_parameter(encoded_room_id), self.origin)
        event, view = visible_event(_parameter(request, "event_id"), self.origin, room)
        if not view.has_taken_part:
            raise _unknown_event()
        return event, view


class StateIds(State):
    """The same as ids."""

    def get(self, request: Request, room_id: str) -> HttpResponse:
        """`pdu_ids` and `auth_chain_ids`."""
        event, _ = self._subject(request, room_id)
        position = event.position or 0
        chain = auth_chain(events_before(event.room, position))
        return json_response({"pdu_ids": event_ids_before(event.room, position), "auth_chain_ids": list(chain)})


class Backfill(FederationView):
    """An event and those before it."""

    http_method_names = ["get"]

    def get(self, request: Request, room_id: str, *, stable: bool) -> HttpResponse:
        """`pdus`, oldest first."""
        room = open_room(room_id_parameter(room_id), self.origin)
        limit = _limit(_parameter(request, "limit"))
        newest, view = visible_event(_parameter(request, "v"), self.origin, room)
        events = Event.objects.filter(
            room=room, position__range=(_first_without_gap(newest), newest.position), verdict__in=ACCEPTED
        )
        page = list(view.among(events).order_by("-position")[:limit])
        return spliced_response(pdus=json_list(served(view, page[::-1])))


def _parameter(request: Request, name: str) -> str:
    """A required query parameter; the first where it is repeated (decision 84)."""
    values = request.query_params.getlist(name)
    if not values or not values[0]:
        raise ApiError(400, "M_INVALID_PARAM", f"{name} is required.")
    return values[0]


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_LIMIT_DIGITS or int(text) < 1:
        raise ApiError(400, "M_INVALID_PARAM", "limit must be a positive integer.")
    return min(int(text), settings.LIMITS.backfill_events)  # decision 84


def _first_without_gap(event: Event) -> int:
    """The first position from which on our copy of the line is whole up to the event: as hub the room's first."""
    gaps = Gap.objects.filter(room_id=event.room_id, before_position__lte=event.position)
    return gaps.aggregate(first=Max("before_position"))["first"] or 0


def _unknown_event() -> ApiError:
    return ApiError(404, "M_NOT_FOUND", UNKNOWN)


def visible_event(event_id: str, server: str, room: Room | None = None) -> tuple[Event, View]:
    """An event that is in a line and that `server` may know of, in `room` where one is given, with what the
    server sees of its room.

    Raises `ApiError` 404 for any other, whatever the reason.
    """
    events = Event.objects.select_related("room").filter(position__isnull=False, verdict__in=ACCEPTED)
    if room is not None:
        events = events.filter(room=room)
    event = events.filter(event_id=event_id).first() if is_event_id(event_id) else None
    if event is None:
        raise _unknown_event()
    view = View.of(event.room, server)
    if not view.shows(event.position or 0):
        raise _unknown_event()
    return event, view


def served(view: View, events: Sequence[Event]) -> list[str]:
    """The JSON texts of events as the view's server may see them."""
    readable = view.readable(events)
    return [event.json if event.event_id in readable else redacted_text(event.json) for event in events]
