"""The bridge behind a real granian: the request target reaches WSGI as it was sent, and bodies have bounds."""

import io
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple

import pycurl
import pytest

from linmatrix.limits import DEFAULTS
from tests.stack.granian import Web, serving

HTTP_1, HTTP_2 = pycurl.CURL_HTTP_VERSION_1_1, pycurl.CURL_HTTP_VERSION_2TLS
TRANSACTION = "/_matrix/linearized/unstable/send/abc"
# As they stand on the request line; what a server or a framework likes to tidy up.
TARGETS = [
    "/_matrix/x/%21a%3Ab/%40c?x=%7E&y=1+2",
    "/_matrix/x/!a:b/@c?x=~",
    "/_matrix//double",
    "/_matrix/a/../b/./c/",
    "/_matrix/a%2Fb%2fc",
    "/_matrix/%FF%zz?%",
    "/_matrix/a??b=%26;c",
]


class Answer(NamedTuple):
    status: int
    body: Any


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("web")) as server:
        yield server


def request(
    web: Web, target: str, *, version: int = HTTP_2, body: bytes | None = None, headers: tuple[str, ...] = ()
) -> Answer:
    """A request whose target curl leaves as it is."""
    received = io.BytesIO()
    curl = pycurl.Curl()
    try:
        curl.setopt(pycurl.URL, f"https://localhost:{web.port}/")
        curl.setopt(pycurl.REQUEST_TARGET, target)
        curl.setopt(pycurl.CAINFO, str(web.authority.certificate_file))
        curl.setopt(pycurl.HTTP_VERSION, version)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.HTTPHEADER, ["Expect:", *headers])
        curl.setopt(pycurl.WRITEDATA, received)
        curl.setopt(pycurl.TIMEOUT, 30)
        if body is not None:
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.READDATA, io.BytesIO(body))
            curl.setopt(pycurl.INFILESIZE, len(body))
        curl.perform()
        return Answer(curl.getinfo(pycurl.RESPONSE_CODE), json.loads(received.getvalue()))
    finally:
        curl.close()


@pytest.mark.parametrize("version", [HTTP_1, HTTP_2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_target_arrives_byte_for_byte(web: Web, target: str, version: int) -> None:
    answer = request(web, target, version=version)
    assert answer.body["RAW_URI"] == target
    assert answer.body["PATH_INFO"] == target.partition("?")[0]
    assert answer.body["SERVER_PROTOCOL"] == ("HTTP/1.1" if version == HTTP_1 else "HTTP/2")


def test_other_paths_are_decoded_as_usual(web: Web) -> None:
    answer = request(web, "/admin/%C3%A9%40?next=%2F")
    assert answer.body["PATH_INFO"] == "/admin/é@".encode().decode("latin-1")
    assert answer.body["QUERY_STRING"] == "next=%2F"
    assert answer.body["RAW_URI"] == "/admin/%C3%A9%40?next=%2F"


def test_no_header_sets_the_raw_target(web: Web) -> None:
    answer = request(web, "/_matrix/x", headers=("RAW_URI: /forged", "Raw-Uri: /forged", "X_Matrix: forged"))
    assert answer.body["RAW_URI"] == "/_matrix/x"
    assert answer.body["HTTP_RAW_URI"] == "/forged"
    assert "HTTP_X_MATRIX" not in answer.body


def test_repeated_authorization_headers_are_one_list(web: Web) -> None:
    answer = request(web, "/_matrix/x", headers=("Authorization: X-Matrix a", "Authorization: X-Matrix b"))
    assert answer.body["HTTP_AUTHORIZATION"] == "X-Matrix a,X-Matrix b"


@pytest.mark.parametrize(
    ("target", "limit"), [(TRANSACTION, DEFAULTS.send_body_bytes), ("/_matrix/other", DEFAULTS.body_bytes)]
)
def test_a_body_of_the_largest_size_is_taken_and_one_byte_more_refused(web: Web, target: str, limit: int) -> None:
    taken = request(web, target, body=b"x" * limit)
    assert (taken.status, taken.body["body"]) == (200, limit)
    refused = request(web, target, body=b"x" * (limit + 1))
    assert (refused.status, refused.body["errcode"]) == (413, "M_TOO_LARGE")


def test_an_endless_body_is_refused_before_its_end(web: Web) -> None:
    """In chunks, without a length, over HTTP/1.1: the answer comes while the client would go on sending."""
    with web.connect() as connection:
        connection.sendall(b"PUT /_matrix/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(DEFAULTS.body_bytes // 0x10000):
            connection.sendall(chunk)
        # As much as is allowed. The server may hang up from the next byte on, so nothing is sent after it.
        connection.sendall(b"1\r\nx\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_refused(web: Web, encoding: str) -> None:
    answer = request(web, TRANSACTION, body=b"{}", headers=(f"Content-Encoding: {encoding}",))
    assert (answer.status, answer.body["errcode"]) == (415, "M_UNKNOWN")


def test_a_body_that_says_it_is_not_compressed_is_taken(web: Web) -> None:
    assert request(web, TRANSACTION, body=b"{}", headers=("Content-Encoding: identity",)).status == 200


def test_a_chunked_body_is_given_its_length(web: Web) -> None:
    answer = request(web, TRANSACTION, version=HTTP_1, body=b"12345", headers=("Transfer-Encoding: chunked",))
    assert (answer.body["body"], answer.body["CONTENT_LENGTH"]) == (5, "5")


def test_tls_1_2_is_not_spoken(web: Web) -> None:
    context = ssl.create_default_context(cafile=str(web.authority.certificate_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", web.port), timeout=30) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)protocol version"),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
