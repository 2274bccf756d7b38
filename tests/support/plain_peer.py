"""Servers that speak plain HTTP/1.1 on loopback, at names with a port, and our own server at such a place.

`PlainPeer` listens and asks; what it answers, the fakes of other implementations say. `FrontDoor` is our own server as
they reach it: the product's WSGI application behind real sockets, in the test's process and on its database.
"""

import hashlib
import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote

from federation.client import client_of
from federation.wire_profile import profiles
from keys.http import http_client
from linmatrix.bridge import build_environ, call_wsgi
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.request_auth import request_bytes
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.protocol.signing import KnownKeys, SigningKey, VerifyKey, sign_object
from linmatrix.wsgi import application
from tests.support.peers import HOUR_MS, US, now_ms
from tests.support.tls_peer import Request

UNST = f"/_matrix/federation/unstable/{UNSTABLE_PREFIX}"
V1 = "/_matrix/federation/v1"
ASK_SECONDS = 30.0


def path(*parts: str) -> str:
    """Path segments, percent-encoded."""
    return "".join("/" + quote(part, safe="") for part in parts)


@dataclass(frozen=True)
class Reply:
    """What comes back from a request; `content` is None where it was no JSON object."""

    status: int
    content: dict[str, Any] | None

    @property
    def errcode(self) -> str:
        return (self.content or {}).get("errcode", "")


@dataclass(frozen=True)
class Page:
    """An answer for people: HTML."""

    status: int
    text: str = "<!DOCTYPE html><pre>Cannot do that</pre>"


Response = tuple[int, dict[str, Any]] | Page


class Listener:
    """Listens on a port of its own from `with` to its end. A closed one refuses connections; it can be opened again."""

    def __init__(self, serve: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self._handler = _handler(serve)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler)
        self.port = self._http.server_port

    def open(self) -> None:
        """Answer."""
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Be gone."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def reopen(self) -> None:
        """Be there again, on the same port."""
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self.open()


def _handler(serve: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one(self) -> None:
            serve(self)

        do_GET = do_PUT = do_POST = handle_one

        def log_message(self, *_arguments: object) -> None:
            return

    return Handler


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def _respond(handler: BaseHTTPRequestHandler, status: int, body: bytes, content_type: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Connection", "close")  # so that a peer that is gone leaves no connection open to it
    handler.end_headers()
    handler.wfile.write(body)


class FrontDoor(Listener):
    """Our own server, on loopback."""

    def __init__(self) -> None:
        super().__init__(self._serve)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        target, _, query = handler.path.partition("?")
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in handler.headers.items()]
        scope = {
            "method": handler.command,
            "path": target,
            "raw_path": target.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "http_version": "1.1",
            "headers": headers,
        }
        response = call_wsgi(application, build_environ(scope, _body(handler)))
        _respond(handler, response.status, response.body, "application/json")


class PlainPeer(Listener):
    """Another server: a name, a key, and what it was asked; use it as a context manager.

    `us` is where our own server is. Other peers are where their names say.
    """

    def __init__(self, us: FrontDoor) -> None:
        super().__init__(self._serve)
        self.us = us
        self.name = f"localhost:{self.port}"
        self.key = SigningKey.from_seed("ed25519:a_1", hashlib.sha256(self.name.encode()).digest())
        self.requests: list[Request] = []
        self.faults: list[BaseException] = []
        """What an endpoint of this fake failed with: a fault of the fake, which ends the test."""
        self._keys: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self.close()
        profiles.forget(self.name)
        if kind is None and self.faults:
            raise self.faults[0]

    def user(self, localpart: str) -> str:
        """The id of one of its users."""
        return f"@{localpart}:{self.name}"

    # Being asked

    def answer(self, request: Request) -> Response:
        """The answer to a request; subclasses decide."""
        raise NotImplementedError

    def asked(self, endpoint: str) -> list[Request]:
        """The requests for one endpoint so far, in either of its paths."""
        return [request for request in self.requests if request.parts[0] == endpoint]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = Request(handler.command, handler.path, _body(handler), dict(handler.headers))
        self.requests.append(request)
        try:
            response = self.answer(request)
        except BaseException as error:  # noqa: BLE001  raised again when the test ends
            self.faults.append(error)
            response = Page(500)
        if isinstance(response, Page):
            _respond(handler, response.status, response.text.encode(), "text/html; charset=utf-8")
        else:
            _respond(handler, response[0], canonical_json.dumps(response[1]), "application/json")

    def server_keys(self, **more: Any) -> dict[str, Any]:
        """The answer to GET key/v2/server."""
        answer = {
            "server_name": self.name,
            "valid_until_ts": now_ms() + 12 * HOUR_MS,
            "verify_keys": {self.key.key_id: {"key": encode_base64(self.key.public_key)}},
            "old_verify_keys": {},
            **more,
        }
        return sign_object(answer, server=self.name, key=self.key)

    # Asking

    def ask(self, server: str, method: str, target: str, content: dict[str, Any] | None = None) -> Reply:
        """Send a signed request. Without a body the signature covers no `content`. Raises OSError."""
        covered = request_bytes(method=method, uri=target, origin=self.name, destination=server, content=content)
        credentials = (
            f'X-Matrix origin="{self.name}",destination="{server}",key="{self.key.key_id}"'
            f',sig="{self.key.sign(covered)}"'
        )
        body = None if content is None else canonical_json.dumps(content)
        return self._exchange(server, method, target, body, {"Authorization": credentials})

    def _exchange(self, server: str, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        port = self.us.port if server == US else int(server.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)
        try:
            more = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, target, body=body, headers=headers | more)
            response = connection.getresponse()
            status, text = response.status, response.read()
        finally:
            connection.close()
        try:
            value = json.loads(text)
        except ValueError:
            return Reply(status, None)
        return Reply(status, value if isinstance(value, dict) else None)

    def published(self, server: str) -> dict[str, Any]:
        """What a server says of its keys; asked once."""
        if server == self.name:
            return self.server_keys()
        if server not in self._keys:
            self._keys[server] = self._exchange(server, "GET", "/_matrix/key/v2/server", None, {}).content or {}
        return self._keys[server]

    def keys_of(self, *servers: str) -> KnownKeys:
        """The keys of servers, for checking signatures."""
        return {
            (server, key_id): [
                VerifyKey.from_bytes(
                    decode_base64(item["key"], length=32), valid_until_ts=self.published(server)["valid_until_ts"]
                )
            ]
            for server in servers
            for key_id, item in self.published(server)["verify_keys"].items()
        }


def reach(settings: Any, *peers: PlainPeer) -> None:
    """Tell our server where peers are, as an operator does with LINMATRIX_SERVER_OVERRIDES."""
    settings.SERVER_OVERRIDES = {peer.name: f"http://127.0.0.1:{peer.port}" for peer in peers}
    forget_clients()


def forget_clients() -> None:
    """Let our server make its clients anew, with the settings that hold then."""
    http_client.cache_clear()
    client_of.cache_clear()
