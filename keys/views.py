"""What others ask about keys."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.clock import now_ms
from keys.local import server_keys


class ServerKeysView(APIView):
    """`GET /_matrix/key/v2/server`: our own keys (draft section "Retrieving Server Keys")."""

    authentication_classes = permission_classes = ()  # open to all: it is what requests are authenticated with
    http_method_names = ["get"]

    def get(self, request: Request) -> Response:
        return Response(server_keys(now_ms()))
