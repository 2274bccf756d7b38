"""Limits of the transport as they are set, from both sides: names, connections and slow answers."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from linmatrix.limits import DEFAULTS, Limits
from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.exchange import Exchange, Request
from linmatrix.transport.hosts import Hosts
from linmatrix.transport.lookup import Answer
from linmatrix.transport.resolve import Resolver
from linmatrix.transport.target import Endpoint, Target
from linmatrix.transport.trust import TrustStore
from tests.transport.clock import Clock
from tests.transport.peers import ScriptedPeer, answer, server_context

HOST = "peer.example.org"


class Lookup:
    """Answers for every name, and keeps how long it was given."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def __call__(self, host: str, within: float) -> Answer:
        self.asked.append((host, within))
        return Answer(("127.0.0.1",), 60.0)


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    [
        (Limits(lookup_seconds=2.0), 1.5, 2.0),
        (Limits(lookup_seconds=3.0), 2.5, 3.0),
        (Limits(resolve_seconds=2.0), 0.5, 1.0),  # half of what is left, for what comes after
        (Limits(resolve_seconds=4.0), 1.5, 2.0),
    ],
)
def test_a_lookup_has_the_time_that_is_set(limits: Limits, least: float, most: float) -> None:
    lookup = Lookup()
    Resolver(allow_private=True, lookup=lookup, limits=limits).resolve(HOST)
    ((_, within),) = lookup.asked
    assert least < within <= most


@pytest.mark.parametrize(("most", "asked"), [(2, 2), (1, 3)])
def test_as_many_names_are_remembered_as_are_set(most: int, asked: int) -> None:
    lookup = Lookup()
    hosts = Hosts(lookup, allow_private=True, clock=Clock(), limits=Limits(cached_names=most))
    for host in ("a.example", "b.example", "a.example"):
        hosts.addresses(host, 5.0)
    assert len(lookup.asked) == asked


# Connections.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.fixture
def two(authority: trustme.CA) -> Iterator[list[ScriptedPeer]]:
    """Two servers that answer."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(ScriptedPeer(server_context(authority.issue_cert(HOST)), answer())) for _ in range(2)
        ]


def exchange(ca_file: str, limits: Limits) -> Exchange:
    return Exchange(user_agent="linmatrix-tests", trust=TrustStore(ca_file), allow_tls12=False, limits=limits)


def ask(exchange: Exchange, port: int, *, seconds: float = 60.0) -> None:
    request = Request(method="GET", target="/", headers={}, body=None, max_response_bytes=1000)
    target = Target(HOST, HOST, (Endpoint("127.0.0.1", port),))
    exchange.send(request, target=target, deadline=time.monotonic() + seconds)


@pytest.mark.parametrize(("most", "connections"), [(2, 1), (1, 2)])
def test_as_many_connections_are_kept_as_are_set(
    most: int, connections: int, ca_file: str, two: list[ScriptedPeer]
) -> None:
    over = exchange(ca_file, Limits(kept_connections=most))
    for peer in (two[0], two[1], two[0]):
        ask(over, peer.port)
    assert two[0].connections == connections


def test_a_connection_is_used_for_as_long_as_is_set(ca_file: str, two: list[ScriptedPeer]) -> None:
    """The first may be idle, the second be used, for a second; the third as long as by default."""
    kinds = [Limits(idle_connection_seconds=1), Limits(connection_seconds=1), Limits()]
    over = [exchange(ca_file, limits) for limits in kinds]
    new = []
    for item in over:
        ask(item, two[0].port)
    time.sleep(2.2)  # longer than what libcurl rounds a second to
    for item in over:
        before = two[0].connections
        ask(item, two[0].port)
        new.append(two[0].connections - before)
    assert new == [1, 1, 0]


def test_connecting_has_the_time_that_is_set(ca_file: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the handshake is never answered
        began = time.monotonic()
        with pytest.raises(NotConnected, match="in time"):
            ask(exchange(ca_file, Limits(connect_seconds=0.3)), listener.getsockname()[1])
        assert time.monotonic() - began < DEFAULTS.connect_seconds


def test_a_transfer_may_be_slow_for_as_long_as_is_set(authority: trustme.CA, ca_file: str) -> None:
    def stops(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")

    with ScriptedPeer(server_context(authority.issue_cert(HOST)), stops) as peer:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="too slow"):
            ask(exchange(ca_file, Limits(slow_seconds=1)), peer.port)
        assert time.monotonic() - began < DEFAULTS.slow_seconds
