"""A real granian that serves tests.stack.echo, started as the stack starts it."""

import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from linmatrix.stack import commands
from linmatrix.stack.certificates import Authority
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline, Process
from linmatrix.stack.readiness import answers

ECHO = "tests.stack.echo:application"


class Web(NamedTuple):
    """Where it listens, and whom its certificate is signed by."""

    port: int
    authority: Authority

    def connect(self, *protocols: str) -> ssl.SSLSocket:
        """A TLS connection that offers these protocols (ALPN)."""
        return self.tls(*protocols).wrap_socket(self.plain(), server_hostname="localhost")

    def tls(self, *protocols: str) -> ssl.SSLContext:
        """What such a connection is made with."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate_file))
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def plain(self) -> socket.socket:
        """A TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextmanager
def serving(folder: Path, **options: int) -> Iterator[Web]:
    """The server, until the block ends; `options` are those of `commands.web`."""
    authority = Authority(folder / "ca")
    files = authority.issue(["localhost"], folder=folder)
    port = free_port()
    command: Sequence[str] = commands.web(
        host="127.0.0.1",
        port=port,
        workers=1,
        certificate=files.certificate,
        key=files.key,
        static=folder,
        **options,
    )
    process = Process("web", [sys.executable, *command[:-1], ECHO], log=folder / "web.log")
    process.start()
    try:
        deadline = Deadline(60)
        while not answers("127.0.0.1", port, authority=authority):
            process.require_alive()
            assert deadline.pause(), process.last_lines()
        yield Web(port, authority)
    finally:
        process.stop()
