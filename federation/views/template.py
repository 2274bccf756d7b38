"""What `GET make_join` and `GET make_knock` have in common."""

from typing import ClassVar

from django.http import HttpResponse
from rest_framework.request import Request

from federation.membership_requests import check_version, template
from federation.responses import json_response
from federation.views.base import FederationView, hosted_room, room_id_parameter, user_id_parameter


class TemplateView(FederationView):
    """A template for a membership event of a user who is not in the room yet; the caller's room versions decide.

    Template fields at the top level, as the draft has it, and wrapped with the version, as Matrix and an
    existing implementation do (decision 88).
    """

    http_method_names = ["get"]
    membership: ClassVar[str]

    def get(self, request: Request, room_id: str, user_id: str) -> HttpResponse:
        """The partial LPDU."""
        user_id = user_id_parameter(user_id, origin=self.origin)
        room = hosted_room(room_id_parameter(room_id), self.origin)
        check_version(room, request.query_params.getlist("ver"))
        event = template(room, user_id=user_id, membership=self.membership)
        return json_response({**event, "event": event, "room_version": room.version})
