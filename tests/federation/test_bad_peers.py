"""Peers that answer badly, late, without end or not at all, over real sockets: what they were sent waits unchanged, and
nobody else waits for them.

Each goes through the product's own client and `federation.delivery`; only the clock is the test's.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from federation import backoff, tasks
from federation.client import federation_client
from federation.delivery import SEND_SECONDS, Outcome, deliver, over_http, step
from federation.gathering import MAX_EVENTS
from federation.models import Destination, OutboundTransaction
from federation.sweeping import MAX_DUE, due_destinations
from federation.wake import alarm_clock
from linmatrix.limits import DEFAULTS
from rooms.models import Room, RoomServer
from tests.settings import TEST_AUTHORITY
from tests.support.broker import published
from tests.support.lines import append, make_room
from tests.support.remote import UNREACHABLE, Remote
from tests.support.stepping import PEER
from tests.transport.peers import Script, ScriptedPeer, answer

NOW = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
WEEK = timedelta(days=7)
SOON = timedelta(seconds=1)
"""The first wait, without chance."""
PATIENCE = 1.0
"""Seconds for a peer whose answer never ends here. One that answers gets the product's minute."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WELL = answer("200 OK", b'{"failed_pdus":{}}')

pytestmark = pytest.mark.django_db(transaction=True)


# What a peer may do to a request


def silent(_connection: ssl.SSLSocket, _head: bytes) -> None:
    """Take the request, and say nothing while the connection lives."""


def says(data: bytes) -> Script:
    """Say just this, and hang up."""

    def script(connection: ssl.SSLSocket, _head: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return script


def for_ever(start: bytes, piece: bytes, *, pause: float = 0.0) -> Script:
    """Say one thing again and again."""

    def script(connection: ssl.SSLSocket, _head: bytes) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return script


def limited(milliseconds: int) -> Script:
    """Answer that this is too much, and when to come back."""
    return answer("429 Too Many Requests", b'{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":%d}' % milliseconds)


ANSWERS = {
    "500": answer("500 Internal Server Error", b'{"errcode":"M_UNKNOWN","error":"Internal server error"}'),
    "502-page": answer("502 Bad Gateway", b"<html>Bad gateway</html>"),
    "201": answer("201 Created", b"{}"),
    "204": answer("204 No Content", b""),
    "redirect": answer("307 Temporary Redirect", b"", "Location: https://elsewhere.example.org/"),
    "page": answer("200 OK", b"<html>Welcome</html>"),
    "list": answer("200 OK", b"[]"),
    "nan": answer("200 OK", b'{"failed_pdus":NaN}'),
    "twice": answer("200 OK", b'{"failed_pdus":{},"failed_pdus":{}}'),
    "no-utf8": answer("200 OK", b'{"failed_pdus":"\xff"}'),
    "deep": answer("200 OK", b'{"failed_pdus":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "empty": answer("200 OK", b""),
    "cut-short": answer("200 OK", b'{"failed_pdus":'),
    "half-a-body": says(HEAD + b'Content-Length: 100\r\n\r\n{"failed_pdus":{}}'),
    "half-a-head": says(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "no-http": says(b"220 mail.example.org ESMTP\r\n"),
    "hangs-up": says(b""),
    "endless-body": for_ever(HEAD + b"\r\n", b" " * 65536),
    "endless-head": for_ever(HEAD, b"X-More: more\r\n"),
}
NEVER_ENDING = {
    "silent": silent,
    "dripping-body": for_ever(HEAD + b"Content-Length: 100000\r\n\r\n", b" ", pause=0.05),
    "dripping-head": for_ever(HEAD + b"X: ", b"x", pause=0.05),
    "always-early": for_ever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", pause=0.05),
}


class Listening:
    """A server over TLS that answers as `script` says at the time, and what it was sent."""

    def __init__(self, folder: Path, label: str) -> None:
        certificate = TEST_AUTHORITY.issue([f"{label}.localhost"], folder=folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        self.script = WELL
        self.peer = ScriptedPeer(context, self._answer)
        self.name = f"{label}.localhost:{self.peer.port}"

    def _answer(self, connection: ssl.SSLSocket, head: bytes) -> None:
        self.script(connection, head)

    @property
    def transactions(self) -> list[tuple[str, str]]:
        """Every transaction that arrived, repetitions too: its request line, and its signature, which covers all of
        its body."""
        found = []
        for head in self.peer.requests:
            lines = head.decode().split("\r\n")
            found.append((lines[0], next(line for line in lines if line.lower().startswith("authorization: "))))
        return found


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[str], Listening]]:
    """Starts servers that listen until the test has ended."""
    with ExitStack() as stack:

        def start(label: str) -> Listening:
            server = Listening(tmp_path / label, label)
            stack.enter_context(server.peer)
            return server

        yield start


def step_at(server: Listening, now: datetime, *, patience: float = SEND_SECONDS) -> Outcome:
    send = over_http(federation_client(), seconds=patience)
    return step(server.name, holder="worker", send=send, clock=lambda: now, chance=lambda: 0.0)


def frozen(server: Listening) -> tuple[str, str, bytes]:
    """What is under way to a server."""
    row = OutboundTransaction.objects.get(destination=server.name, acked_at=None)
    return row.txn_id, row.path, bytes(row.body)


def everything_about(server: Listening) -> list[object]:
    """All that is stored about a destination."""
    return [
        *Destination.objects.filter(server=server.name).values(),
        *RoomServer.objects.filter(server=server.name).values(),
        *OutboundTransaction.objects.filter(destination=server.name).values(),
    ]


def check_that_it_waits_and_arrives_once(
    bad: Listening, good: Listening, script: Script, *, wait: timedelta = SOON, patience: float = SEND_SECONDS
) -> None:
    """A peer that does this to a transaction gets the same one again, `wait` later, and nobody else notices."""
    room = make_room("a", bad.name, good.name)
    append(room, "zero")  # so that the peers are connected to, which takes its time on a busy machine
    assert [step_at(server, NOW) for server in (bad, good)] == [Outcome.DELIVERED] * 2
    append(room, "one")
    untouched = everything_about(good)
    bad.script = script
    assert step_at(bad, NOW, patience=patience) is Outcome.FAILED

    destination = Destination.objects.get(server=bad.name)
    assert (destination.next_attempt, destination.failures, destination.failing_since) == (NOW + wait, 1, NOW)
    assert (destination.lease_until, destination.lease_holder, destination.pending) == (None, "", True)
    assert destination.last_error
    assert RoomServer.objects.get(server=bad.name).sent_position == 1
    assert everything_about(good) == untouched
    sent = frozen(bad)
    assert step_at(good, NOW) is Outcome.DELIVERED
    assert len(good.transactions) == 2

    append(room, "two")
    assert frozen(bad) == sent
    bad.script = WELL
    assert step_at(bad, NOW + wait - timedelta(milliseconds=1)) is Outcome.NOT_OURS
    assert step_at(bad, NOW + wait) is Outcome.DELIVERED
    assert step_at(bad, NOW + wait) is Outcome.DELIVERED
    assert step_at(bad, NOW + wait) is Outcome.DRAINED
    # On a kept connection that broke, libcurl itself has sent the same again.
    zero, one, *more, two = bad.transactions
    assert len({zero, one, two}) == 3
    assert set(more) == {one}
    assert sent[1] in one[0]
    assert RoomServer.objects.get(server=bad.name).sent_position == 3


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_is_no_acknowledgement_is_sent_again_byte_for_byte(
    kind: str, listening: Callable[[str], Listening]
) -> None:
    check_that_it_waits_and_arrives_once(listening("bad"), listening("good"), ANSWERS[kind])


@pytest.mark.parametrize("kind", NEVER_ENDING)
def test_what_never_ends_is_given_up_and_sent_again_byte_for_byte(
    kind: str, listening: Callable[[str], Listening]
) -> None:
    check_that_it_waits_and_arrives_once(listening("bad"), listening("good"), NEVER_ENDING[kind], patience=PATIENCE)


@pytest.mark.parametrize(("more", "outcome"), [(0, Outcome.DELIVERED), (1, Outcome.FAILED)])
def test_an_answer_is_read_up_to_a_limit(more: int, outcome: Outcome, listening: Callable[[str], Listening]) -> None:
    peer = listening("talkative")
    append(make_room("a", peer.name), "one")
    body = b'{"failed_pdus":{}}'
    peer.script = answer("200 OK", body + b" " * (DEFAULTS.send_answer_bytes + more - len(body)))
    assert step_at(peer, NOW) is outcome


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        (timedelta(seconds=30), timedelta(seconds=30)),
        (timedelta(milliseconds=10), SOON),
        (timedelta(days=365), timedelta(seconds=DEFAULTS.backoff_seconds)),
    ],
    ids=["as-asked", "no-sooner-than-otherwise", "an-hour-at-most"],
)
def test_a_peer_that_limits_us_says_when_it_is_asked_again_within_bounds(
    asked: timedelta, wait: timedelta, listening: Callable[[str], Listening]
) -> None:
    milliseconds = asked // timedelta(milliseconds=1)
    check_that_it_waits_and_arrives_once(listening("bad"), listening("good"), limited(milliseconds), wait=wait)


# A week away


class Away:
    """A peer that cannot be reached, and a clock that goes from attempt to attempt."""

    def __init__(self) -> None:
        self.now = NOW
        self.remote = Remote()
        self.attempts: list[datetime] = []

    def try_until(self, end: datetime, happens: Callable[[datetime], None]) -> None:
        """Step whenever an attempt is due; `happens` is told of the time before each."""
        while self.now < end:
            happens(self.now)
            self.remote.answers.append(UNREACHABLE)
            self.attempts.append(self.now)
            outcome = step(PEER, holder="worker", send=self.remote, clock=lambda: self.now, chance=lambda: 0.0)
            assert outcome is Outcome.FAILED
            due = Destination.objects.get(server=PEER).next_attempt
            assert due is not None
            self.now = due


class Talk:
    """Rooms in which something is said every three hours, in turns."""

    def __init__(self, *rooms: Room) -> None:
        self.rooms = rooms
        self.said: list[str] = []

    def up_to(self, now: datetime) -> None:
        """All that has been said by now."""
        while NOW + timedelta(hours=3) * len(self.said) <= now:
            number = len(self.said) % len(self.rooms)
            append(self.rooms[number], f"{number}:{len(self.said)}")
            self.said.append(f"{number}:{len(self.said)}")


def test_a_peer_that_is_away_for_a_week_is_tried_every_hour_and_then_gets_everything_once_and_in_order() -> None:
    away, talk = Away(), Talk(make_room("a", PEER), make_room("b", PEER))
    away.try_until(NOW + WEEK, talk.up_to)
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(away.attempts)]
    assert waits == sorted(waits)
    assert waits[0] == backoff.FIRST_SECONDS
    assert waits[-1] == DEFAULTS.backoff_seconds
    assert OutboundTransaction.objects.count() == 1
    assert len({(request.txn_id, request.path, request.body) for request in away.remote.received}) == 1

    assert due_destinations(now=away.now - timedelta(seconds=1)) == []
    assert due_destinations(now=away.now) == [PEER]
    assert deliver(PEER, send=away.remote, clock=lambda: away.now) is None
    assert away.remote.acknowledged[0] == away.remote.received[0]
    bodies = away.remote.bodies()
    assert sorted(bodies) == sorted(talk.said)
    for number in range(len(talk.rooms)):
        of_room = [body for body in bodies if body.startswith(f"{number}:")]
        assert of_room == [body for body in talk.said if body.startswith(f"{number}:")]
    assert len(talk.said) > MAX_EVENTS, "more than one transaction holds"
    destination = Destination.objects.get(server=PEER)
    assert (destination.pending, destination.failures, destination.next_attempt) == (False, 0, None)


# Many


@pytest.mark.parametrize(
    ("many", "one"), [(NOW, None), (None, NOW)], ids=["one-well-among-failing", "one-failing-among-well"]
)
def test_however_many_are_due_each_is_among_those_that_a_sweep_wakes_some_time(
    many: datetime | None, one: datetime | None
) -> None:
    crowd = [Destination(server=f"s{number}.example.org", pending=True, next_attempt=many) for number in range(MAX_DUE)]
    Destination.objects.bulk_create([*crowd, Destination(server=PEER, pending=True, next_attempt=one)])
    later = NOW + timedelta(hours=1)
    # One of 501 is left out each time: all of thirty times with a probability of 10^-80.
    sweeps = [due_destinations(now=later) for _ in range(30)]
    assert any(PEER in sweep for sweep in sweeps)
    assert {len(sweep) for sweep in sweeps} == {MAX_DUE}
    assert len(set().union(*sweeps)) == MAX_DUE + 1


def test_the_wake_ups_of_an_enormous_room_let_those_of_others_in_between() -> None:
    audience = [f"s{number}.example.org" for number in range(2 * tasks.WAKE_TOGETHER + 1)]
    woken = []
    with published() as messages:
        alarm_clock.wake(audience)
        assert messages() == [("wake_all", audience)]
        tasks.wake_all(audience)
        alarm_clock.wake([PEER])
        while taken := messages():
            for task, argument in taken:
                if task == "wake_all":
                    tasks.wake_all(argument)
                else:
                    woken.append(argument)
    assert woken.index(PEER) == tasks.WAKE_TOGETHER
    woken.remove(PEER)
    assert woken == audience
