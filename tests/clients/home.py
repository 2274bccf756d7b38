"""A server as its own users' clients see it."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from bench.helper import Helper
from linmatrix.stack.server import Server

Json = dict[str, Any]


class Refused(Exception):
    """The server, or the room's hub, would not have it; the message is its reason."""


class Home:
    """One server; `tests.clients.verbs` runs beside it in a process of its own, in the server's environment."""

    def __init__(self, server: Server, log: Path) -> None:
        self.server_name = server.server_name
        self._lock = Lock()
        self._helper = Helper(environment=server.environment(), log=log, django=True)

    def call(self, verb: str, **given: Any) -> Any:
        """One of `tests.clients.verbs`. Raises `Refused`, and StackError with a traceback for anything else."""
        with self._lock:  # several threads may act on one server
            answer = self._helper.call(f"tests.clients.verbs:{verb}", **given)
        if isinstance(answer, dict) and "refused" in answer:
            raise Refused(answer["refused"])
        return answer

    def user(self, localpart: str) -> str:
        """The id of a user of the server."""
        return f"@{localpart}:{self.server_name}"

    def create_room(self, creator: str, *, encryption: str) -> str:
        """A public room's id."""
        room_id: str = self.call("create_room", creator=creator, encryption=encryption)
        return room_id

    def send(self, room_id: str, sender: str, type: str, content: Json) -> str:
        """An event's id, once it is in the line. Raises `Refused`."""
        event_id: str = self.call("send", room_id=room_id, sender=sender, type=type, content=content)["event_id"]
        return event_id

    def send_to_device(self, sender: str, messages: Sequence[tuple[str, str, str, Json]]) -> None:
        """To users' devices: user id, device id, type, content."""
        self.call("send_to_device", sender=sender, messages=list(messages))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._helper.close()
