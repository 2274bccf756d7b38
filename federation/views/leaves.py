"""`GET make_leave` and `POST send_leave` (draft, "Rejecting Invites and Leaves"; decisions 88 to 93)."""

from django.http import HttpResponse
from rest_framework.request import Request

from federation.membership_requests import append_membership, check_membership_event, template
from federation.responses import json_response
from federation.views.base import FederationView, hosted_room, room_id_parameter, user_id_parameter


class MakeLeave(FederationView):
    """A template for a leave: refusing an invite, taking back a knock, or leaving."""

    http_method_names = ["get"]

    def get(self, request: Request, room_id: str, user_id: str) -> HttpResponse:
        """The partial LPDU, wrapped."""
        user_id = user_id_parameter(user_id, origin=self.origin)
        room = hosted_room(room_id_parameter(room_id), self.origin)
        event = template(room, user_id=user_id, membership="leave")
        return json_response({"event": event, "room_version": room.version})


class SendLeave(FederationView):
    """Appends a leave."""

    http_method_names = ["post"]

    def post(self, request: Request, txn_id: str, *, stable: bool) -> HttpResponse:
        """An empty object."""
        return self.once("send_leave", txn_id, self._process, stable=stable)

    def _process(self) -> HttpResponse:
        event = check_membership_event(self.content, origin=self.origin, membership="leave")
        append_membership(hosted_room(event["room_id"], self.origin), event)
        return json_response({})
