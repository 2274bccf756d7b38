"""One TLS server that is many servers: who is meant, the name in the TLS handshake and the Host header say.

It knows nothing of the protocol; `tests.scenarios.participants` does. HTTP/1.1 with connections that stay open, a
thread for each.
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

from linmatrix.stack.certificates import ServerCertificate


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived."""

    host: str
    method: str
    target: str
    authorization: str
    body: bytes


Answer = tuple[int, bytes]
"""A status and a JSON body."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Listener"
    connection: ssl.SSLSocket

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] != self.server.tls_names.get(self.connection):
            status, answer = 421, b"{}"
        else:
            authorization = self.headers.get("Authorization", "")
            status, answer = self.server.respond(Request(host, self.command, self.path, authorization, body))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a failing test shows what it wants to."""


class Listener(ThreadingHTTPServer):
    """Listens on a port of its own on loopback, from `with` to its end."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, respond: Callable[[Request], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.port = self.server_port
        self.tls_names: dict[socket.socket, str] = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.sni_callback = self._note_name
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def use(self, certificate: ServerCertificate) -> None:
        """Present this certificate, whatever the name that is asked for."""
        self._context.load_cert_chain(certificate.certificate, certificate.key)

    def _note_name(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        self.tls_names[connection] = name or ""

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS in the connection's own thread, so that a slow handshake holds nobody up."""
        try:
            with self._context.wrap_socket(request, server_side=True) as connection:
                try:
                    _Handler(connection, client_address, self)
                finally:
                    self.tls_names.pop(connection, None)
        except OSError:
            return  # the client does not trust us, or has gone, as one that was killed does

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self.tls_names):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already
