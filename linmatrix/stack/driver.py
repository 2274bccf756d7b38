"""Acting on a running server from outside of it: `manage.py console` as a child, one command at a time.

The same commands that people type. One process per server instead of one per command, since starting Python and
Django takes longer than anything the commands do.
"""

import os
import selectors
import shlex
import subprocess
import sys
import time
from types import TracebackType

from linmatrix.stack import commands
from linmatrix.stack.errors import StackError
from linmatrix.stack.server import PROJECT, Server

ANSWER_SECONDS = 40.0
"""Longer than any command waits for another server by default."""

_MARK = "--- "


class Refused(Exception):
    """A command that ended with another status than 0; the message is its reason."""


class Driver:
    """The console of one server. Starting it does not wait until it is ready; the first answer does."""

    def __init__(self, server: Server, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self.server_name = server.server_name
        # It ends with its standard input, so it never outlives us, however we end.
        self._child = subprocess.Popen(
            [sys.executable, *commands.manage("console", "--status")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=server.environment(),
            cwd=PROJECT,
            start_new_session=True,
        )
        self._buffer = b""

    def run(self, *words: str) -> list[str]:
        """Run one command and return the lines that it printed. Raises `Refused` with its reason."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(f"{shlex.join(words)}\n".encode())
            self._child.stdin.flush()
        except BrokenPipeError:
            raise StackError(f"the console of {self.server_name} has ended") from None
        end = time.monotonic() + self._answer_seconds
        lines: list[str] = []
        while not (line := self._line(end)).startswith(_MARK):
            lines.append(line)
        status, _, reason = line.removeprefix(_MARK).partition(" ")
        if status != "0":
            raise Refused(reason)
        return lines

    def _line(self, end: float) -> str:
        """The next line of its output; raises StackError when none comes until `end`."""
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(end - time.monotonic(), 0)):
                    raise StackError(f"the console of {self.server_name} does not answer")
                if not (chunk := os.read(self._child.stdout.fileno(), 65536)):
                    raise StackError(f"the console of {self.server_name} has ended")
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        """End it as a crash would, whatever it is at; who waits for its answer gets a StackError."""
        self._child.kill()

    def close(self) -> None:
        """End it, at once: what it has answered is in the database."""
        self._child.kill()
        self._child.communicate()  # waits for it, and closes both pipes

    def __enter__(self) -> "Driver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
