"""What granian serves in test_bridge.py: a WSGI application that answers with what it was given."""

import json
from collections.abc import Callable
from typing import Any

from linmatrix.bridge import Bridge

SHOWN = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "RAW_URI", "CONTENT_LENGTH", "SERVER_PROTOCOL")


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The interesting part of the environ, and how many bytes of body there were."""
    shown = {name: value for name, value in environ.items() if name in SHOWN or name.startswith("HTTP_")}
    body = json.dumps({**shown, "body": len(environ["wsgi.input"].read())}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


application = Bridge(echo, threads=2)
