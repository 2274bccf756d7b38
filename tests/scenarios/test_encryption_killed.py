"""To-device messages between two servers whose processes are killed: each arrives, once, and in order.

The moments are reached as in `test_faults_processes`: a process waits for a row that the test holds, and gets SIGKILL
there.
"""

from contextlib import ExitStack
from functools import partial
from itertools import count
from threading import Event

import psycopg
import pytest

from tests.clients.devices import plain_device
from tests.clients.home import Home
from tests.clients.mls import Device
from tests.scenarios.conftest import EVERY_PART
from tests.scenarios.faults import Background, let_leases_run_out, locked, waiting_for_locks
from tests.scenarios.waiting import eventually

NUMBERS = count(1)
INBOX = "SELECT FROM federation_todeviceinbox WHERE user_id = %s FOR UPDATE"
INBOUND = "SELECT FROM federation_inboundtransaction WHERE status IS NULL FOR UPDATE"
QUEUED = "SELECT FROM federation_outboundedu FOR UPDATE"

PAUSE_SECONDS = 0.05
"""Between messages of those who do not stop talking."""


class Mail:
    """What a user of one server sends to a device of a user of another, and what has come of it."""

    def __init__(self, sender: Home, receiver: Home) -> None:
        self._sender, self._receiver = sender, receiver
        self.device = Device(receiver.user(f"reader{next(NUMBERS)}"), "READER1")
        content = plain_device(self.device)
        receiver.call("upload_device", user_id=self.device.user_id, device_id=self.device.device_id, content=content)
        self.sent: list[int] = []
        self.received: list[int] = []

    def send(self, number: int = 1) -> None:
        """So many further messages at once."""
        new = list(range(len(self.sent), len(self.sent) + number))
        messages = [(*self.device, "org.example.letter", {"number": one}) for one in new]
        self._sender.send_to_device(self._sender.user("writer"), messages)
        self.sent += new

    def read(self) -> list[int]:
        """Take what there is out of the inbox; all that was received so far."""
        user_id, device_id = self.device
        for message in self._receiver.call("read_inbox", user_id=user_id, device_id=device_id):
            assert message["sender"] == self._sender.user("writer")
            self.received.append(message["content"]["number"])
        return self.received

    def has_arrived(self) -> None:
        """Wait until everything has, and assert that nothing came twice or out of order."""
        eventually(lambda: len(self.read()) >= len(self.sent), "every message arrived", seconds=120)
        assert self.received == self.sent


def end_waiting(server):
    """Have the database forget what a killed process had asked for and still waits for a lock. It does not see that
    the process is gone, and would carry out a statement that the process, dying a moment before, had not sent."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )


@pytest.fixture(scope="module")
def homes(pair, tmp_path_factory):
    """The two servers."""
    folder = tmp_path_factory.mktemp("homes")
    with ExitStack() as stack:
        yield [stack.enter_context(Home(server, folder / f"{server.hostname}.log")) for server in pair]


@pytest.fixture
def servers(pair):
    """The two, of which everything runs again afterwards."""
    yield pair
    for server in pair:
        for part in EVERY_PART:
            server.resume(part)
            server.start_part(part)


@pytest.fixture
def mail(homes, servers):
    """From the first to the second; the first message has arrived, so that all rows are there."""
    letters = Mail(*homes)
    letters.send()
    letters.has_arrived()
    return letters


def test_a_web_process_killed_before_it_has_stored_messages_gets_them_again(servers, mail):
    _, receiver = servers
    with locked(receiver, INBOX, [mail.device.user_id]):
        mail.send(3)
        eventually(lambda: waiting_for_locks(receiver) == 1, "the transaction is being stored")
        receiver.kill("web")
    receiver.start_part("web")
    let_leases_run_out(receiver)
    mail.send()
    mail.has_arrived()


def test_a_web_process_killed_after_it_has_stored_messages_and_before_its_answer_stores_them_no_second_time(
    servers, mail
):
    _, receiver = servers
    with ExitStack() as held:
        with locked(receiver, INBOX, [mail.device.user_id]):
            mail.send(3)
            eventually(lambda: waiting_for_locks(receiver) == 1, "the transaction is being stored")
            held.enter_context(locked(receiver, INBOUND, []))
        eventually(lambda: len(mail.read()) == len(mail.sent), "the messages are stored")
        eventually(lambda: waiting_for_locks(receiver) == 1, "the answer is about to be noted")
        receiver.kill("web")
        end_waiting(receiver)
    receiver.start_part("web")
    let_leases_run_out(receiver)
    mail.send()
    mail.has_arrived()


def test_a_worker_killed_while_it_notes_that_messages_were_taken_sends_them_again_to_no_effect(servers, mail):
    sender, _ = servers
    sender.stop_part("worker")
    mail.send(3)
    with locked(sender, QUEUED, []):
        sender.start_part("worker")
        eventually(lambda: len(mail.read()) == len(mail.sent), "the receiver has the messages")
        eventually(lambda: waiting_for_locks(sender) == 1, "the worker notes it")
        sender.kill("worker")
    sender.start_part("worker")
    let_leases_run_out(sender)
    mail.send()
    mail.has_arrived()


def test_messages_both_ways_survive_the_death_of_every_process_that_carries_them(homes, servers, mail):
    back, enough = Mail(*reversed(homes)), Event()

    def talk(letters):
        while not enough.wait(PAUSE_SECONDS):
            letters.send(len(letters.sent) % 7 + 1)

    talking = [Background(partial(talk, letters)) for letters in (mail, back)]
    try:
        for parts in (("worker", "web"), ("web", "worker")):
            for server, part in zip(servers, parts, strict=True):
                server.kill(part)
            for server, part in zip(servers, parts, strict=True):
                server.start_part(part)
                let_leases_run_out(server)
            for letters in (mail, back):
                goal = len(letters.sent)
                eventually(lambda letters=letters, goal=goal: len(letters.read()) >= goal, "messages go on arriving")
    finally:
        enough.set()
    for thread in talking:
        assert thread.result() is None
    for letters in (mail, back):
        letters.has_arrived()
