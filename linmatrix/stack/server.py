"""One complete linmatrix server in one data folder: what `make run`, the demo and the fault scenarios start.

    with Server(folder, server_name="hub.localhost:8448") as server:
        server.stop_part("worker")      # what is queued waits in the database
        server.kill("web")              # as a crash would
        server.start_part("web")

PostgreSQL and Valkey are embedded unless URLs of others are given. Several servers may run side by side; give them
one certificate Authority, so that they trust each other.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import parse_server_name
from linmatrix.stack import commands
from linmatrix.stack.certificates import Authority
from linmatrix.stack.errors import StackError
from linmatrix.stack.lock import FolderLock
from linmatrix.stack.ports import PortHold, free_port
from linmatrix.stack.postgres import Postgres
from linmatrix.stack.processes import Deadline, Part, Process, stop_together
from linmatrix.stack.readiness import answers
from linmatrix.stack.valkey import Valkey

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 8448  # where a server name without a port is looked for (draft, "Server Names")
WEB_START_SECONDS = 60.0
_WATCH_SECONDS = 0.25

# They start after the services and stop before them.
PROCESSES = ("web", "worker", "beat")


class Server:
    """A server named `server_name`, listening on `host` at the port of that name (or at `port`)."""

    def __init__(
        self,
        folder: Path,
        *,
        server_name: str | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        authority: Authority | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        web_workers: int = 1,
        worker_threads: int = commands.DEFAULT_WORKER_THREADS,
        web_stop_seconds: int = commands.WEB_STOP_SECONDS,
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.server_name = server_name or f"linmatrix.localhost:{port or free_port()}"
        try:
            parsed = parse_server_name(self.server_name)
        except Malformed as error:
            raise StackError(f"{self.server_name!r} cannot be a server's name: {error}") from None
        self.hostname = parsed.host
        self.port = port or parsed.port or DEFAULT_PORT
        self.host = host
        self.web_workers = web_workers
        self.worker_threads = worker_threads
        self.web_stop_seconds = web_stop_seconds
        self._database_url = database_url
        self._redis_url = redis_url
        self._extra_environment = dict(extra_environment or {})
        self._metrics = self.folder / "metrics"
        self._lock = FolderLock(self.folder)
        self._hold = PortHold()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority = authority or Authority(self.folder / "tls")
        self._postgres = None if database_url else Postgres(self.folder / "postgres")
        self._valkey = None if redis_url else Valkey(self.folder / "valkey")
        services = {"postgres": self._postgres, "valkey": self._valkey}
        self._parts: dict[str, Part] = {name: service for name, service in services.items() if service}

    # What it is called and where it is

    @property
    def base_url(self) -> str:
        return f"https://{self.hostname}:{self.port}"

    @property
    def database_url(self) -> str:
        return self._database_url or (self._postgres.url() if self._postgres else "")

    @property
    def redis_url(self) -> str:
        return self._redis_url or (self._valkey.url() if self._valkey else "")

    @property
    def signing_key_file(self) -> Path:
        return self.folder / "signing.key"

    def log(self, part: str) -> Path:
        """The log file of a process."""
        return self.folder / "logs" / f"{part}.log"

    def environment(self) -> dict[str, str]:
        """Everything that its processes, and manage.py beside them, need to know."""
        return {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "linmatrix.settings",
            "LINMATRIX_SERVER_NAME": self.server_name,
            "LINMATRIX_DATA_DIR": str(self.folder),
            "LINMATRIX_SIGNING_KEY_FILE": str(self.signing_key_file),
            "LINMATRIX_SECRET_KEY_FILE": str(self.folder / "django-secret-key"),
            "LINMATRIX_CA_FILE": str(self.authority.certificate_file),
            "LINMATRIX_ALLOW_PRIVATE_ADDRESSES": "1",
            "LINMATRIX_WEB_AFFINITY": os.environ.get("LINMATRIX_WEB_AFFINITY", "1"),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            **self._extra_environment,
        }

    # All of it

    def start(self) -> None:
        """Start every part, with the database migrated, and return when requests are answered."""
        self.acquire()
        # Of processes before the machine's last start, maybe, whose ids now are others'.
        shutil.rmtree(self._metrics, ignore_errors=True)
        for service in list(self._parts):
            self.start_part(service)
        self.prepare()
        for part in PROCESSES:
            self.start_part(part, wait=False)
        self.wait_for_web()
        self.check()

    def stop(self) -> None:
        """Stop every part, the services last, and leave the folder to others."""
        try:
            stop_together([part for name, part in self._parts.items() if name in PROCESSES])
            stop_together([part for name, part in self._parts.items() if name not in PROCESSES])
        finally:
            self._hold.release()
            self._lock.release()

    def __enter__(self) -> "Server":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def watch(self) -> NoReturn:
        """Never return: raise StackError when a part ends without being asked to."""
        while True:
            self.check()
            time.sleep(_WATCH_SECONDS)

    def check(self) -> None:
        """Raise StackError, with the end of its log, for a part that has ended without being asked to."""
        for part in self._parts.values():
            part.require_alive()

    # Its parts: postgres, valkey, web, worker, beat

    def acquire(self) -> None:
        """Claim the folder and the port, or raise StackError: what is taken is told apart from what is broken."""
        self._lock.acquire()
        if not self._hold.acquire(self.port, host=self.host):
            self._lock.release()
            raise StackError(f"Port {self.port} is taken: stop what listens there, or choose another server name.")

    def start_part(self, part: str, *, wait: bool = True) -> None:
        """Start one part; for web, wait by default until it answers."""
        if part in PROCESSES:
            if self.alive(part):
                return
            # Made anew: the environment may have changed since.
            self._parts[part] = Process(
                part,
                [sys.executable, *self._command(part)],
                log=self.log(part),
                # Where they put their metrics together; commands beside them count for themselves.
                env={"PROMETHEUS_MULTIPROC_DIR": str(self._metrics), **self.environment()},
                cwd=PROJECT,
            )
        self._parts[part].start()
        if part == "web" and wait:
            self.wait_for_web()

    def stop_part(self, part: str) -> None:
        """Stop one part as an operator would."""
        self._parts[part].stop()

    def kill(self, part: str) -> None:
        """End one part as a crash would."""
        self._parts[part].kill()

    def pause(self, part: str) -> None:
        """Freeze one part, as a machine that hangs would: its connections stay open and nothing answers."""
        self._parts[part].pause()

    def resume(self, part: str) -> None:
        """Let a paused part go on."""
        self._parts[part].resume()

    def restart(self, part: str) -> None:
        self.stop_part(part)
        self.start_part(part)

    def alive(self, part: str) -> bool:
        return part in self._parts and self._parts[part].alive

    def manage(self, *arguments: str, extra_environment: Mapping[str, str] | None = None) -> str:
        """Run a manage.py command against it and return what it printed; raise StackError when it fails."""
        return self._run(commands.manage(*arguments), extra_environment or {})

    def _run(self, command: Sequence[str], extra_environment: Mapping[str, str]) -> str:
        result = subprocess.run(
            [sys.executable, *command],
            env={**self.environment(), **extra_environment},
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise StackError(f"{' '.join(command[:2])} failed:\n{result.stdout}{result.stderr}".rstrip())
        return result.stdout

    def prepare(self) -> None:
        """Bring the database's schema and the admin's static files up to date."""
        self._run(commands.PREPARE, {})

    def wait_for_web(self) -> None:
        """Return when it answers a request; raise StackError when it has ended, or takes too long."""
        deadline = Deadline(WEB_START_SECONDS)
        while not answers(self.host, self.port, authority=self.authority):
            self._parts["web"].require_alive()
            if not deadline.pause():
                raise StackError(f"web does not answer: see {self.log('web')}")

    def _command(self, part: str) -> list[str]:
        if part == "web":
            files = self.authority.issue([self.hostname], folder=self.folder / "tls")
            return commands.web(
                host=self.host,
                port=self.port,
                workers=self.web_workers,
                certificate=files.certificate,
                key=files.key,
                static=self.folder / "static",
                stop_seconds=self.web_stop_seconds,
            )
        if part == "worker":
            return commands.worker(threads=self.worker_threads)
        return commands.beat(schedule=self.folder / "beat-schedule")
