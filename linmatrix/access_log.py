"""One line and one count per request, and an id that ties together all that is logged while it is answered.

The line has who asked (`origin`, once authenticated), for what (`endpoint`, a name of ours), the transaction id, which
the sender's own log has as well, and how it ended. Never a path, which holds ids of rooms and users, nor anything of a
body: metrics and logs are read by more people than messages are.
"""

import logging
import secrets
import time
from collections.abc import Callable
from urllib.parse import unquote

import orjson
import structlog
from django.http import HttpRequest
from django.http.response import HttpResponse, HttpResponseBase

from linmatrix import logs
from linmatrix.metrics.instruments import request_seconds, requests, threads_busy

_known = logging.getLogger(logs.REQUESTS)
_strangers = logging.getLogger(logs.STRANGERS)

ERRCODES = frozenset({
    "M_BAD_JSON", "M_BAD_STATE", "M_FORBIDDEN", "M_INCOMPATIBLE_ROOM_VERSION", "M_INVALID_PARAM", "M_LIMIT_EXCEEDED",
    "M_MISSING_PARAM", "M_NOT_FOUND", "M_NOT_JSON", "M_TOO_LARGE", "M_UNKNOWN", "M_UNRECOGNIZED",
    "M_UNSUPPORTED_ROOM_VERSION", "M_WRONG_SERVER",
})  # fmt: skip
"""That are counted by name. An invited server chooses the code of its refusal, which we pass on."""

STATUSES = frozenset({200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 500, 502, 503})
"""That are counted by number, the others by hundreds: an invited server chooses that, too."""

MAX_ERROR_BYTES = 8_192
"""An answer with an error has a sentence; a longer one is not looked into."""

CONSOLE, OTHER, WATCHED = "console", "other", frozenset({"metrics", "health"})
"""Endpoints that are none of the API; those that are asked every few seconds get no line."""

CONSOLE_ROUTES = "admin/"
"""How the routes of the console's pages begin, whose names may be those of endpoints: a room's page "state"."""

_busy = threads_busy.labels("web")


class AccessLog:
    """The outermost middleware, so that it sees every request and every answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Of what called us in this context before: the bridge gives each request its own, other ways in may not.
        structlog.contextvars.clear_contextvars()
        logs.bind(request_id=secrets.token_hex(8))
        begun = time.perf_counter()
        _busy.inc()
        try:
            response = self._get_response(request)
            record(request, response, seconds=time.perf_counter() - begun)
        finally:
            _busy.dec()
            structlog.contextvars.clear_contextvars()
        return response


def record(request: HttpRequest, response: HttpResponseBase, *, seconds: float) -> None:
    """Count and log an answer."""
    endpoint, status, errcode = endpoint_of(request), response.status_code, errcode_of(response)
    counted = str(status) if status in STATUSES else f"{status // 100}xx"
    requests.labels(endpoint, counted, errcode if errcode in ERRCODES or not errcode else OTHER).inc()
    request_seconds.labels(endpoint).observe(seconds)
    logger = _known if logs.bound("origin") or _is_our_people(request) else _strangers
    level = logging.DEBUG if endpoint in WATCHED and status == 200 else logging.INFO
    if not logger.isEnabledFor(level):
        return
    match = request.resolver_match
    fields = {"method": request.method, "endpoint": endpoint, "status": status, "ms": round(1000 * seconds, 1)}
    if errcode:
        fields["errcode"] = errcode
    if match is not None and endpoint == CONSOLE:
        fields["page"] = match.url_name or ""
    if match is not None and (txn_id := match.kwargs.get("txn_id")):
        fields["txn_id"] = unquote(txn_id)
    logger.log(level, "request", extra=fields)


def endpoint_of(request: HttpRequest) -> str:
    """The name of the route that a request took: the draft's for endpoints of the API."""
    match = request.resolver_match
    if match is None:
        return OTHER
    if match.route.startswith(CONSOLE_ROUTES):
        return CONSOLE
    return match.url_name or OTHER


def _is_our_people(request: HttpRequest) -> bool:
    """Whether a page of the console has found out that a person of ours asks: the login page is there for anybody.

    Django keeps there whom it has looked up; to ask for the user here could cost a query, which may fail.
    """
    user = getattr(request, "_cached_user", None)
    return user is not None and user.is_authenticated


def errcode_of(response: HttpResponseBase) -> str:
    """The error code in an answer, empty without one."""
    if response.status_code < 400 or not isinstance(response, HttpResponse):
        return ""
    if len(response.content) > MAX_ERROR_BYTES or "json" not in response.get("Content-Type", ""):
        return ""
    try:
        content = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return ""
    errcode = content.get("errcode") if isinstance(content, dict) else None
    return errcode if isinstance(errcode, str) else ""
