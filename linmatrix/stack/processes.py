"""Child processes: started with a log file each, watched, and none left behind.

Every child leads a process group of its own, so that Ctrl-C at the terminal reaches only us and we decide the order
in which things stop, and so that what a child has started itself ends with it. Should we be killed outright, the
kernel ends the children (`setpriv --pdeathsig`, where there is a setpriv: on Linux).
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from linmatrix.stack.errors import StackError

STOP_SECONDS = 20.0
LOG_LINES_SHOWN = 20
_POLL_SECONDS = 0.02

# The kernel's parent-death signal means the thread that forked, not the process: a child started from a thread that
# ends would end with it. All children are therefore started from this one, which lives as long as we do.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def dying_with_us(argv: Sequence[str], *, stop_signal: signal.Signals) -> list[str]:
    """The command line that has the kernel send it `stop_signal` when we die."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(argv)
    return [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), "--", *argv]


class Process:
    """One child: its command line, its log, and its end."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._argv = dying_with_us(argv, stop_signal=stop_signal)
        self._env = env
        self._cwd = cwd
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, *, stdin: bytes | None = None) -> None:
        """Start it; `stdin` is what it reads there (nothing by default, and never ours)."""
        if self.alive:
            raise StackError(f"{self.name} is running already (process {self.pid})")
        _spawner.submit(self._spawn, stdin).result()

    def _spawn(self, stdin: bytes | None) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        if stdin is not None:
            assert self._child.stdin is not None
            with self._child.stdin as pipe:
                pipe.write(stdin)

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise StackError(f"{self.name} was never started")
        return self._child.pid

    def stop(self, *, seconds: float = STOP_SECONDS) -> bool:
        """Ask it to end, wait, then end it and its process group. Does nothing when it is not running.

        Returns whether it ended when it was asked to.
        """
        self._settle()
        if self._child is None:
            return True
        self._child.send_signal(self._stop_signal)
        self.resume()  # one that is paused would not hear it
        return self._end(seconds)

    def kill(self) -> None:
        """End it and its process group at once, as a crash would."""
        self._settle()
        if self._child is not None:
            self._end(0.0)

    def pause(self) -> None:
        """Freeze it and its process group where they are, as a machine that hangs would: connections stay open."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        # One that has ended and was waited for has no group; its number may be somebody else's by now.
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _settle(self) -> None:
        """Wait until a start that Ctrl-C interrupted here has run its course in the spawner."""
        _spawner.submit(lambda: None).result()

    def _end(self, seconds: float) -> bool:
        assert self._child is not None
        ended = False
        try:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=seconds)
                ended = True
        finally:
            # The group too when its leader has gone, for the leader may have left others.
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None
        return ended

    def last_lines(self, count: int = LOG_LINES_SHOWN) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def require_alive(self) -> None:
        """Raise StackError with the end of the log when it has exited without our asking."""
        if self._child is not None and (code := self._child.poll()) is not None:
            reason = f"signal {-code}" if code < 0 else f"status {code}"
            raise StackError(f"{self.name} ended with {reason}. The end of {self.log}:\n{self.last_lines()}")


class Deadline:
    """Waiting for something to become true, with an end."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def pause(self) -> bool:
        """Sleep a moment; False when the time is up."""
        time.sleep(_POLL_SECONDS)
        return time.monotonic() < self._end


class Part(Protocol):
    """What can be started and ended by itself."""

    @property
    def alive(self) -> bool: ...
    def start(self) -> object: ...
    def stop(self) -> object: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def require_alive(self) -> None: ...


def stop_together(parts: Iterable[Part]) -> None:
    """Stop these at the same time; when all have stopped, raise what the first that failed raised."""
    with ThreadPoolExecutor() as pool:
        results = [pool.submit(part.stop) for part in parts]
    for result in results:
        result.result()
