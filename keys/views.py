"""What others ask about keys: ours, and as a notary those of anybody. All of it is open to all, without a signature:
it is what requests are authenticated with. An `Authorization` header is ignored.

What is raised here is told as everywhere: `federation.errors` maps it. Only a query parameter that is no time has an
error of its own.
"""

from functools import cache
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from keys import notary
from keys.clock import now_ms
from keys.keyring import keyring
from keys.local import server_keys
from keys.notary import QUOTA_MS, Quota, Wanted
from linmatrix.protocol import canonical_json
from linmatrix.protocol.canonical_json import MAX_SAFE_INTEGER
from linmatrix.protocol.errors import NotJson

MAX_DIGITS = 16
"""Of a time in a query: what MAX_SAFE_INTEGER has."""


class OpenView(APIView):
    """An endpoint that anybody may use."""

    authentication_classes = permission_classes = ()


class ServerKeysView(OpenView):
    """`GET /_matrix/key/v2/server`: our own keys (draft section "Retrieving Server Keys")."""

    http_method_names = ["get"]

    def get(self, request: Request) -> HttpResponse:
        # The keys may be rotated at any time: no proxy on the way may answer in our place.
        return _json(server_keys(now_ms()), cache_control="no-store")


class QueryView(OpenView):
    """`GET /_matrix/key/v2/query/:serverName`: all keys of one server."""

    http_method_names = ["get"]

    def get(self, request: Request, server_name: str) -> HttpResponse:
        minimum = None
        if given := request.query_params.getlist("minimum_valid_until_ts"):
            minimum = _milliseconds(given[0])
            if minimum is None:
                error = "minimum_valid_until_ts must be a time in milliseconds."
                return _json({"errcode": "M_INVALID_PARAM", "error": error}, status=400)
        return _answer([Wanted(unquote(server_name), {None: minimum})])


class BulkQueryView(OpenView):
    """`POST /_matrix/key/v2/query`: keys of many servers."""

    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        if not request.body:
            raise NotJson("the request has no body")
        return _answer(notary.parse_query(request.body))


@cache
def unknown_names() -> Quota:
    """This process's quota of names that it asks although it knows nothing of them."""
    return Quota(settings.LIMITS.notary_unknown_names, per_ms=QUOTA_MS)


def _answer(wanted: list[Wanted]) -> HttpResponse:
    keys = notary.answer(wanted, keyring=keyring(), unknown_names=unknown_names(), now_ms=now_ms())
    return _json({"server_keys": keys}, cache_control="no-store")


def _milliseconds(text: str) -> int | None:
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if digits and int(text) <= MAX_SAFE_INTEGER else None


def _json(value: dict[str, Any], *, status: int = 200, cache_control: str = "") -> HttpResponse:
    headers = {"Cache-Control": cache_control} if cache_control else {}
    return HttpResponse(canonical_json.dumps(value), status=status, headers=headers, content_type="application/json")
