"""Requests to well-behaved servers: what goes out, what comes back, where it goes."""

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.http import HttpClient, Response
from linmatrix.transport.lookup import Answer
from linmatrix.transport.resolve import Resolver
from tests.transport.conftest import MakeClient
from tests.transport.peers import ScriptedPeer, answer, http2_peer, server_context

RAW_TARGETS = [
    "/send/%21room%3Ahub.example.org",
    "/send/%21a%2Fb/../c/./d//e",
    "/..",
    "/event/$abc?x=%2f%2F&y=a+b%20c&z",
    "/empty-query?",
    "/a?b?c=@:!",
    "/lower%c3%a9and%C3%A9",
]


@pytest.fixture(scope="module")
def http2_port(hub_certificate: trustme.LeafCert, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("http2")
    with http2_peer(hub_certificate, folder) as port:
        yield port


def get(client: HttpClient, name: str, target: str = "/", **headers: str) -> Response:
    return client.request(name, "GET", target, headers=headers, timeout=20, max_response_bytes=100_000)


def echoed(response: Response) -> dict[str, Any]:
    assert response.status == 200
    seen: dict[str, Any] = json.loads(response.body)
    return seen


@pytest.mark.parametrize("target", RAW_TARGETS)
def test_the_request_target_goes_out_byte_for_byte(
    client: HttpClient, hub_certificate: trustme.LeafCert, target: str
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        get(client, f"hub.example.org:{peer.port}", target)
    assert peer.requests[0].split(b"\r\n")[0] == f"GET {target} HTTP/1.1".encode()


@pytest.mark.parametrize("target", RAW_TARGETS)
def test_the_request_target_goes_out_byte_for_byte_over_http2(client: HttpClient, http2_port: int, target: str) -> None:
    seen = echoed(get(client, f"hub.example.org:{http2_port}", target))
    path, _, query = target.partition("?")
    assert (seen["http"], seen["path"], seen["query"]) == ("2", path, query)


def test_the_host_header_names_the_port_only_when_the_server_name_does(
    make_client: MakeClient, http2_port: int
) -> None:
    client = make_client(overrides={"hub.example.org": f"127.0.0.1:{http2_port}"})
    for name in ("hub.example.org", f"hub.example.org:{http2_port}"):
        seen = echoed(get(client, name))
        assert ["host", name] in seen["headers"]


def test_the_host_header_over_http1_is_the_targets_too(
    make_client: MakeClient, hub_certificate: trustme.LeafCert
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        client = make_client(overrides={"hub.example.org": f"127.0.0.1:{peer.port}"})
        get(client, "hub.example.org")
    assert b"\r\nHost: hub.example.org\r\n" in peer.requests[0]
    assert peer.server_names == ["hub.example.org"]


def test_only_the_callers_headers_and_the_necessary_ones_are_sent(client: HttpClient, http2_port: int) -> None:
    headers = {"Authorization": 'X-Matrix origin="a.example",sig="x+/="', "Content-Type": "application/json"}
    response = client.request(
        f"hub.example.org:{http2_port}",
        "PUT",
        "/send",
        headers=headers,
        body=b"\x00" * 2_000_000,
        timeout=20,
        max_response_bytes=10_000,
    )
    seen = echoed(response)
    assert (seen["method"], seen["length"]) == ("PUT", 2_000_000)
    assert dict(seen["headers"]) == {
        "host": f"hub.example.org:{http2_port}",
        "user-agent": "linmatrix-tests",
        "accept": "*/*",
        "authorization": headers["Authorization"],
        "content-type": "application/json",
        "content-length": "2000000",
    }


def test_a_body_without_a_type_is_not_called_a_form(client: HttpClient, http2_port: int) -> None:
    name = f"hub.example.org:{http2_port}"
    response = client.request(name, "POST", "/", headers={}, body=b"{}", timeout=20, max_response_bytes=10_000)
    assert "content-type" not in dict(echoed(response)["headers"])


def test_a_request_after_one_with_a_body_carries_nothing_of_it(client: HttpClient, http2_port: int) -> None:
    name = f"hub.example.org:{http2_port}"
    client.request(name, "PUT", "/", headers={"X-Old": "1"}, body=b"{}", timeout=20, max_response_bytes=10_000)
    seen = echoed(get(client, name))
    assert (seen["method"], seen["length"]) == ("GET", 0)
    assert not {"x-old", "content-length", "content-type"} & dict(seen["headers"]).keys()


def test_connections_are_reused(client: HttpClient, hub_certificate: trustme.LeafCert) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        for _ in range(3):
            get(client, f"hub.example.org:{peer.port}")
    assert (len(peer.requests), peer.connections) == (3, 1)


def test_a_kept_http2_connection_never_serves_another_name(client: HttpClient, http2_port: int) -> None:
    get(client, f"hub.example.org:{http2_port}")
    with pytest.raises(NotConnected, match=r"is not for other\.example\.org"):
        get(client, f"other.example.org:{http2_port}")


def test_response_headers_are_lower_cased_and_joined(client: HttpClient, hub_certificate: trustme.LeafCert) -> None:
    script = answer("429 Too Many Requests", b'{"a":1}', "Retry-After: 5", "X-A: 1", "x-a:  2 ")
    with ScriptedPeer(server_context(hub_certificate), script) as peer:
        response = get(client, f"hub.example.org:{peer.port}")
    expected = {"content-length": "7", "retry-after": "5", "x-a": "1, 2"}
    assert response == Response(429, expected, b'{"a":1}')


def test_interim_responses_and_trailers_leave_no_headers(client: HttpClient, hub_certificate: trustme.LeafCert) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nX-Interim: 1\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Real: 1\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n"
    peer = ScriptedPeer(server_context(hub_certificate), lambda connection, _head: connection.sendall(interim + final))
    with peer:
        response = get(client, f"hub.example.org:{peer.port}")
    assert response == Response(200, {"transfer-encoding": "chunked", "x-real": "1"}, b"{}")


def test_a_redirect_is_returned_and_not_followed(client: HttpClient, hub_certificate: trustme.LeafCert) -> None:
    script = answer("302 Found", b"", "Location: /elsewhere")
    with ScriptedPeer(server_context(hub_certificate), script) as peer:
        response = get(client, f"hub.example.org:{peer.port}")
    assert (response.status, response.headers["location"], len(peer.requests)) == (302, "/elsewhere", 1)


def test_a_proxy_in_the_environment_is_ignored(
    client: HttpClient, hub_certificate: trustme.LeafCert, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setitem(os.environ, variable, "http://127.0.0.1:1")
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        assert get(client, f"hub.example.org:{peer.port}").status == 200


def test_the_connection_goes_to_the_address_that_was_checked(ca_file: str, hub_certificate: trustme.LeafCert) -> None:
    """A resolver that answers well when checked and badly ever after gains nothing: nobody asks it again."""
    answers = iter([Answer(("127.0.0.1",), 0.0)])
    resolver = Resolver(
        allow_private=True,
        lookup=lambda _host, _within: next(answers, Answer(("169.254.169.254",), 60.0)),
        clock=lambda: 0.0,
    )
    client = HttpClient(resolver, user_agent="linmatrix-tests", ca_file=ca_file)
    with ScriptedPeer(server_context(hub_certificate), answer("200 OK", b"{}", "Connection: close")) as peer:
        for _ in range(3):
            assert get(client, f"hub.example.org:{peer.port}").status == 200
    assert peer.connections == 3


def test_the_next_address_is_tried_when_one_refuses(make_client: MakeClient, hub_certificate: trustme.LeafCert) -> None:
    client = make_client("127.0.0.2", "127.0.0.3", "127.0.0.1")
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        assert get(client, f"hub.example.org:{peer.port}").status == 200


def test_a_request_that_may_have_been_seen_is_not_sent_to_another_address(
    make_client: MakeClient, hub_certificate: trustme.LeafCert
) -> None:
    def slam(connection: ssl.SSLSocket, _head: bytes) -> None:
        connection.close()

    with (
        ScriptedPeer(server_context(hub_certificate), slam) as first,
        ScriptedPeer(server_context(hub_certificate), answer(), address="127.0.0.2", port=first.port) as second,
        pytest.raises(Unreachable, match="connection to 127") as failure,
    ):
        get(make_client("127.0.0.1", "127.0.0.2"), f"hub.example.org:{first.port}")
    assert not isinstance(failure.value, NotConnected)
    assert (len(first.requests), len(second.requests)) == (1, 0)


def test_every_refusal_is_told(make_client: MakeClient) -> None:
    with pytest.raises(NotConnected) as failure:
        get(make_client("127.0.0.1", "127.0.0.2", "::1", "127.0.0.4"), "hub.example.org:1")
    told = failure.value.reason
    assert told.count("; ") == 2, "three addresses are enough"
    assert told.startswith("connection refused by 127.0.0.1:1; ")
    assert "[::1]:1" in told


@pytest.mark.parametrize("target", ["", "no-slash", "/a b", "/a#b", "/é", "/a\r\nX: 1", "/a\n", "http://x/"])
def test_a_request_target_that_is_not_one_is_the_callers_mistake(client: HttpClient, target: str) -> None:
    with pytest.raises(ValueError, match="request target"):
        get(client, "hub.example.org", target)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Host", "x"), ("host", "x"), ("Content-Length", "1"), ("X Y", "1"), ("X:", "1"), ("X", "a\r\nY: 1"), ("X", "")],
)
def test_a_header_that_would_change_the_request_is_the_callers_mistake(
    client: HttpClient, name: str, value: str
) -> None:
    with pytest.raises(ValueError, match="header"):
        get(client, "hub.example.org", "/", **{name: value})


def test_a_method_the_protocol_does_not_use_is_the_callers_mistake(client: HttpClient) -> None:
    with pytest.raises(ValueError, match="method"):
        client.request("hub.example.org", "TRACE", "/", headers={}, timeout=1, max_response_bytes=1)
