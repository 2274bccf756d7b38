"""Which server sends a request: X-Matrix on DRF (draft section "Request Authentication").

Decisions 63 to 68. The signature covers the request target as it stood on the request line, which the
ASGI entry point hands over as RAW_URI; any path that Django has decoded would not do.
"""

from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from federation.blocking import block_list
from federation.errors import ApiError
from federation.retrying import reset_backoff
from keys.keyring import request_keys
from linmatrix import logs
from linmatrix.protocol.errors import BadSignature
from linmatrix.protocol.request_auth import Credentials, covered_forms, parse_authorization

SIGNED_CONTENT = "linmatrix.signed_content"
"""Where in a request's META the base view puts the JSON object that the signature covers, None without a body."""


@dataclass(frozen=True, slots=True)
class ServerPrincipal:
    """The authenticated origin of a request, where Django has a user."""

    origin: str
    is_authenticated: bool = True


class XMatrixAuthentication(BaseAuthentication):
    """Authenticates a request, or answers 401 M_FORBIDDEN; 403 to a server that is blocked (`federation.blocking`).
    The base view has read the body before."""

    def authenticate(self, request: Request) -> tuple[ServerPrincipal, list[Credentials]]:
        try:
            credentials = parse_authorization(request.META.get("HTTP_AUTHORIZATION", ""))
            self._check(request, credentials)
        except BadSignature as error:
            raise ApiError(401, "M_FORBIDDEN", f"Signature error on request: {error.reason}.") from None
        origin = credentials[0].origin
        logs.bind(origin=origin)
        if block_list.blocks(origin):
            # Only now: strangers who write its name on a request do not learn that it is blocked.
            raise ApiError(403, "M_FORBIDDEN", "This server refuses all requests of yours.")
        reset_backoff(origin)
        return ServerPrincipal(origin), credentials

    def _check(self, request: Request, credentials: list[Credentials]) -> None:
        if credentials[0].destination != settings.SERVER_NAME:
            raise BadSignature("the destination is another server")
        if credentials[0].origin == settings.SERVER_NAME:
            raise BadSignature("the origin is this server itself")
        for item in credentials:
            self._check_signature(request, item)

    def _check_signature(self, request: Request, credentials: Credentials) -> None:
        now_ms = int(timezone.now().timestamp() * 1000)
        # Nobody has to be asked about the keys of those who are refused.
        asking = not block_list.blocks(credentials.origin)
        keys = request_keys(credentials.origin, credentials.key_id, now_ms, asking=asking)
        if not keys:
            raise BadSignature(f"no current key {credentials.key_id} of {credentials.origin} is known")
        forms = covered_forms(
            credentials,
            method=request.method or "",
            uri=raw_target(request),
            content=request.META[SIGNED_CONTENT],
        )
        if not any(key.verifies(form, credentials.signature) for key in keys for form in forms):
            raise BadSignature("the signature does not verify")


def raw_target(request: Request) -> str:
    """The request target as received; behind a server that does not tell it, as Django would write it."""
    target: str = request.META.get("RAW_URI") or request.get_full_path()
    return target
