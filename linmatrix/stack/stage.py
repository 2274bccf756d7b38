"""Where the demo's conversation takes place: one room on several servers, its timeline shown as it grows.

An event is printed when the hub has it, followed by the servers that have it too and how long that took, counted from
the moment when somebody began to act.
"""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from linmatrix.stack.driver import ANSWER_SECONDS, Driver, Refused
from linmatrix.stack.errors import StackError
from linmatrix.stack.server import Server

ARRIVAL_SECONDS = 30.0
POLL_SECONDS = 0.02


class Stage:
    """Servers by their short names, the first one being the hub of the room. An event has so many seconds to arrive."""

    def __init__(self, console: Console, servers: dict[str, Server], *, seconds: float = ARRIVAL_SECONDS) -> None:
        self.console = console
        self._seconds = seconds
        self.servers = servers
        self.hub = next(iter(servers))
        self.present = [self.hub]
        """Servers that are in the room and running: where an event has to arrive."""
        self.room = ""
        self._width = max(len(server.server_name) for server in servers.values()) + len("@alice:")
        self._drivers: dict[str, Driver] = {}
        self._position = dict.fromkeys(servers, 0)
        self._seen: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in servers}

    def connect(self, names: Iterable[str]) -> None:
        """Be ready to act on these servers, which are running."""
        for name in names:
            self._drivers[name] = Driver(self.servers[name], answer_seconds=self._seconds + ANSWER_SECONDS)

    def disconnect(self, names: Iterable[str]) -> None:
        """Let go of these servers, before they are stopped."""
        for name in names:
            if name in self._drivers:
                self._drivers.pop(name).close()

    def user(self, localpart: str, name: str) -> str:
        """The id of a user of a server."""
        return f"@{localpart}:{self.servers[name].server_name}"

    def create(self, creator: str, *options: str) -> None:
        """Have the hub create the room."""
        begun = time.monotonic()
        (self.room,) = self._drivers[self.hub].run("create_room", "--creator", creator, *options)
        self.console.print(Text(f"Room {self.room}", "bold"))
        self._show(begun)

    def act(self, name: str, verb: str, user: str, *arguments: str, absent: Iterable[str] = ()) -> None:
        """Have a user of a server do something in the room, and wait until every server that is present knows.

        `absent` are servers for which this is the last event that they get.
        """
        begun = time.monotonic()
        (event_id,) = self._drivers[name].run(verb, self.room, user, *arguments, "--timeout", f"{self._seconds:g}")
        self._show(begun, event_id)
        self.present = [server for server in self.present if server not in absent]

    def join(self, name: str, user: str) -> None:
        """Have a user of a server that is not in the room join it."""
        self.present.append(name)
        self.act(name, "join", user)

    def refused(self, name: str, verb: str, user: str, *arguments: str, what: str) -> None:
        """Have a user try what the room does not allow, and show the reason."""
        try:
            self._drivers[name].run(verb, self.room, user, *arguments, "--timeout", f"{self._seconds:g}")
        except Refused as refusal:
            line = Text.assemble(
                (f"{'':6}  ", "dim"),
                (f"{self.user(user, name):{self._width}}  ", "cyan"),
                (f"{what}: {refusal}", "red"),
            )
            self.console.print(line, soft_wrap=True)
        else:
            raise StackError(f"{self.user(user, name)} was allowed to {what}")

    def await_arrival(self, name: str) -> int:
        """Wait until a server has what the hub has; how many events came to it meanwhile."""
        before = len(self._seen[name])
        self._look(self.hub)
        last = next(reversed(self._seen[self.hub]))
        self._wait(lambda: last in self._look(name), f"{name} did not get {last}")
        return len(self._seen[name]) - before

    def line(self, name: str) -> list[str]:
        """The ids of all events of the room's line as a server has it."""
        return [
            json.loads(row)["event_id"] for row in self._drivers[name].run("timeline", self.room, "--all", "--json")
        ]

    def _show(self, begun: float, event_id: str = "") -> None:
        """Print what is new on the hub, and where `event_id` (by default the last event) has arrived."""
        known = len(self._seen[self.hub])
        self._wait(lambda: len(self._look(self.hub)) > known, "the hub did not append the event")
        news = list(self._seen[self.hub].values())[known:]
        for row in news[:-1]:
            self.console.print(self._told(row), soft_wrap=True)
        event_id = event_id or news[-1]["event_id"]
        self.console.print(self._told(news[-1]), end="", soft_wrap=True)
        waiting = [name for name in self.present if name != self.hub]

        def arrived() -> bool:
            for name in [name for name in waiting if event_id in self._look(name)]:
                waiting.remove(name)
                took = (time.monotonic() - begun) * 1000
                self.console.print(Text(f"  {name} {took:.0f} ms", "green"), end="", soft_wrap=True)
            return not waiting

        self._wait(arrived, f"{event_id} did not arrive everywhere")
        self.console.print()

    def _told(self, row: dict[str, Any]) -> Text:
        return Text.assemble(
            (f"{row['position']:>6}  ", "dim"),
            (f"{row['event']['sender']:{self._width}}  ", "cyan"),
            str(row["happened"]),
        )

    def _look(self, name: str) -> dict[str, dict[str, Any]]:
        """What a server has shown of the room so far, by event id, with what is new there."""
        command = ("timeline", self.room, "--json", "--after", str(self._position[name]))
        try:
            rows = [json.loads(line) for line in self._drivers[name].run(*command)]
        except Refused:  # it does not know the room yet
            rows = []
        for row in rows:
            self._seen[name][row["event_id"]] = row
            self._position[name] = row["position"]
        return self._seen[name]

    def _wait(self, reached: Callable[[], bool], failure: str) -> None:
        end = time.monotonic() + self._seconds
        while not reached():
            if time.monotonic() > end:
                raise StackError(f"{failure} within {self._seconds:.0f} s.")
            time.sleep(POLL_SECONDS)
