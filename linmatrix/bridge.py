"""From ASGI to Django's WSGI handler: whole requests in, whole responses out, by way of a pool of threads.

Why ASGI at all: X-Matrix signs the request target byte for byte, and of the server's interfaces only ASGI hands it
over undecoded. Why WSGI behind it: our work is database work in threads, for which Django's own ASGI handler is
several times slower. Why not a2wsgi: it crosses between thread and event loop four times a request, where this
crosses once and serves 1.8 times as many 50 KB PUTs a second.

Reading the body before a thread is taken means that a slow sender costs memory, which is bounded here, and never one
of the threads. What is refused here is refused with the draft's error body, before anything is parsed.
"""

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, NamedTuple

from linmatrix.forwarding import origin
from linmatrix.limits import DEFAULTS, KIB, Limits
from linmatrix.logs import STRANGERS
from linmatrix.metrics import instruments
from linmatrix.transport.addresses import PrivateNetworks

logger = logging.getLogger(STRANGERS)

# The last quarter of what all bodies may take is for bodies up to this size, which nearly all are: two dozen large ones
# that are sent slowly would else keep everybody's requests out.
SMALL_BODY_BYTES = 128 * KIB
LARGE_SHARE = 0.75

# Ids stand percent-encoded in these paths, and a "%2F" in an id is not a separator: their views decode each part.
RAW_PATH_PREFIXES = (b"/_matrix/", b"/.well-known/")
_TRANSACTION_PATH = re.compile(rb"^/_matrix/.*/send/[^/]+/?$")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Environ = dict[str, Any]
WsgiApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Response(NamedTuple):
    """A response as ASGI wants it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass
class Refused(Exception):
    """The request ends here, with this answer."""

    status: int
    errcode: str
    error: str

    def response(self) -> Response:
        body = json.dumps({"errcode": self.errcode, "error": self.error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        return Response(self.status, headers, body)


class Bridge:
    """The ASGI application that serves a WSGI application. Bodies are bounded by `limits`; `proxies` are believed who
    the client is."""

    def __init__(
        self, wsgi: WsgiApplication, *, threads: int, limits: Limits = DEFAULTS, proxies: PrivateNetworks = False
    ) -> None:
        self._wsgi = wsgi
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="web")
        self._limits = limits
        self._proxies = proxies
        self._buffered = 0  # bytes of bodies held now; only the event loop's thread touches it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise ValueError(f"{scope['type']} connections are not served")

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await asyncio.to_thread(self._pool.shutdown)
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        try:
            await self._read_body(scope, receive, into=body)
            environ = build_environ(scope, bytes(body), proxies=self._proxies)
            # The copied context keeps what one request binds (log context, say) from the next one in its thread.
            run = copy_context().run
            response = await asyncio.get_running_loop().run_in_executor(self._pool, run, call_wsgi, self._wsgi, environ)
        except Refused as refused:
            response = refused.response()
            record_refused(str(scope["method"]), refused)
        finally:
            self._buffered -= len(body)
        await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _read_body(self, scope: Scope, receive: Receive, *, into: bytearray) -> None:
        """Read the whole body, or raise Refused without reading more than is allowed."""
        limits = self._limits
        limit = limits.send_body_bytes if _TRANSACTION_PATH.match(scope["raw_path"]) else limits.body_bytes
        check_headers(scope, limit=limit)
        try:
            async with asyncio.timeout(limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        # Whether the client went away or its chunks made no sense, the server does not tell.
                        raise Refused(400, "M_UNKNOWN", "the body broke off")
                    chunk = message.get("body", b"")
                    into += chunk
                    self._buffered += len(chunk)
                    if len(into) > limit:
                        raise Refused(413, "M_TOO_LARGE", f"the body is over {limit} bytes")
                    share = 1 if len(into) <= SMALL_BODY_BYTES else LARGE_SHARE
                    if self._buffered > share * limits.buffered_bytes:
                        raise Refused(503, "M_LIMIT_EXCEEDED", "too many request bodies at once: try again later")
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, "M_UNKNOWN", f"the body took over {limits.body_seconds:g} seconds") from None


def record_refused(method: str, refused: Refused) -> None:
    """Count and log a request that never comes to linmatrix.access_log."""
    instruments.requests.labels("bridge", str(refused.status), refused.errcode).inc()
    fields = {"method": method, "endpoint": "bridge", "status": refused.status, "errcode": refused.errcode}
    logger.info("request", extra=fields)


def check_headers(scope: Scope, *, limit: int) -> None:
    """Refuse what the headers alone give away.

    Compressed bodies are never taken: a few kilobytes could unfold into gigabytes, and no peer is told to send them.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit):
            raise Refused(413, "M_TOO_LARGE", f"the body is over {limit} bytes")
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Refused(415, "M_UNKNOWN", "a request body must not have a Content-Encoding")


def build_environ(scope: Scope, body: bytes, *, proxies: PrivateNetworks = False) -> Environ:
    """The WSGI environ of a request, and in RAW_URI the target as it stood on the request line."""
    raw_path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    # Latin-1 is how WSGI carries bytes in str.
    path = raw_path.decode("latin-1") if raw_path.startswith(RAW_PATH_PREFIXES) else _latin1(scope["path"])
    host, port = scope.get("server") or ("localhost", 0)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query.decode("latin-1"),
        # A header only ever becomes HTTP_*: no request can set this one.
        "RAW_URI": (raw_path + (b"?" + query if query else b"")).decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if client := scope.get("client"):
        address, scheme = origin(
            scope["headers"], address=client[0], scheme=environ["wsgi.url_scheme"], trusted=proxies
        )
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address, str(client[1])
        environ["wsgi.url_scheme"] = scheme
    _add_headers(environ, scope["headers"])
    return environ


def _add_headers(environ: Environ, headers: Iterable[tuple[bytes, bytes]]) -> None:
    for raw_name, raw_value in headers:
        # "X_Name" would become the same variable as "X-Name": such headers are dropped, as nginx does.
        if b"_" in raw_name or raw_name == b"content-length":
            continue
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        if name != "CONTENT_TYPE":
            name = f"HTTP_{name}"
        # Repeated headers are one list (RFC 9110, 5.3); HTTP/2 splits cookies, which join by ";" (RFC 9113, 8.2.3).
        separator = "; " if name == "HTTP_COOKIE" else ","
        environ[name] = f"{environ[name]}{separator}{value}" if name in environ else value


def _latin1(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def call_wsgi(wsgi: WsgiApplication, environ: Environ) -> Response:
    """Run the application in this thread and gather all it answers.

    What the request was made of is let go: Django's request is part of reference cycles (its lazy user, its messages)
    and would hold it until the collector comes by.
    """
    started: list[tuple[int, list[tuple[bytes, bytes]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        started[:] = [(int(status.split(" ", 1)[0]), encoded)]
        return written.append

    try:
        chunks = wsgi(environ, start_response)
        try:
            written.extend(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
    finally:
        environ["wsgi.input"].close()
        environ.clear()
    status, headers = started[0]
    return Response(status, headers, b"".join(written))
