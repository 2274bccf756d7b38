"""`GET make_knock` and `POST send_knock` (draft, "Knocks"; decisions 88 to 93, 118)."""

from django.http import HttpResponse
from rest_framework.request import Request

from federation.membership_requests import append_membership, check_membership_event
from federation.responses import json_response
from federation.views.base import FederationView, hosted_room
from federation.views.template import TemplateView
from rooms.state import stripped_state


class MakeKnock(TemplateView):
    """A template for a knock."""

    membership = "knock"


class SendKnock(FederationView):
    """Appends a knock. Its answer is an invite to the user, or a leave or ban that `send` brings (decision 82)."""

    http_method_names = ["post"]

    def post(self, request: Request, txn_id: str, *, stable: bool) -> HttpResponse:
        """`stripped_state`: what the user may know of the room meanwhile."""
        return self.once("send_knock", txn_id, self._process, stable=stable)

    def _process(self) -> HttpResponse:
        event = check_membership_event(self.content, origin=self.origin, membership="knock")
        room = hosted_room(event["room_id"], self.origin)
        append_membership(room, event)
        return json_response({"stripped_state": stripped_state(room.room_id)})
