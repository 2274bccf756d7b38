"""Breaking a server's parts and mending them again: what a crash, an operator, or a machine that hangs would do."""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Event, Thread

from linmatrix.stack.errors import StackError
from linmatrix.stack.server import PROCESSES, Server
from soak.schedule import Fault

SERVICES = ("postgres", "valkey")
WATCH_SECONDS = 0.5
CONSOLE = "console "

Told = Callable[[Fault, str], None]


class Breaker:
    """Breaks one server, one fault after the other, and watches that nothing else of it breaks meanwhile."""

    def __init__(self, server: Server, *, kill_console: Callable[[int], None], tell: Told) -> None:
        """`kill_console` ends the console of one of the server's lanes; `tell` hears of each fault and how it ended."""
        self._server = server
        self._kill_console = kill_console
        self._tell = tell
        self._thread: Thread | None = None
        self.survived = 0
        """Faults after which all of the server ran again."""
        self.problems: list[str] = []
        """Parts that ended by themselves, or did not start again."""

    def start(self, faults: Iterable[Fault], *, begun: float, ended: Event) -> None:
        """Bring about the faults in a thread of their own, each not before it is due. All are mended when it ends."""
        self._thread = Thread(target=self._go, args=(faults, begun, ended), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until everything is mended."""
        if self._thread is not None:
            self._thread.join()

    def _go(self, faults: Iterable[Fault], begun: float, ended: Event) -> None:
        for fault in faults:
            while (left := begun + fault.at - time.monotonic()) > 0:
                if ended.wait(min(left, WATCH_SECONDS)):
                    return
                self._watch()
            if ended.is_set():
                return
            self._break(fault, ended)
            self._watch()
        while not ended.wait(WATCH_SECONDS):
            self._watch()

    def _break(self, fault: Fault, ended: Event) -> None:
        try:
            self._tell(fault, "")
            break_and_mend(self._server, fault, ended=ended, kill_console=self._kill_console)
        except (StackError, OSError) as error:
            self.problems.append(f"{self._server.server_name}, after {fault}: {error}")
            self._tell(fault, str(error))
        else:
            self.survived += 1

    def _watch(self) -> None:
        """Note a part that has ended without being asked to, and start it again, so that the soak goes on."""
        try:
            self._server.check()
        except StackError as error:
            self.problems.append(f"{self._server.server_name}: {error}")
            for part in (*SERVICES, *PROCESSES):
                if not self._server.alive(part):
                    self._server.start_part(part, wait=False)


def break_and_mend(server: Server, fault: Fault, *, ended: Event, kill_console: Callable[[int], None]) -> None:
    """Bring about one fault, keep it up for its time or until `ended`, and undo it. Raises StackError when it cannot
    be undone."""
    if fault.part.startswith(CONSOLE):
        kill_console(int(fault.part.removeprefix(CONSOLE)))
        return
    parts = (fault.part,) if fault.part else (*PROCESSES, *SERVICES)
    for part in parts:
        _break(server, fault.kind, part)
    ended.wait(fault.seconds)
    for part in reversed(parts):
        if fault.kind == "freeze":
            server.resume(part)
        else:
            server.start_part(part, wait=False)
    if "web" in parts:
        server.wait_for_web()


def _break(server: Server, kind: str, part: str) -> None:
    match kind:
        case "freeze":
            server.pause(part)
        case "stop":
            server.stop_part(part)
        case _:
            server.kill(part)
    if kind == "empty":
        shutil.rmtree(server.folder / part / "appendonlydir", ignore_errors=True)


def plans_of(faults: Sequence[Fault], server: int) -> list[Fault]:
    """The faults of one server, in their order."""
    return [fault for fault in faults if fault.server == server]
