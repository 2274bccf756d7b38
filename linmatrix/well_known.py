"""What we tell others about where we are: the draft's `.well-known` delegation, from the answering side."""

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from federation.errors import ApiError
from federation.responses import json_response


class WellKnownServerView(APIView):
    """`GET /.well-known/matrix/server` (draft section of that name): the name that answers for ours, if there is one.

    It counts only where the host of our server name serves it on port 443, so a web server there may answer instead.
    """

    authentication_classes = permission_classes = ()  # open to all: it is asked before a server is talked to
    http_method_names = ["get"]

    def get(self, request: Request) -> HttpResponse:
        if not settings.WELL_KNOWN_SERVER:
            raise ApiError(404, "M_NOT_FOUND", "This server is not delegated.")
        return json_response({"m.server": settings.WELL_KNOWN_SERVER})
