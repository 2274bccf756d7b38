"""Connections that are held open, abused or ambiguous, against a real granian (threats 8 and 9).

What granian leaves open is the job of what stands before it: docs/threat-model.md says which that is.
"""

import re
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pytest

from linmatrix.stack.readiness import answers
from tests.stack.granian import Web, serving

HEADER_SECONDS = QUIET_SECONDS = SIGN_OF_LIFE_SECONDS = 1
PATIENCE = 20.0
"""Seconds until a connection counts as left open: ten times what it may last, and less than granian's own default."""

SMUGGLED = b"GET /_matrix/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
FIRST = b"PUT /_matrix/first HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serving(
        tmp_path_factory.mktemp("web"),
        header_seconds=HEADER_SECONDS,
        http2_quiet_seconds=QUIET_SECONDS,
        http2_sign_of_life_seconds=SIGN_OF_LIFE_SECONDS,
    ) as server:
        yield server


def exchange(web: Web, data: bytes, *protocols: str) -> bytes:
    """All that comes back until the server closes the connection. Raises TimeoutError when it stays open."""
    with web.connect(*protocols) as connection:
        with suppress(OSError):  # it may close before it has seen all
            connection.sendall(data)
        return everything(connection)


def everything(connection: ssl.SSLSocket) -> bytes:
    """As `exchange`, without sending."""
    connection.settimeout(PATIENCE)
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except TimeoutError:
        raise
    except OSError:
        return received  # closed without ceremony
    return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


# Connections that are held open


def test_headers_that_never_end_have_an_end(web):
    with web.connect() as connection:
        connection.sendall(b"GET /_matrix/x HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        connection.settimeout(0.1)
        received, ends = None, time.monotonic() + PATIENCE
        while received is None and time.monotonic() < ends:
            try:
                connection.sendall(b"a")
                received = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                received = b""  # cut off without an answer
    assert received is not None, "the connection stays open"
    assert statuses(received) in ([], [408])


def test_a_kept_connection_that_brings_no_next_request_is_closed(web):
    assert statuses(exchange(web, SMUGGLED)) == [200]


# Requests whose end is ambiguous

AMBIGUOUS = {
    "a length and chunks": b"Content-Length: 58\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and a length": (
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    ),
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a list of lengths": b"Content-Length: 0, 0\r\n\r\n" + SMUGGLED,
    "a length with a sign": b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    "a negative length": b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a length in hexadecimal": b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
    "a length of many digits": b"Content-Length: 99999999999999999999999\r\n\r\n" + SMUGGLED,
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a coding after chunked": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a vertical tab before the coding": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a folded line": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk of negative size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
    "a chunk beyond 64 bits": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n" + SMUGGLED,
    "a chunk without carriage returns": b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n" + SMUGGLED,
    "a NUL in a header": b"X: a\0b\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_no_second_request_hides_in_one_whose_end_is_ambiguous(name, web):
    received = exchange(web, FIRST + AMBIGUOUS[name])
    assert statuses(received) in ([400], [200])
    assert b"/_matrix/smuggled" not in received


@pytest.mark.parametrize("chunk", [b"-1", b"fffffffffffffffff", b"1\na\n0\n"])
def test_a_body_in_broken_chunks_is_refused_as_the_draft_has_it(chunk, web):
    received = exchange(web, FIRST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n\r\n")
    assert statuses(received) == [400]
    assert b'"errcode": "M_UNKNOWN"' in received


@pytest.mark.parametrize("head", [b"X: a\r\n" * 500, b"X: " + b"a" * 600_000 + b"\r\n"], ids=["many", "long"])
def test_headers_have_a_bound(head, web):
    """The answer to a long one may be lost, since the connection closes while it is still being sent."""
    assert statuses(exchange(web, FIRST + head + b"\r\n")) in ([431], [])


# HTTP/2

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS = 1, 4
CALM = 0xB
"""The error ENHANCE_YOUR_CALM (RFC 9113, section 7)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
GET = b"\x82\x87" + literal(b":path", b"/_matrix/x") + literal(b":authority", b"localhost")
INDEXED = b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4000
"""A header of 4,000 bytes that goes into the table, where one byte stands for it from then on."""

FLOODS = {
    "rapid reset": [
        frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * index, GET)
        + frame(RST_STREAM, 0, 1 + 2 * index, b"\0\0\0\x08")
        for index in range(5000)
    ],
    "endless headers": [frame(HEADERS, END_STREAM, 1, GET)]
    + [frame(CONTINUATION, 0, 1, literal(b"x", b"a" * 100) * 150) for _ in range(500)],
    "empty pieces of headers": [frame(HEADERS, END_STREAM, 1, GET)] + [frame(CONTINUATION, 0, 1)] * 20_000,
    "a header bomb": [frame(HEADERS, END_STREAM | END_HEADERS, 1, GET + INDEXED + b"\xbe" * 10_000)],
}


def goaways(received: bytes) -> list[int]:
    """The errors of the GOAWAY frames in what was received."""
    errors = []
    while len(received) >= 9:
        length = int.from_bytes(received[:3], "big")
        if received[3] == GOAWAY:
            errors.append(int.from_bytes(received[13:17], "big"))
        received = received[9 + length :]
    return errors


def flood(web: Web, frames: Iterable[bytes]) -> bytes:
    """Send frames and give what comes back until the server closes the connection.

    TLS is kept apart from the socket: one that was cut off while it was written to can still be read.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = web.tls("h2").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with web.plain() as connection:
        shake_hands(tls, connection, incoming, outgoing)
        for data in frames:
            tls.write(data)
        incoming.write(pour(connection, outgoing.read()))
    received = b""
    with suppress(ssl.SSLError):  # no more of it
        while chunk := tls.read(65536):
            received += chunk
    return received


def shake_hands(
    tls: ssl.SSLObject, connection: socket.socket, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
) -> None:
    done = False
    while not done:
        try:
            tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(65536))
    connection.sendall(outgoing.read())


def pour(connection: socket.socket, data: bytes) -> bytes:
    """Send as much as the server takes, and give what it says meanwhile and until it closes the connection."""
    left, received, ends = memoryview(data), b"", time.monotonic() + PATIENCE
    connection.setblocking(False)
    while time.monotonic() < ends:
        select.select([connection], [connection] if left else [], [], 0.1)
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except BlockingIOError:
            pass
        except OSError:
            return received  # closed without ceremony
        else:
            return received
        try:
            left = left[connection.send(left) :] if left else left
        except BlockingIOError:
            pass
        except OSError:
            left = left[:0]  # cut off, as it should be
    raise TimeoutError("the connection stays open")


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_frames_ends_its_connection_and_no_other(name, web):
    assert goaways(flood(web, [PREFACE, *FLOODS[name]])) == [CALM]
    assert answers("127.0.0.1", web.port, authority=web.authority)


def test_an_http2_connection_that_gives_no_sign_of_life_is_closed(web):
    assert goaways(exchange(web, PREFACE, "h2")) == [0]
