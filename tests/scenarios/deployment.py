"""A deployment on loopback: the services of docker-compose.yml by their own commands and with their own environment,
behind the front, any number of each.

What differs from containers is where things are: addresses, ports and folders. A web process gets an address of its own
and is known to the name server from its start to its end, as a container is, whether it serves yet, still, or not.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from linmatrix.stack.certificates import Authority
from linmatrix.stack.postgres import Postgres
from linmatrix.stack.processes import Deadline, Process, stop_together
from linmatrix.stack.server import PROJECT
from linmatrix.stack.valkey import Valkey
from tests.support.front import Front, listens

SUBSTITUTION = re.compile(r"\$\{(\w+)(?::([-?])((?:[^{}]|\$\{[^}]*\})*))?\}")
STOP_SECONDS = 75
"""As long as the compose file lets a service take (`stop_grace_period`) that is asked to stop here."""


def substituted(text: str, given: Mapping[str, str]) -> str:
    """Text of a compose file with its variables replaced."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if given.get(name):
            return given[name]
        assert kind != "?", f"{name}: {rest}"
        return substituted(rest or "", given)

    return SUBSTITUTION.sub(value, text)


class Deployment:
    """The services of one server, `name`. As a context manager: it has one of each, and stops what is left."""

    def __init__(self, folder: Path, *, host: str, authority: Authority, **given: str) -> None:
        self.folder, self.authority = folder, authority
        self.front = Front(folder / "front", host=host, authority=authority)
        self.server_name = f"{host}:{self.front.port}"
        self._given = {
            "LINMATRIX_SERVER_NAME": self.server_name,
            "POSTGRES_PASSWORD": "unused",
            "LINMATRIX_CA_FILE": str(authority.certificate_file),
            "LINMATRIX_ALLOW_PRIVATE_ADDRESSES": "1",
            **given,
        }
        self._services: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
        self._postgres, self._valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
        self._numbers = count(1)
        self._running: dict[str, list[tuple[str, Process]]] = {"web": [], "worker": [], "beat": []}
        self._stack = ExitStack()

    @property
    def database_url(self) -> str:
        return self._postgres.url()

    def environment(self, service: str = "web") -> dict[str, str]:
        """What the compose file gives a service, its places replaced by those here."""
        given = {
            name: substituted(str(value), self._given) for name, value in self._services[service]["environment"].items()
        }
        assert given.keys() >= {"LINMATRIX_DATA_DIR", "DATABASE_URL", "REDIS_URL", "PROMETHEUS_MULTIPROC_DIR"}
        outside = {name: value for name, value in os.environ.items() if not name.startswith("LINMATRIX_")}
        return {
            **outside,
            "PYTHONPATH": str(PROJECT),
            "DJANGO_SETTINGS_MODULE": "linmatrix.settings",
            **given,
            "LINMATRIX_DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": self._postgres.url(),
            "REDIS_URL": self._valkey.url(),
        }

    def _command(self, service: str, address: str) -> list[str]:
        python, *words = self._services[service]["command"]
        assert python == "python"
        places = {
            "0.0.0.0": address,  # noqa: S104  it is replaced
            "8448": str(self.front.web_port),
            "/app/static": str(self.folder / "static"),
            "/tmp/beat-schedule": str(self.folder / "beat-schedule"),  # noqa: S108  it is replaced
        }
        return [sys.executable, *(places.get(word, word) for word in words)]

    def migrate(self) -> None:
        """Run the one-shot service to its end."""
        done = subprocess.run(
            self._command("migrate", ""),
            env=self.environment("migrate"),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, service: str) -> None:
        """Start one more of a service."""
        number = next(self._numbers)
        address = f"127.0.1.{number}"
        metrics = self.folder / "metrics" / f"{service}-{number}"
        process = Process(
            service,
            self._command(service, address),
            log=self.folder / "logs" / f"{service}-{number}.log",
            env={**self.environment(service), "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
            cwd=PROJECT,
        )
        process.start()
        self._running[service].append((address, process))
        if service == "web":
            self.front.add(address)

    def stop(self, service: str) -> None:
        """Stop the one that has run for the longest, as the engine does: SIGTERM, and nothing worse in time."""
        address, process = self._running[service].pop(0)
        process.require_alive()
        ended = process.stop(seconds=STOP_SECONDS)
        if service == "web":
            self.front.remove(address)
        assert ended, f"{service} did not stop within {STOP_SECONDS} s"

    def wait_for_web(self) -> None:
        """Return when every web process takes connections."""
        deadline = Deadline(STOP_SECONDS)
        for address, process in self._running["web"]:
            while not listens(address, self.front.web_port):
                process.require_alive()
                assert deadline.pause(), process.last_lines()

    def scale(self, service: str, number: int) -> None:
        """Have as many of a service, more or fewer."""
        while len(self._running[service]) < number:
            self.start(service)
        self.wait_for_web()
        while len(self._running[service]) > number:
            self.stop(service)

    def renew(self, service: str) -> None:
        """Replace every process of a service by a new one, one after the other."""
        for _ in range(len(self._running[service])):
            self.start(service)
            self.wait_for_web()
            self.stop(service)

    def check(self) -> None:
        """Raise StackError for a process that ended without being asked to."""
        for running in self._running.values():
            for _, process in running:
                process.require_alive()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for service in (self._postgres, self._valkey):
                stack.callback(service.stop)
                service.start()
            stack.callback(lambda: stop_together([one for all_ in self._running.values() for _, one in all_]))
            stack.enter_context(self.front)
            (self.folder / "static").mkdir()
            self.migrate()
            for name in self._running:
                self.start(name)
            self.wait_for_web()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
