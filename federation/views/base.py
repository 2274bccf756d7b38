"""What every federation endpoint shares, safe by default.

Order of checks (decision 69): method, JSON, authentication, then the endpoint's own. Path parameters come
percent-encoded, since the path is routed as it was sent (decision 70), and are decoded here.
"""

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request
from rest_framework.views import APIView

from federation.authentication import SIGNED_CONTENT, ServerPrincipal
from federation.errors import ApiError
from federation.idempotency import Transaction, once
from federation.rate_limits import check_rate
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import NotJson
from linmatrix.protocol.identifiers import domain_of, is_room_id, is_user_id
from rooms import server_acl
from rooms.models import Room


class FederationView(APIView):
    """An authenticated endpoint of the federation API.

    A view names its methods in `http_method_names`; HEAD and OPTIONS are no methods of the API. Handlers have
    `self.content`, the JSON object of a PUT or POST, and `self.origin`, the server that sent the request.
    `stable` is given by the route: whether it is the draft's own path or the unstable one.
    """

    http_method_names = []
    body: bytes
    content: dict[str, Any]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """As ever, but part view, request and answer at the end: REST framework has them hold each other, so that a
        transaction, or a large room's state, would stay until the collector comes by."""
        response = super().dispatch(request, *args, **kwargs)
        del self.response
        self.request.parser_context.clear()
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the request before its handler runs."""
        method = (request.method or "").lower()
        if method not in self.http_method_names:
            raise MethodNotAllowed(method)
        content = self._content(request)
        request.META[SIGNED_CONTENT] = content
        self.content = content or {}
        super().initial(request, *args, **kwargs)
        match = request.resolver_match
        check_rate(self.origin, (match and match.url_name) or "")

    def _content(self, request: Request) -> dict[str, Any] | None:
        self.body = request.read()  # not `body`, which the request would keep
        if not self.body:
            if request.method in ("PUT", "POST"):
                raise NotJson("the request has no body")
            return None
        return canonical_json.loads_object(self.body)

    @property
    def origin(self) -> str:
        """The server that sent the request."""
        return cast(ServerPrincipal, self.request.user).origin

    def once(
        self, endpoint: str, txn_id: str, process: Callable[[], HttpResponse], *, stable: bool, exclusive: bool = False
    ) -> HttpResponse:
        """Process the request once per transaction id."""
        request = Transaction(self.origin, endpoint, unquote(txn_id), self.body, stable=stable, exclusive=exclusive)
        return once(request, process)


def room_id_parameter(encoded: str) -> str:
    """A room id from the path. Raises `ApiError` M_INVALID_PARAM."""
    room_id = unquote(encoded)
    if not is_room_id(room_id):
        raise ApiError(400, "M_INVALID_PARAM", "The path holds no valid room id.")
    return room_id


def user_id_parameter(encoded: str, *, origin: str) -> str:
    """A user id from the path, which must be one of `origin`'s (decision 91). Raises `ApiError`."""
    user_id = unquote(encoded)
    if not is_user_id(user_id):
        raise ApiError(400, "M_INVALID_PARAM", "The path holds no valid user id.")
    if domain_of(user_id) != origin:
        raise ApiError(403, "M_FORBIDDEN", "The user is of another server.")
    return user_id


def open_room(room_id: str, origin: str) -> Room:
    """A room that we know and that `origin` may ask about. Raises `Room.DoesNotExist`, and as `check_room`."""
    room = Room.objects.get(room_id=room_id)
    check_room(room, origin)
    return room


def check_room(room: Room, origin: str) -> None:
    """Refuse requests about a room that is blocked, or that keeps `origin` out (decisions 109, 117).

    Raises `ApiError` 403.
    """
    if room.blocked:
        raise ApiError(403, "M_FORBIDDEN", "The room is blocked on this server.")
    if not server_acl.allows(room.room_id, origin):
        raise ApiError(403, "M_FORBIDDEN", "The room's server ACL keeps your server out.")


def hosted_room(room_id: str, origin: str) -> Room:
    """A room that we are the hub of. Raises as `open_room`, and M_WRONG_SERVER (decision 85)."""
    room = open_room(room_id, origin)
    if room.role != Room.Role.HUB:
        raise ApiError(400, "M_WRONG_SERVER", "This server is not the room's hub.", hub_server=room.hub_server)
    return room
