"""What a run starts, and its end: servers with databases of their own, helpers, the fake participants.

Databases are made in the PostgreSQL of DATABASE_URL under names of their own and dropped at the end, so that one with
data of yours in it can be measured. Each server has a Valkey of its own: a worker of another one would take its
wake-ups away. Everything else is in a folder that is removed.
"""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from bench.helper import Helper
from linmatrix.stack import commands
from linmatrix.stack.certificates import Authority
from linmatrix.stack.errors import StackError
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline, Process
from linmatrix.stack.readiness import answers
from linmatrix.stack.scratch import SCRATCH
from linmatrix.stack.server import PROJECT, Server

PARTICIPANTS = 4
"""As many transactions may be in flight at the hub, one of each participant."""

CROWD = {"good": 49, "hang": 100, "drip": 1}
"""Further servers that only answer, how many of each name; `bench.answering` says how."""

SEND_TIMEOUT = "10"
"""Seconds that a server has to acknowledge a transaction: a run has to wait until those that hang are given up."""

START_SECONDS = 30.0
HOST = "127.0.0.1"
ANSWERING = "participants"


class Lab:
    """A hub with one web process, and fake participants whose keys it knows."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        SCRATCH.mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=SCRATCH))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._admin_url = os.environ.get("DATABASE_URL", "")
        if not self._admin_url:
            raise StackError("There is no DATABASE_URL: run the benchmarks with `make bench`.")
        self.authority = Authority(self.folder / "tls")
        self.port = free_port()
        self.participants = [f"p{number}.localhost:{self.port}" for number in range(1, PARTICIPANTS + 1)]
        self._spoiled = self.folder / "spoiled"
        self._answering: Process | None = None

    def __enter__(self) -> "Lab":
        try:
            self.hub = self.server("hub")
            self.sender = self.helper("sender", dict(os.environ))
            self.inside = self.inside_of(self.hub)
            self.inside.call("bench.inside.hosting:publish", names=self.participants)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def server(self, name: str) -> Server:
        """A server that serves requests: database, Valkey and one web process, but no worker yet."""
        server = Server(
            self.folder / name,
            server_name=f"{name}.localhost:{free_port()}",
            authority=self.authority,
            database_url=self._database(name),
            extra_environment={"LINMATRIX_SEND_TIMEOUT": SEND_TIMEOUT},
        )
        server.acquire()
        self._stack.callback(server.stop)
        server.start_part("valkey")
        server.prepare()
        server.start_part("web")
        return server

    def inside_of(self, server: Server) -> Helper:
        """A helper inside of the server's Django."""
        return self.helper(f"inside-{server.hostname}", server.environment(), django=True)

    def helper(self, name: str, environment: dict[str, str], *, django: bool = False) -> Helper:
        helper = Helper(environment=environment, log=self.folder / f"{name}.log", django=django)
        self._stack.callback(helper.close)
        return helper

    def start_answering(self) -> None:
        """From now on the fake participants and the crowd take what the hub sends them."""
        if self._answering is not None:
            return
        crowd = [name for kind in CROWD for name in self.named(kind)]
        names = [name.partition(":")[0] for name in [*self.participants, *crowd]]
        files = self.authority.issue(names, folder=self.folder / ANSWERING)
        arguments = commands.web(
            host=HOST, port=self.port, workers=1, certificate=files.certificate, key=files.key, static=self.folder
        )
        process = Process(
            ANSWERING,
            [sys.executable, *arguments[:-1], "bench.answering:application"],
            log=self.folder / f"{ANSWERING}.log",
            env={**os.environ, "LINMATRIX_BENCH_SPOILED": str(self._spoiled)},
            cwd=PROJECT,
        )
        self._stack.callback(process.stop)
        process.start()
        self._answering = process
        deadline = Deadline(START_SECONDS)
        while not answers(HOST, self.port, authority=self.authority):
            process.require_alive()
            if not deadline.pause():
                raise StackError(f"the participants do not answer:\n{process.last_lines()}")

    def named(self, kind: str) -> list[str]:
        """The servers of the crowd of that kind."""
        return [f"{kind}{number}.localhost:{self.port}" for number in range(1, CROWD[kind] + 1)]

    @contextmanager
    def spoiled(self) -> Iterator[None]:
        """Have those of the crowd that can misbehave do it until the block ends."""
        self._spoiled.touch()
        try:
            yield
        finally:
            self._spoiled.unlink()

    def new_room(self, names: list[str] | None = None, *, users: int = 1) -> str:
        """A new room on the hub with the participants in it, or with these servers' users; its id."""
        names = self.participants if names is None else names
        room_id: str = self.inside.call("bench.inside.hosting:new_room", names=names, users=users)
        return room_id

    def set_web_processes(self, count: int) -> None:
        """Have the hub run so many web processes from now on."""
        self.hub.stop_part("web")
        self.hub.web_workers = count
        self.hub.start_part("web")

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        """Have the hub run so many workers until the block ends."""
        more = [
            Process(
                f"worker{number}",
                [sys.executable, *commands.worker(), "--hostname", f"worker{number}@{self.hub.hostname}"],
                log=self.folder / f"worker{number}.log",
                env=self.hub.environment(),
                cwd=PROJECT,
            )
            for number in range(2, count + 1)
        ]
        with ExitStack() as running:
            running.callback(self.hub.stop_part, "worker")
            self.hub.start_part("worker")
            for process in more:
                running.callback(process.stop)
                process.start()
            yield

    def send(
        self,
        room: str | list[str],
        *,
        transactions: int,
        lpdus: int,
        participants: int = PARTICIPANTS,
        warm_up: int = 1,
    ) -> dict[str, Any]:
        """Have participants send into one room, or each into another (`bench.sender.run`)."""
        result: dict[str, Any] = self.sender.call(
            "bench.sender:run",
            hub=self.hub.server_name,
            rooms=[room] * participants if isinstance(room, str) else room,
            participants=self.participants[:participants],
            transactions=transactions,
            lpdus=lpdus,
            warm_up=warm_up,
            ca_file=str(self.authority.certificate_file),
        )
        return result

    def ask(self, function: str, **arguments: Any) -> Any:
        """Have the first participant ask the hub (`bench.sender`)."""
        return self.sender.call(
            f"bench.sender:{function}",
            hub=self.hub.server_name,
            participant=self.participants[0],
            ca_file=str(self.authority.certificate_file),
            **arguments,
        )

    def _database(self, name: str) -> str:
        database = f"linmatrix_bench_{name}_{secrets.token_hex(4)}"
        identifier = sql.Identifier(database)
        create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0").format(identifier)
        # Not WITH (FORCE): it may not end autovacuum, which a plain DROP does. Who was connected has ended by then.
        drop = sql.SQL("DROP DATABASE {}").format(identifier)
        self._execute(create)
        self._stack.callback(self._execute, drop)
        return urlsplit(self._admin_url)._replace(path=f"/{database}").geturl()

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            connection.execute(statement)
