"""Servers to talk to: scripted ones that may misbehave, one without TLS, and a real HTTP/2 one with an echoing
application."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

Script = Callable[[ssl.SSLSocket, bytes], None]
"""Given the connection and the head of a request, answer it, well or badly."""


def answer(status: str = "200 OK", body: bytes = b"{}", *headers: str) -> Script:
    """A well-formed HTTP/1.1 response."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode()
    return lambda connection, _request: connection.sendall(head + body)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """TLS for a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class ScriptedPeer:
    """An HTTP/1.1 server on loopback that answers every request by a script and counts what reaches it."""

    def __init__(self, context: ssl.SSLContext, script: Script, *, address: str = "127.0.0.1", port: int = 0) -> None:
        self._context = context
        self._script = script
        self._listener = socket.create_server((address, port))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.requests: list[bytes] = []
        self.server_names: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: self.server_names.append(name)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_listening()
        for connection in self._open:
            with closing(connection):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # closed already
        for thread in self._threads:
            thread.join(timeout=10)

    def stop_listening(self) -> None:
        """Refuse new connections from now on."""
        if self._listener.fileno() != -1:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            with self._context.wrap_socket(raw, server_side=True) as connection:
                self._open.append(connection)
                self.connections += 1
                while head := _read_request(connection):
                    self.requests.append(head)
                    self._script(connection, head)
        except OSError:
            return  # the client hung up or refused us, which is what many tests are about


def _read_request(connection: ssl.SSLSocket) -> bytes:
    """The head of the next request, its body read and dropped; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0]) - len(body) if lengths else 0
    while missing > 0:
        missing -= len(connection.recv(65536))
    return head


@contextmanager
def plain_peer() -> Iterator[tuple[int, list[str]]]:
    """An HTTP/1.1 server without TLS: its port, and what it was asked."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append(f"{self.request_version} {self.path} {self.headers['Host']}")
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True  # a client keeps its connection
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


async def echo(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """An ASGI application that tells how it saw the request."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    seen = {
        "http": scope["http_version"],
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        "length": length,
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@contextmanager
def http2_peer(certificate: trustme.LeafCert, folder: Path) -> Iterator[int]:
    """A granian server of `echo` with HTTP/2 and TLS 1.3; yields its port."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ssl-certificate", str(folder / "cert.pem"), "--ssl-keyfile", str(folder / "key.pem")]
    command += ["--ssl-protocol-min", "tls1.3", "--no-ws", "--http", "auto", f"{__name__}:echo"]
    log = (folder / "granian.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            _wait_for(port, process)
            yield port
        finally:
            # With its workers, and at once: asked politely it waits for clients to hang up.
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the HTTP/2 server did not start")
