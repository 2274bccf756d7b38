"""How refusals are answered: one map from exceptions to HTTP status and error code.

Draft section "Errors"; decisions 69, 70, 76, 97. Every answer is a JSON object with `errcode` and `error`;
none shows a stack trace, and no input leads to a 500.
"""

import logging
from collections.abc import Mapping
from typing import Any

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseNotFound, HttpResponseServerError
from rest_framework.exceptions import APIException, MethodNotAllowed

from federation.responses import json_response
from linmatrix.protocol.errors import (
    BadSignature,
    Malformed,
    NotJson,
    ProtocolError,
    Rejected,
    TooLarge,
    WrongHub,
)
from rooms.models import Room

logger = logging.getLogger(__name__)

MAX_ERROR_LENGTH = 500
"""Characters of `error`: enough for a sentence with numbers, too little to carry a peer's input around."""


UNKNOWN = "Unknown room or event."
"""Said alike of what there is not and of what the asking server may not know of: its wording tells neither (threat
T70)."""


class ApiError(Exception):
    """A refusal with the status and error code that the draft names for it; `extra` are further fields."""

    def __init__(self, status: int, errcode: str, error: str, **extra: Any) -> None:
        super().__init__(error)
        self.status, self.errcode, self.error, self.extra = status, errcode, error, extra

    def response(self) -> HttpResponse:
        """The answer."""
        body = {"errcode": self.errcode, "error": self.error[:MAX_ERROR_LENGTH], **self.extra}
        return json_response(body, status=self.status)


PROTOCOL_ERRORS: Mapping[type[ProtocolError], tuple[int, str]] = {
    NotJson: (400, "M_NOT_JSON"),
    Malformed: (400, "M_BAD_JSON"),
    TooLarge: (413, "M_TOO_LARGE"),
    BadSignature: (403, "M_FORBIDDEN"),
    Rejected: (403, "M_FORBIDDEN"),
    WrongHub: (400, "M_WRONG_SERVER"),
}


def as_api_error(error: Exception) -> ApiError | None:
    """The refusal that an exception means to a peer; None for what is a fault of ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ProtocolError):
        # The nearest in the class's ancestry: there are special cases of `Rejected`.
        status, errcode = next(PROTOCOL_ERRORS[kind] for kind in type(error).__mro__ if kind in PROTOCOL_ERRORS)
        return ApiError(status, errcode, str(error))
    if isinstance(error, Room.DoesNotExist):
        return ApiError(404, "M_NOT_FOUND", UNKNOWN)
    if isinstance(error, MethodNotAllowed):
        return ApiError(405, "M_UNRECOGNIZED", "Unknown method for this endpoint.")
    if isinstance(error, OperationalError):
        # A lock or a connection was not to be had in time: the peer's retry will find it.
        logger.warning("database not available for a request: %s", error)
        return ApiError(503, "M_UNKNOWN", "Temporarily unavailable. Try again.")
    if isinstance(error, APIException):
        return ApiError(error.status_code, "M_UNKNOWN", str(error.detail))
    return None


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """DRF's hook for exceptions in views."""
    api_error = as_api_error(error)
    return api_error.response() if api_error else None


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Unknown paths: JSON for servers, a page for people."""
    if request.path_info.startswith(("/_matrix", "//")):
        return ApiError(404, "M_UNRECOGNIZED", "Unknown endpoint.").response()
    return HttpResponseNotFound("Not found.", content_type="text/plain")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What Django itself refuses, before or while a view runs: a Host header that is none, a thousand parameters."""
    if request.path_info.startswith(("/_matrix", "/.well-known")):
        return ApiError(400, "M_UNKNOWN", "The request is malformed.").response()
    return HttpResponseBadRequest("Bad request.", content_type="text/plain")


def server_error(request: HttpRequest) -> HttpResponse:
    """A fault of ours. The log has it; the answer says nothing of it (threat T79)."""
    if request.path_info.startswith("/_matrix"):
        return ApiError(500, "M_UNKNOWN", "Internal error.").response()
    return HttpResponseServerError("Internal error.", content_type="text/plain")
