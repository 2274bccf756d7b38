"""What fault scenarios have in common: a hub and a participant that are both real, peers that keep sending, and the
points at which a process is caught: it waits for a lock that the test holds, or for a service that does not answer.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg
import redis

from federation.client import Answer
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.hashes import event_id
from linmatrix.stack.driver import Driver, Refused
from linmatrix.stack.errors import StackError
from linmatrix.stack.server import Server
from linmatrix.transport.errors import TransportError
from tests.scenarios import records
from tests.scenarios.participants import Participant
from tests.scenarios.verdict import Promise, agreement
from tests.scenarios.waiting import eventually

NO_RESULT = (TransportError, Refused, StackError)
"""How work ends whose process, or whose peer's process, has died."""

RETRY_SECONDS = 0.2
"""How soon a peer tries again: real ones wait longer, which would only make the scenarios longer."""

AGREE_SECONDS = 120.0
"""Until servers are one again after a fault: back-off of up to half a minute, twice."""


@contextmanager
def locked(server: Server, statement: LiteralString, parameters: Sequence[object]) -> Iterator[None]:
    """Hold the locks that a statement takes in a server's database until the block ends."""
    with psycopg.connect(server.database_url) as connection:
        connection.execute(statement, parameters)
        yield
        connection.rollback()


def room_locked(server: Server, room_id: str) -> Any:
    """Hold a room's row: whoever appends to the room waits, with everything ready and nothing written."""
    return locked(server, "SELECT FROM rooms_room WHERE room_id = %s FOR NO KEY UPDATE", [room_id])


def waiting_for_locks(server: Server) -> int:
    """How many of a server's database sessions wait for a lock."""
    return _count(
        server, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )


def in_process(server: Server) -> int:
    """How many transactions of other servers a server has begun to process."""
    return _count(server, "SELECT count(*) FROM federation_inboundtransaction WHERE status IS NULL")


def _count(server: Server, query: LiteralString) -> int:
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def let_leases_run_out(server: Server) -> None:
    """Have two minutes and more pass for whatever a process that was killed had claimed."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        for statement in (
            "UPDATE federation_inboundtransaction SET lease_until = lease_until - interval '2 minutes'"
            " WHERE status IS NULL",
            "UPDATE federation_destination SET lease_until = lease_until - interval '2 minutes'",
            "UPDATE rooms_pendingjoin SET lease_until = lease_until - interval '2 minutes'",
        ):
            connection.execute(statement)


def flush(server: Server) -> None:
    """Empty a server's Valkey while everybody is connected to it."""
    with redis.Redis.from_url(server.redis_url) as client:
        client.flushall()


def empty(server: Server) -> None:
    """Kill a server's Valkey and take away all that it had on disk."""
    server.kill("valkey")
    shutil.rmtree(server.folder / "valkey" / "appendonlydir", ignore_errors=True)


def in_line(server: Server, room_id: str, lpdu_id: str) -> int:
    """How often an LPDU is in a room's line."""
    return [record.lpdu_id for record in records.line(server, room_id)].count(lpdu_id)


class Background:
    """Something that runs beside the test."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._outcome: Any = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except Exception as error:  # noqa: BLE001  given to whoever asks for the result
            self._outcome = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Any:
        """What came of the work, once it has ended: no answer and a refusal are results, too. Raises what else it
        raised."""
        self._thread.join(AGREE_SECONDS)
        assert not self._thread.is_alive()
        if isinstance(self._outcome, Exception) and not isinstance(self._outcome, NO_RESULT):
            raise self._outcome
        return self._outcome


class Story:
    """One room, whose hub and one participant are real servers, with what was promised to whom on the way."""

    def __init__(self, hub: Server, participant: Server, *, at_hub: Driver, at_participant: Driver) -> None:
        self.hub, self.participant = hub, participant
        self.at_hub, self.at_participant = at_hub, at_participant
        (self.room_id,) = at_hub.run("create_room", "--creator", "hugo", "--join-rule", "public")
        self.promises: list[Promise] = []

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.hub, self.participant

    def talk(self, text: str) -> None:
        """Have a user of either server say something."""
        for server, driver, user in ((self.hub, self.at_hub, "hugo"), (self.participant, self.at_participant, "alice")):
            (accepted,) = driver.run("send", self.room_id, user, text, "--no-wait")
            self.promises.append(Promise(server.server_name, self.room_id, accepted))

    def agree(self, *peers: "Sender") -> None:
        """Wait until everything is everywhere, once and in order, what these peers were answered too."""
        promises = [*self.promises, *(promise for peer in peers for promise in peer.promises)]
        agreement(self.servers, promises, seconds=AGREE_SECONDS)
        for server in self.servers:
            server.check()
        for peer in peers:
            peer.check()


class Sender:
    """A peer in a story's room that sends as a good one does: the same transaction until a 200, then the next."""

    def __init__(self, story: Story, peer: Participant) -> None:
        self.story, self.peer = story, peer
        self.promises: list[Promise] = []
        self.statuses: list[int] = []
        """Of every answer so far, 0 where none came."""
        self.number = 0
        assert peer.join(story.hub.server_name, story.room_id).status == 200

    def message(self) -> Lpdu:
        """The next thing that it says."""
        self.number += 1
        content = {"body": f"{self.peer.name} {self.number}"}
        return self.peer.lpdu(self.story.hub.server_name, self.story.room_id, type="m.room.message", content=content)

    def attempt(self, lpdu: Lpdu, *, txn_id: str) -> Answer:
        """Send a transaction once. Raises `TransportError` without an answer."""
        answer = self.peer.send(self.story.hub.server_name, [lpdu], txn_id=txn_id)
        self.statuses.append(answer.status)
        if answer.status == 200:
            assert answer.content == {"failed_pdus": {}}
            self.promises.append(Promise(self.story.hub.server_name, self.story.room_id, lpdu.lpdu_id))
        return answer

    def insist(self, lpdu: Lpdu, *, txn_id: str, given_up: Event | None = None) -> None:
        """Send a transaction until it is acknowledged, or the test has failed anyway."""
        end = time.monotonic() + AGREE_SECONDS
        while not (given_up and given_up.is_set()):
            try:
                if self.attempt(lpdu, txn_id=txn_id).status == 200:
                    return
            except TransportError:
                self.statuses.append(0)
            assert time.monotonic() < end, f"{self.peer.name} is not answered: {self.statuses[-10:]}"
            time.sleep(RETRY_SECONDS)

    def check(self) -> None:
        """Assert that it has got the room's line since it joined, once and in order, and no answer that blames us."""
        line = [record.event_id for record in records.line(self.story.hub, self.story.room_id)]
        got = [event_id(event) for event in self.peer.events(self.story.room_id)]
        assert got == line[line.index(got[0]) :], self.peer.name
        assert self.peer.most_at_once == 1
        assert 500 not in self.statuses


class Load:
    """Peers that send without a pause, from `with` to its end.

    At the end what is under way is brought to an end: each peer insists on its last transaction.
    """

    def __init__(self, story: Story, senders: Sequence[Sender]) -> None:
        self._story, self._senders = story, senders
        self._stop, self._given_up = Event(), Event()
        self._threads = [Background(partial(self._send, sender)) for sender in senders]

    def _send(self, sender: Sender) -> None:
        while not self._stop.is_set():
            lpdu = sender.message()
            sender.insist(lpdu, txn_id=lpdu.lpdu_id, given_up=self._given_up)

    def answered(self) -> int:
        """Transactions that were acknowledged so far."""
        return sum(len(sender.promises) for sender in self._senders)

    def go_on(self, count: int = 5) -> None:
        """Wait until so many more transactions were acknowledged."""
        goal = self.answered() + count
        eventually(
            lambda: self.answered() >= goal, f"{count} more transactions were acknowledged", seconds=AGREE_SECONDS
        )

    def __enter__(self) -> Self:
        self.go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if error is not None:
            self._given_up.set()
        for thread in self._threads:
            thread.result()
