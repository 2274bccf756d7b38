"""The front of a deployment on loopback: Caddy with deploy/Caddyfile as it is, and a name server that knows web."""

import os
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from linmatrix.stack.certificates import Authority
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline, Process
from linmatrix.stack.server import PROJECT
from tests.support.name_server import NameServer, addresses

CONFIGURATION = PROJECT / "deploy" / "Caddyfile"
WEB = "web"
START_SECONDS = 60

needs_caddy = pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy, which is the front, is not installed")


class Front:
    """Answers for `host` at `port` with a certificate of `authority`, and asks those addresses that it is told."""

    def __init__(self, folder: Path, *, host: str, authority: Authority, **settings: str) -> None:
        self.host, self.port, self.web_port = host, free_port(), free_port()
        self.authority = authority
        self._addresses: list[str] = []
        self._names = NameServer({})
        folder.mkdir(parents=True, exist_ok=True)
        files = authority.issue([host], folder=folder)
        options = folder / "options"
        options.write_text(f"default_bind 127.0.0.1\nhttp_port {free_port()}\n")
        self._process = Process(
            "front",
            ["caddy", "run", "--config", str(CONFIGURATION), "--adapter", "caddyfile"],
            log=folder / "front.log",
            env={
                **os.environ,
                "XDG_DATA_HOME": str(folder / "data"),
                "XDG_CONFIG_HOME": str(folder / "config"),
                "LINMATRIX_SITES": f"https://{host}:{self.port}",
                "LINMATRIX_TLS": f"{files.certificate} {files.key}",
                "LINMATRIX_FRONT_OPTIONS": str(options),
                "LINMATRIX_WEB_HOST": f"{WEB}.",
                "LINMATRIX_WEB_PORT": str(self.web_port),
                "LINMATRIX_DNS": f"udp/127.0.0.1:{self._names.port}",
                **settings,
            },
            cwd=folder,
        )

    def add(self, address: str) -> None:
        """Let the name lead there, too."""
        self._addresses.append(address)
        self._tell()

    def remove(self, address: str) -> None:
        """Let it lead there no longer."""
        self._addresses.remove(address)
        self._tell()

    def _tell(self) -> None:
        self._names.zone = dict(addresses(WEB, *self._addresses, ttl=1))

    def log(self) -> str:
        return self._process.last_lines()

    def __enter__(self) -> Self:
        self._names.__enter__()
        self._process.start()
        deadline = Deadline(START_SECONDS)
        while not listens("127.0.0.1", self.port):
            self._process.require_alive()
            assert deadline.pause(), self.log()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()
        self._names.__exit__()


def listens(address: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
