"""Two ways to a server: into its WSGI application in this process, and to its port over TLS."""

import http.client
import ssl
import time
from collections.abc import Mapping
from typing import Protocol

from django.test.client import ClientHandler

from linmatrix.bridge import Refused, build_environ, check_headers
from linmatrix.stack.certificates import Authority
from tests.fuzz.attempts import Answer, Attempt

PATIENCE_SECONDS = 60.0


class Door(Protocol):
    """Takes requests in."""

    def send(self, attempt: Attempt) -> Answer:
        """Make a request and wait for its answer."""


class InProcess:
    """As the bridge hands requests to Django, without its threads. What was raised is answered with 500 as ever."""

    def __init__(self) -> None:
        self._handler = ClientHandler(enforce_csrf_checks=True)

    def send(self, attempt: Attempt) -> Answer:
        """Make a request in this thread."""
        raw_path, _, query = attempt.target.encode("ascii").partition(b"?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": attempt.method,
            "path": raw_path.decode(),
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in attempt.headers.items()],
            "scheme": "https",
        }
        begun = time.monotonic()
        try:
            check_headers(scope, limit=len(attempt.body))
            response = self._handler(build_environ(scope, attempt.body))
            status, headers, body = response.status_code, dict(response.headers), response.getvalue()
            response.close()
        except Refused as refused:
            status, _, body = refused.response()
            headers = {"content-type": "application/json"}
        return Answer(status, _content_type(headers), body, time.monotonic() - begun)


class OverTls:
    """A server on loopback, whatever its name is. One connection, opened anew when the server closes it."""

    def __init__(self, port: int, authority: Authority) -> None:
        context = ssl.create_default_context(cafile=str(authority.certificate_file))
        context.check_hostname = False  # we connect by address
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, context=context)

    def send(self, attempt: Attempt) -> Answer:
        """Make a request; once more where a connection that was kept open turns out to be closed."""
        begun = time.monotonic()
        try:
            return self._send(attempt, begun)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            return self._send(attempt, begun)

    def _send(self, attempt: Attempt, begun: float) -> Answer:
        try:
            self._connection.request(attempt.method, attempt.target, attempt.body or None, dict(attempt.headers))
            response = self._connection.getresponse()
            body = response.read()
        except BaseException:
            self._connection.close()
            raise
        return Answer(response.status, response.getheader("Content-Type", ""), body, time.monotonic() - begun)


def _content_type(headers: Mapping[str, str]) -> str:
    return next((value for name, value in headers.items() if name.lower() == "content-type"), "")
