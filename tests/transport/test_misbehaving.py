"""Servers that answer too much, too slowly, half or not at all (threats T3, T8, T11)."""

import socket
import ssl
import threading
import time

import pytest
import trustme

from linmatrix.limits import DEFAULTS
from linmatrix.transport.errors import NotConnected, ResponseTooLarge, TransportError, Unreachable
from linmatrix.transport.http import HttpClient, Response
from tests.transport.conftest import MakeClient
from tests.transport.peers import Script, ScriptedPeer, answer, server_context

HEAD = b"HTTP/1.1 200 OK\r\n"


def ask(client: HttpClient, port: int, *, timeout: float = 20, most: int = 1000) -> Response:
    return client.request(f"hub.example.org:{port}", "GET", "/", headers={}, timeout=timeout, max_response_bytes=most)


def fail(client: HttpClient, certificate: trustme.LeafCert, script: Script, *, timeout: float = 20) -> TransportError:
    """The failure of a request to a peer with this script."""
    with ScriptedPeer(server_context(certificate), script) as peer, pytest.raises(TransportError) as failure:
        ask(client, peer.port, timeout=timeout)
    assert "\n" not in failure.value.reason
    return failure.value


def send_for_ever(start: bytes, piece: bytes, *, pause: float = 0) -> Script:
    def script(connection: ssl.SSLSocket, _head: bytes) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return script


def send_and_hang_up(data: bytes) -> Script:
    def script(connection: ssl.SSLSocket, _head: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return script


def test_a_body_up_to_the_limit_is_taken_and_one_byte_more_is_not(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer(body=b"x" * 1000)) as peer:
        assert len(ask(client, peer.port, most=1000).body) == 1000
        with pytest.raises(ResponseTooLarge, match=r"more than 999 bytes of body from hub.example.org"):
            ask(client, peer.port, most=999)
        assert len(ask(client, peer.port, most=1000).body) == 1000, "the client is usable afterwards"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (HEAD + b"\r\n", b"x" * 65536),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (HEAD + b"Content-Length: 1000000000000\r\n\r\n", b"x" * 65536),
    ],
    ids=["until-close", "chunked", "declared"],
)
def test_an_endless_body_is_cut_off(
    client: HttpClient, hub_certificate: trustme.LeafCert, start: bytes, piece: bytes
) -> None:
    failure = fail(client, hub_certificate, send_for_ever(start, piece))
    assert isinstance(failure, ResponseTooLarge)


@pytest.mark.parametrize(
    "script",
    [
        answer("200 OK", b"{}", "X-Long: " + "x" * DEFAULTS.answer_header_bytes),
        answer("200 OK", b"{}", *(f"X-{number}: {'x' * 100}" for number in range(DEFAULTS.answer_header_bytes // 100))),
        send_for_ever(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    ],
    ids=["one-long", "many", "endless-interim"],
)
def test_headers_are_limited_as_a_whole(client: HttpClient, hub_certificate: trustme.LeafCert, script: Script) -> None:
    assert isinstance(fail(client, hub_certificate, script), ResponseTooLarge)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        HEAD + b"Content-Length: 100\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 1000,
        HEAD + b"Content-Length: -1\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    ],
)
def test_half_an_answer_or_none_is_no_answer(
    client: HttpClient, hub_certificate: trustme.LeafCert, data: bytes
) -> None:
    failure = fail(client, hub_certificate, send_and_hang_up(data))
    assert isinstance(failure, Unreachable)
    assert not isinstance(failure, NotConnected), "the peer has seen the request"
    assert failure.reason.startswith("connection to 127.0.0.1:")


@pytest.mark.parametrize(
    "script",
    [
        send_for_ever(HEAD + b"Content-Length: 100000\r\n\r\n", b"x", pause=0.05),
        send_for_ever(HEAD, b"X: 1\r\n", pause=0.05),
        send_for_ever(b"", b"", pause=0.05),
    ],
    ids=["dripping-body", "dripping-headers", "silent"],
)
def test_the_deadline_holds_against_a_slow_answer(
    client: HttpClient, hub_certificate: trustme.LeafCert, script: Script
) -> None:
    failure = fail(client, hub_certificate, script, timeout=1)
    assert "in time (1.0 s)" in failure.reason
    assert not isinstance(failure, NotConnected), "the peer has seen the request"


def test_a_kept_connection_that_goes_silent_counts_as_seen(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    def script(connection: ssl.SSLSocket, head: bytes) -> None:
        if len(peer.requests) == 1:
            answer()(connection, head)

    with ScriptedPeer(server_context(hub_certificate), script) as peer:
        ask(client, peer.port)
        with pytest.raises(Unreachable, match=r"no complete answer from .* in time") as failure:
            ask(client, peer.port, timeout=1)
    assert (peer.connections, type(failure.value)) == (1, Unreachable)


def test_a_connection_the_server_closed_meanwhile_is_replaced(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    closed = threading.Event()

    def script(connection: ssl.SSLSocket, head: bytes) -> None:
        answer()(connection, head)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with ScriptedPeer(server_context(hub_certificate), script) as peer:
        for _ in range(3):
            closed.clear()
            assert ask(client, peer.port).status == 200
            assert closed.wait(timeout=20)
    assert peer.connections == 3


def test_a_request_lost_with_a_kept_connection_counts_as_seen(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    """libcurl sends it on the kept connection, learns that is gone, and is refused a new one."""

    def script(connection: ssl.SSLSocket, head: bytes) -> None:
        if len(peer.requests) == 1:
            answer()(connection, head)
        else:
            peer.stop_listening()
            connection.close()

    with ScriptedPeer(server_context(hub_certificate), script) as peer:
        ask(client, peer.port)
        with pytest.raises(Unreachable, match="connection refused") as failure:
            ask(client, peer.port)
    assert type(failure.value) is Unreachable


def test_a_server_that_never_finishes_the_handshake_leaves_time_for_the_next(
    make_client: MakeClient, hub_certificate: trustme.LeafCert
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        client = make_client("127.0.0.2", "127.0.0.1")
        with socket.create_server(("127.0.0.2", peer.port)):
            assert ask(client, peer.port, timeout=6).status == 200


def test_a_server_that_never_finishes_the_handshake_is_not_connected(make_client: MakeClient) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(NotConnected, match=r"no connection to 127.0.0.1:\d+ in time"),
    ):
        ask(make_client(), silent.getsockname()[1], timeout=1)


def test_compressed_content_is_neither_asked_for_nor_expanded(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer("200 OK", b"\x1f\x8b", "Content-Encoding: gzip")) as peer:
        assert ask(client, peer.port).body == b"\x1f\x8b"
    assert b"accept-encoding" not in peer.requests[0].lower()
