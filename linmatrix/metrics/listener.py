"""The pages of `linmatrix.monitoring` over plain HTTP at an address of their own, LINMATRIX_METRICS_LISTEN.

For workers, which listen nowhere else, and for web processes behind a balancer, which passes on their public port and
not this one. All processes of a machine or container that share their numbers may have the same address: each listens
there (SO_REUSEPORT), the kernel chooses who answers, and any of them answers for all. When one ends the others go on.
"""

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socket import AF_INET6
from socketserver import TCPServer
from typing import Any

from django.conf import settings

logger = logging.getLogger(__name__)

READ_SECONDS = 10.0
"""Until a request has to be there."""

MAX_AT_ONCE = 16
"""Connections, each of which has a thread. More are closed at once."""


class _Handler(BaseHTTPRequestHandler):
    timeout = READ_SECONDS
    server_version, sys_version = "linmatrix", ""

    def do_GET(self) -> None:
        # Imported late: it needs Django's apps, which are loaded by the time that somebody asks.
        from linmatrix.monitoring import PATHS, Reader, page  # noqa: PLC0415

        path = self.path.partition("?")[0]
        if path not in PATHS:
            self.send_error(404)
            return
        reader = Reader(self.client_address[0], self.headers.get("Authorization", ""), public=False)
        answer = page(path, reader)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news."""


class _Listener(ThreadingHTTPServer):
    allow_reuse_port = True
    request_queue_size = MAX_AT_ONCE
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._places = threading.BoundedSemaphore(MAX_AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, if there is a place for one."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """And give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def server_bind(self) -> None:
        """Without asking DNS for this machine's name, which `HTTPServer` does, and which may hang where DNS does."""
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """In the log, in its form."""
        logger.warning("a request for metrics failed", exc_info=True)


class _Listener6(_Listener):
    address_family = AF_INET6


def begin() -> int | None:
    """Listen where the settings say, in a thread that ends with the process; the port, None for nowhere.

    An address that cannot be had is an error in the log, and no reason not to serve.
    """
    if settings.METRICS_LISTEN is None:
        return None
    host, port = settings.METRICS_LISTEN
    try:
        server = (_Listener6 if ip_address(host).version == 6 else _Listener)((host, port), _Handler)
    except OSError as error:
        logger.error("LINMATRIX_METRICS_LISTEN=%s:%s: %s", host, port, error.strerror)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_address[1])
