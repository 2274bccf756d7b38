"""A worker dies at the worst moment: its peer has the transaction, and nobody has noted it.

The peer's answer is held back until the worker is dead, so what the peer did is lost on the way. Another worker must
send the same transaction again, byte for byte, since that is how the peer knows it.
"""

import shutil
from threading import Event

import pytest

from tests.scenarios import records
from tests.scenarios.waiting import SECONDS, eventually

CREATOR = "hugo"


class HeldBack:
    """The answer to the next transaction with a certain message in it."""

    def __init__(self, participant, body):
        self.arrived, self.let_go = Event(), Event()
        self.body = body
        participant.before_answering = self._hold

    def _hold(self, delivery):
        if self.body in bodies([delivery]) and not self.arrived.is_set():
            self.arrived.set()
            assert self.let_go.wait(SECONDS)


def bodies(deliveries):
    """The texts in some transactions, in order."""
    return [pdu["content"]["body"] for item in deliveries for pdu in item.pdus if pdu["type"] == "m.room.message"]


@pytest.fixture
def room(hub, console):
    """A room that anybody may join."""
    (room_id,) = console.run("create_room", "--creator", CREATOR, "--join-rule", "public")
    return room_id


@pytest.fixture
def participant(hub, room, make_participants):
    """A server in the room that has its own join already."""
    (server,) = make_participants("participant")
    assert server.join(hub.server_name, room).status == 200
    eventually(lambda: not records.waiting(hub), "the join was echoed")
    return server


@pytest.fixture
def worker(hub):
    """The hub's worker, which runs again afterwards, whatever happened."""
    yield "worker"
    hub.start_part("worker")


def test_what_a_killed_worker_had_sent_comes_again_byte_for_byte_and_all_else_after_it(
    hub, console, room, participant, worker
):
    held = HeldBack(participant, "one")
    console.run("send", room, CREATOR, "one")
    assert held.arrived.wait(SECONDS)
    console.run("send", room, CREATOR, "two")
    hub.kill(worker)
    held.let_go.set()
    console.run("send", room, CREATOR, "three")
    assert bodies(participant.deliveries) == ["one"], "the worker was killed between sending and acknowledging"

    hub.start_part(worker)
    eventually(lambda: "three" in bodies(participant.deliveries), "the messages after the held one arrived")
    eventually(lambda: not records.waiting(hub), "everything was acknowledged")

    first, again = (item for item in participant.deliveries if "one" in bodies([item]))
    assert (again.target, again.body) == (first.target, first.body)
    assert bodies(participant.deliveries) == ["one", "one", "two", "three"]
    assert participant.most_at_once == 1


def test_losing_every_message_to_the_workers_loses_no_event(hub, console, room, participant):
    """Redis wakes workers, and no more: it is gone while events are appended, and comes back empty."""
    hub.kill("valkey")
    shutil.rmtree(hub.folder / "valkey" / "appendonlydir")
    console.run("send", room, CREATOR, "unheard")
    hub.start_part("valkey")
    eventually(lambda: bodies(participant.transactions) == ["unheard"], "the message arrived")


def test_a_worker_that_is_sending_when_redis_dies_goes_on_when_it_is_back(hub, console, room, participant):
    """It has not told Redis yet that it took the message, which is nothing worth dying for."""
    log = hub.log("worker")
    before = log.stat().st_size
    held = HeldBack(participant, "one")
    console.run("send", room, CREATOR, "one")
    assert held.arrived.wait(SECONDS)
    hub.kill("valkey")
    eventually(lambda: b"Connection to broker lost" in log.read_bytes()[before:], "the worker has noticed")
    hub.start_part("valkey")
    held.let_go.set()
    console.run("send", room, CREATOR, "two")
    eventually(lambda: "two" in bodies(participant.deliveries), "what was sent afterwards arrived", seconds=30)
    eventually(lambda: b"Connected to redis" in log.read_bytes()[before:], "the worker is connected again", seconds=30)
    hub.check()
