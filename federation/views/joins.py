"""`GET make_join` and `POST send_join` (draft, "Joins"; decisions 88 to 92)."""

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request

from federation.membership_requests import append_membership, check_membership_event
from federation.responses import json_list, spliced_response
from federation.views.base import FederationView, hosted_room
from federation.views.history import served
from federation.views.template import TemplateView
from federation.wire_profile import profiles
from rooms.append import ACCEPTED
from rooms.models import Event, Room
from rooms.state import events_before, with_auth_chain
from rooms.visibility import View


class MakeJoin(TemplateView):
    """A template for a join."""

    membership = "join"


class SendJoin(FederationView):
    """Appends a join and answers with the room's state before it."""

    http_method_names = ["post"]

    def post(self, request: Request, txn_id: str, *, stable: bool) -> HttpResponse:
        """`state`, `auth_chain`, and the complete `event`."""
        return self.once("send_join", txn_id, self._process, stable=stable)

    def _process(self) -> HttpResponse:
        event = check_membership_event(self.content, origin=self.origin, membership="join")
        room = hosted_room(event["room_id"], self.origin)
        join = append_membership(room, event)
        return join_response(room, join, self.origin)


def join_response(room: Room, join: Event, origin: str) -> HttpResponse:
    """The state before a join in the order of the room's line, its auth chain, and the event.

    Some peers play the room's line through its rules instead of taking its state: all events up to the join are
    their `state`, as long as there are not too many, and what is not the state before the join as they may see it.
    """
    position = join.position or 0
    state, chain = with_auth_chain(events_before(room, position))
    if profiles.of(origin).timeline_state and position <= settings.LIMITS.whole_line_events:
        line = list(Event.objects.filter(room=room, position__lt=position, verdict__in=ACCEPTED).order_by("position"))
        in_force = set(state)
        seen = zip(line, served(View.of(room, origin), line), strict=True)
        state = (event.json if event.json in in_force else text for event, text in seen)
    return spliced_response(state=json_list(state), auth_chain=json_list(chain), event=join.json)
