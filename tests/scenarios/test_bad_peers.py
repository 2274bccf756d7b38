"""Servers that keep a worker waiting, more of them than it has threads: the others get their events all the same."""

from threading import Event, Lock

import pytest

from federation.places import SLOW_SECONDS
from tests.scenarios import records
from tests.scenarios.waiting import SECONDS, eventually
from tests.scenarios.workers import one_more_worker

CREATOR = "hugo"
THREADS = 4
SLOW = [f"slow{number}" for number in range(THREADS + 1)]


class Tar:
    """What the answers of some servers stick in: each one to the first message for a while, later ones for good."""

    def __init__(self, servers):
        self.let_go = Event()
        self.stuck = 0
        self.most = 0
        self._lock = Lock()
        for server in servers:
            server.before_answering = self._hold

    def _hold(self, delivery):
        if "slowly" in bodies([delivery]):
            self.let_go.wait(SLOW_SECONDS + 0.5)
        if "never" in bodies([delivery]):
            with self._lock:
                self.stuck += 1
                self.most = max(self.most, self.stuck)
            assert self.let_go.wait(SECONDS)
            with self._lock:
                self.stuck -= 1


def bodies(deliveries):
    """The texts in some transactions, in order."""
    return [pdu["content"]["body"] for item in deliveries for pdu in item.pdus if pdu["type"] == "m.room.message"]


@pytest.fixture
def patient_worker(hub, tmp_path):
    """In place of the hub's worker, one with few threads that does not give a request up while a test runs."""
    hub.stop_part("worker")
    log = tmp_path / "patient.log"
    with one_more_worker(hub, threads=THREADS, log=log, LINMATRIX_SEND_TIMEOUT=f"{2 * SECONDS}"):
        yield
    hub.start_part("worker")


@pytest.mark.usefixtures("patient_worker")
def test_more_hanging_servers_than_threads_do_not_keep_others_waiting(hub, console, make_participants):
    (room,) = console.run("create_room", "--creator", CREATOR, "--join-rule", "public")
    *slow, quick = make_participants(*SLOW, "quick")
    for server in (*slow, quick):
        assert server.join(hub.server_name, room).status == 200
    eventually(lambda: not records.waiting(hub), "the joins were echoed")
    tar = Tar(slow)
    try:
        console.run("send", room, CREATOR, "slowly")
        eventually(lambda: not records.waiting(hub), "everybody has answered, some of them late")

        console.run("send", room, CREATOR, "never")
        eventually(lambda: tar.stuck == THREADS // 2, "slow servers hold the threads that they may hold")
        for text in ("one", "two", "three"):
            console.run("send", room, CREATOR, text)
            eventually(lambda text=text: text in bodies(quick.deliveries), f"the quick server has {text}")
        eventually(
            lambda: records.waiting(hub) == sorted(server.name for server in slow), "only the slow ones are waited for"
        )
        assert tar.most == THREADS // 2
    finally:
        tar.let_go.set()
    eventually(lambda: not records.waiting(hub), "the others have it too, now that they answer")
    for server in (*slow, quick):
        assert bodies(server.deliveries) == ["slowly", "never", "one", "two", "three"]
