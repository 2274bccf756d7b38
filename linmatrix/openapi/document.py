"""The document put together by drf-spectacular, and the view that serves it."""

from functools import cache
from typing import Any

from django.conf import settings
from django.http import Http404, HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.request import Request
from rest_framework.views import APIView

from linmatrix.openapi.components import Schema, ref
from linmatrix.openapi.operations import ALWAYS, OPERATIONS, PATH_PARAMETERS, SIGNED, STATUSES, Operation
from linmatrix.protocol import canonical_json

JSON = "application/json"


class FederationSchema(AutoSchema):
    """Describes a view by its row in `OPERATIONS`. Raises KeyError for a view that has none."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> dict[str, Any]:
        """The operation object of a route's method."""
        view = type(self.view).__name__
        operation = OPERATIONS[view]
        form = "_unstable" if "/unstable/" in path else ""
        described: dict[str, Any] = {
            "operationId": f"{view}{form}",
            "summary": operation.summary,
            "tags": [operation.tag],
            "parameters": [*_in_path(path), *_in_query(operation)],
            "responses": _responses(operation),
            "security": [{"X-Matrix": []}] if operation.signed else [{}],
        }
        if operation.body is not None:
            described["requestBody"] = {"required": True, "content": _json(operation.body)}
        return described


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in PATH_PARAMETERS.items()
        if f"{{{name}}}" in path
    ]


def _in_query(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name.rstrip("*"), "in": "query", "required": name.endswith("*"), "schema": schema}
        for name, schema in operation.query.items()
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    refusals = {*ALWAYS, *operation.refusals, *(SIGNED if operation.signed else ())}
    answers: dict[str, Any] = {"200": {"description": "Done.", "content": _json(operation.answer)}}
    for status in sorted(refusals):
        answers[str(status)] = {"description": STATUSES[status], "content": _json(ref("Error"))}
    return answers


def _json(schema: Schema) -> dict[str, Any]:
    return {JSON: {"schema": schema}}


@cache
def document() -> bytes:
    """The document as JSON; it does not change while the process runs."""
    return canonical_json.dumps(SchemaGenerator().get_schema(public=True))


class ApiDocument(APIView):
    """`GET /openapi.json`, where the settings say so."""

    authentication_classes = permission_classes = ()  # it describes what anybody can read in the draft
    http_method_names = ["get"]
    schema = None  # no part of what it describes

    def get(self, request: Request) -> HttpResponse:
        """The document, or 404 like any other path that there is not."""
        if not settings.API_DOCUMENT:
            raise Http404
        return HttpResponse(document(), content_type=JSON)
