"""JSON answers, made of values or spliced from the stored bytes of events."""

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import Any

from django.http import HttpResponse

from linmatrix.protocol import canonical_json

CONTENT_TYPE = "application/json"


def json_response(value: Mapping[str, Any], *, status: int = 200) -> HttpResponse:
    """An object as JSON."""
    return HttpResponse(canonical_json.dumps(value), status=status, content_type=CONTENT_TYPE)


def json_list(texts: Iterable[str]) -> Iterator[str]:
    """The pieces of a JSON list of texts that are JSON already: stored events are never encoded again."""
    before = "["
    for text in texts:
        yield before
        yield text
        before = ","
    yield "[]" if before == "[" else "]"


def spliced_response(**members: str | Iterable[str]) -> HttpResponse:
    """An object whose members are JSON texts, or such in pieces. It grows in one place: a room's state can be 10 MB,
    and each joining of strings would hold it once more."""
    body = BytesIO()
    before = "{"
    for name, value in members.items():
        body.write(f'{before}"{name}":'.encode())
        for piece in [value] if isinstance(value, str) else value:
            body.write(piece.encode())
        before = ","
    body.write(b"}")
    return HttpResponse(body.getvalue(), content_type=CONTENT_TYPE)
