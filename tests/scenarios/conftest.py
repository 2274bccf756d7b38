"""One hub for all scenarios, since starting one takes seconds, and a terminal at it.

It has four web processes, and gives its peers so little time to acknowledge that a dead worker's lease runs out while
a test waits for it. Each test makes rooms and participants of its own.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from linmatrix.stack.certificates import Authority
from linmatrix.stack.driver import Driver
from linmatrix.stack.ports import free_port
from linmatrix.stack.server import PROCESSES, Server
from tests.scenarios.faults import Sender, Story
from tests.scenarios.participants import Participant, participants

WEB_PROCESSES = 4
SEND_TIMEOUT = "6"
WORKER_THREADS = 8
# Peers keep connections open, which granian waits for when it stops.
STOP_SECONDS = 2

EVERY_PART = ("postgres", "valkey", *PROCESSES)

MakeParticipants = Callable[..., list[Participant]]
MakeSenders = Callable[..., list[Sender]]


def make_server(label: str, folder: Path, authority: Authority, *, web_workers: int = 1) -> Server:
    """A server named after `label`, not started yet."""
    return Server(
        folder,
        server_name=f"{label}.localhost:{free_port()}",
        authority=authority,
        web_workers=web_workers,
        web_stop_seconds=STOP_SECONDS,
        worker_threads=WORKER_THREADS,
        extra_environment={"LINMATRIX_SEND_TIMEOUT": SEND_TIMEOUT},
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whose certificates all servers here have and trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def hub(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs until the last scenario has ended."""
    with make_server("hub", tmp_path_factory.mktemp("hub"), authority, web_workers=WEB_PROCESSES) as server:
        yield server


@pytest.fixture(scope="session")
def console(hub: Server) -> Iterator[Driver]:
    """Acts on the hub."""
    with Driver(hub) as driver:
        yield driver


@pytest.fixture(scope="session")
def pair(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers for the scenarios that break them, each with all that belongs to it."""
    servers = [make_server(label, tmp_path_factory.mktemp(label), authority) for label in ("north", "south")]
    with ThreadPoolExecutor() as pool, ExitStack() as running:
        for server in servers:
            running.callback(server.stop)
        list(pool.map(Server.start, servers))
        yield servers[0], servers[1]


@pytest.fixture(scope="session")
def at_pair(pair: tuple[Server, Server]) -> Iterator[tuple[Driver, Driver]]:
    """Acts on the two."""
    with Driver(pair[0]) as first, Driver(pair[1]) as second:
        yield first, second


@pytest.fixture
def story(pair: tuple[Server, Server], at_pair: tuple[Driver, Driver]) -> Iterator[Story]:
    """A room of the first of the pair with a user of the second in it. Whatever happens there, all runs afterwards."""
    told = Story(*pair, at_hub=at_pair[0], at_participant=at_pair[1])
    told.at_participant.run("join", told.room_id, "alice")
    told.agree()
    yield told
    for server in pair:
        for part in EVERY_PART:
            server.resume(part)
            server.start_part(part)


@pytest.fixture
def make_senders(story: Story, make_participants: MakeParticipants) -> MakeSenders:
    """Makes peers in the story's room that send as they should."""

    def make(*labels: str) -> list[Sender]:
        return [Sender(story, peer) for peer in make_participants(*labels)]

    return make


@pytest.fixture
def make_participants(authority: Authority, tmp_path: Path) -> Iterator[MakeParticipants]:
    """Makes servers of these names that live as long as the test.

    They trust the hub; whether the hub trusts them, `authority` decides.
    """
    numbers, trusted = count(1), authority
    with ExitStack() as stack:

        def make(*labels: str, authority: Authority = authority) -> list[Participant]:
            folder = tmp_path / f"participants-{next(numbers)}"
            return stack.enter_context(participants(*labels, authority=authority, folder=folder, trusted=trusted))

        yield make
