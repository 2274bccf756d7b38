"""JSON answers, made of values or spliced from the stored bytes of events."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpResponse

from linmatrix.protocol import canonical_json

CONTENT_TYPE = "application/json"


def json_response(value: Mapping[str, Any], *, status: int = 200) -> HttpResponse:
    """An object as JSON."""
    return HttpResponse(canonical_json.dumps(value), status=status, content_type=CONTENT_TYPE)


def json_list(texts: Iterable[str]) -> str:
    """A JSON list of texts that are JSON already: stored events are never encoded again."""
    return f"[{','.join(texts)}]"


def spliced_response(**members: str) -> HttpResponse:
    """An object whose members are JSON texts."""
    body = "{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}"
    return HttpResponse(body.encode(), content_type=CONTENT_TYPE)
