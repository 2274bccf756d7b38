"""A server is backed up while it runs, its machine is lost, and it is put back in another place: peers notice a pause.

For a hub the backup has to reach to the last transaction, since its line is the rooms' only one: a base backup and the
archive of what was written after it. A participant gets what its older backup lacks from its hubs.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from linmatrix.stack.certificates import Authority
from linmatrix.stack.driver import Driver
from linmatrix.stack.server import Server
from tests.scenarios import backups, records
from tests.scenarios.conftest import STOP_SECONDS, WORKER_THREADS, make_server
from tests.scenarios.faults import Load, Sender, Story
from tests.scenarios.snapshots import snapshot
from tests.scenarios.waiting import eventually


class World:
    """A hub and a participant, either of which may be lost and come back in another folder."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder, self.authority = folder, authority
        self.hub = make_server("lost-hub", folder / "hub", authority)
        self.participant = make_server("lost-participant", folder / "participant", authority)
        self._numbers = count(1)

    def new_folder(self) -> Path:
        return self.folder / f"elsewhere-{next(self._numbers)}"

    def lose(self, server: Server) -> None:
        """Stop it, and delete all that it had."""
        server.stop()
        shutil.rmtree(server.folder)

    def again(self, server: Server, folder: Path) -> Server:
        """The same server, by its name, in another folder; not started."""
        return Server(
            folder,
            server_name=server.server_name,
            authority=self.authority,
            web_stop_seconds=STOP_SECONDS,
            worker_threads=WORKER_THREADS,
        )


@pytest.fixture(scope="module")
def world(authority, tmp_path_factory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"), authority)
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.start, (made.hub, made.participant)))
        yield made
    finally:
        made.hub.stop()
        made.participant.stop()


@pytest.fixture
def drive():
    """Acts on servers."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(Driver(server))


@pytest.fixture
def story(world, drive) -> Story:
    told = Story(world.hub, world.participant, at_hub=drive(world.hub), at_participant=drive(world.participant))
    told.at_participant.run("join", told.room_id, "alice")
    return told


def test_a_participant_put_back_from_an_older_backup_gets_what_it_lacks(world, story, drive):
    story.talk("before the backup")
    dump, lost = world.folder / "dump", world.participant
    backups.run(lost, "pg_dump", "--format=custom", "--no-owner", f"--file={dump}")
    for number in range(5):
        story.talk(f"after the backup {number}")
    story.agree()
    folder = world.new_folder()
    backups.put_back_files(lost, folder)
    world.lose(lost)
    world.participant = restored = world.again(lost, folder)
    restored.start_part("postgres")
    backups.run(restored, "pg_restore", "--no-owner", "--dbname=linmatrix", str(dump))
    restored.start()
    story.participant, story.at_participant = restored, drive(restored)
    story.talk("as if nothing had happened")
    story.agree()


def test_a_hub_that_is_lost_goes_on_elsewhere_and_nothing_is_lost_or_repeated(world, story, drive, make_participants):
    senders = [Sender(story, peer) for peer in make_participants("one", "two")]
    base, archive, folder, lost = world.folder / "base", world.folder / "archive", world.new_folder(), world.hub
    with Load(story, senders) as load:
        with backups.archiving(lost, archive):
            backups.run(lost, "pg_basebackup", f"--pgdata={base}", "--checkpoint=fast")
            load.go_on()
            story.talk("after the backup")
            lost.stop()
        backups.put_back_cluster(lost, base, archive, folder)
        world.lose(lost)
        world.hub = restored = world.again(lost, folder)
        restored.start()
        load.go_on()
    story.hub, story.at_hub = restored, drive(restored)
    story.talk("as if nothing had happened")
    story.agree(*senders)


def test_a_hub_put_back_from_an_older_backup_forks_its_rooms_which_participants_find_and_bear(world, drive):
    """Why a hub's backup has to reach to the last transaction: what it lacks and others have it never gets back."""
    told = Story(world.hub, world.participant, at_hub=drive(world.hub), at_participant=drive(world.participant))
    told.at_participant.run("join", told.room_id, "alice")
    told.agree()
    dump, lost = world.folder / "older", world.hub
    backups.run(lost, "pg_dump", "--format=custom", "--no-owner", f"--file={dump}")
    told.talk("after the backup")
    told.agree()
    before = [record.event_id for record in records.line(told.participant, told.room_id)]
    folder = world.new_folder()
    backups.put_back_files(lost, folder)
    world.lose(lost)
    world.hub = restored = world.again(lost, folder)
    restored.start_part("postgres")
    backups.run(restored, "pg_restore", "--no-owner", "--dbname=linmatrix", str(dump))
    restored.start()
    (sent,) = drive(restored).run("send", told.room_id, "hugo", "on another line")

    def held() -> list[str]:
        return [record.event_id for record in records.line(told.participant, told.room_id)]

    eventually(lambda: sent in held(), "the participant has what the hub says now")
    assert held() == [*before, sent]
    left = {record.event_id for record in records.line(restored, told.room_id)}
    assert [event for event in before if event not in left] == before[-2:]
    found = snapshot(told.participant.database_url, server="participant").rooms[told.room_id].findings
    assert [finding.partition(" ")[0] for finding in found] == ["fork"]
    assert sent in found[0]
