"""The operator's word on where servers are, the only way to plain HTTP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.lookup import Answer
from linmatrix.transport.overrides import parse_override, split_overrides
from linmatrix.transport.resolve import Resolver
from linmatrix.transport.target import Endpoint, Target
from tests.transport.conftest import MakeClient
from tests.transport.peers import ScriptedPeer, answer, plain_peer, server_context

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("value", "endpoint", "plain"),
    [
        ("http://127.0.0.1:3500", Endpoint("127.0.0.1", 3500), True),
        ("https://127.0.0.1:3500", Endpoint("127.0.0.1", 3500), False),
        ("10.0.0.5:443", Endpoint("10.0.0.5", 443), False),
        ("http://[fd00::1]:8448", Endpoint("fd00::1", 8448), True),
    ],
)
def test_an_override_decides_scheme_address_and_port_and_leaves_the_names_alone(
    value: str, endpoint: Endpoint, plain: bool
) -> None:
    assert parse_override("Hub.example.org:9", value) == Target(
        "hub.example.org", "Hub.example.org:9", (endpoint,), plain=plain
    )


def test_an_override_is_for_one_exact_name_and_asks_nobody() -> None:
    asked: list[str] = []

    def dns(host: str, _within: float) -> Answer:
        asked.append(host)
        return Answer(("8.8.8.8",), 60.0)

    resolver = Resolver(allow_private=False, overrides={"hub.example.org": "http://10.0.0.5:443"}, lookup=dns)
    assert resolver.resolve("hub.example.org").endpoints == (Endpoint("10.0.0.5", 443),)
    assert asked == []
    for other in ("HUB.example.org", "hub.example.org:8448"):
        target = resolver.resolve(other)
        assert (target.endpoints, target.plain) == ((Endpoint("8.8.8.8", 8448),), False)


def test_several_are_told_apart_by_commas() -> None:
    text = " peer.localhost:3500=http://127.0.0.1:3500 ,other.example=https://[::1]:8448,"
    assert split_overrides(text) == {
        "peer.localhost:3500": "http://127.0.0.1:3500",
        "other.example": "https://[::1]:8448",
    }
    assert split_overrides("") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hub.example.org", "is not name=scheme://address:port"),
        ("hub.example.org=", "is not scheme://address:port"),
        ("hub.example.org=http://10.0.0.5", "is not scheme://address:port"),
        ("hub.example.org=http://10.0.0.5:0", "is not scheme://address:port"),
        ("hub.example.org=http://10.0.0.5:65536", "is not scheme://address:port"),
        ("hub.example.org=http://10.0.0.5:80/", "is not scheme://address:port"),
        ("hub.example.org=http://peer:80", "has no IP address"),
        ("hub.example.org=http://:80", "has no IP address"),
        ("hub.example.org=ftp://10.0.0.5:80", "the scheme is not http or https"),
        ("hub.example.org=://10.0.0.5:80", "the scheme is not http or https"),
        ("hub.example.org=http://0.0.0.0:80", "is unusable: unspecified"),
        ("hub.example.org=http://169.254.169.254:80", "is unusable: link-local"),
        ("hub.example.org=http://[fe80::1]:80", "is unusable: link-local"),
        ("10.0.0.5=http://10.0.0.5:80", "must not be an IP address"),
        ("a.example=http://10.0.0.5:80,a.example=http://10.0.0.6:80", "a.example stands there twice"),
    ],
)
def test_an_unusable_override_is_refused_at_the_start(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split_overrides(text)


def test_a_resolver_refuses_an_unusable_override() -> None:
    with pytest.raises(ValueError, match="is unusable"):
        Resolver(allow_private=True, overrides={"hub.example.org": "http://0.0.0.0:1"})


def test_plain_http_is_spoken_where_an_override_says_so(make_client: MakeClient) -> None:
    with plain_peer() as (port, seen):
        client = make_client(overrides={"peer.localhost:3500": f"http://127.0.0.1:{port}"})
        for _ in range(2):
            response = client.request(
                "peer.localhost:3500", "GET", "/a%2Fb?c", headers={}, timeout=20, max_response_bytes=100
            )
            assert (response.status, response.body) == (200, b"{}")
    assert seen == ["HTTP/1.1 /a%2Fb?c peer.localhost:3500"] * 2


@pytest.mark.parametrize("scheme", ["https://", ""])
def test_plain_http_is_spoken_nowhere_else(make_client: MakeClient, scheme: str) -> None:
    with plain_peer() as (port, seen):
        client = make_client(overrides={"peer.localhost:3500": f"{scheme}127.0.0.1:{port}"})
        for name in ("peer.localhost:3500", f"peer.localhost:{port}"):
            with pytest.raises(NotConnected, match="no TLS connection"):
                client.request(name, "GET", "/", headers={}, timeout=20, max_response_bytes=100)
    assert seen == []


def test_one_client_speaks_plainly_to_one_server_and_tls_to_the_next(
    make_client: MakeClient, hub_certificate: trustme.LeafCert
) -> None:
    with plain_peer() as (port, seen), ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        client = make_client(overrides={"hub.example.org": f"http://127.0.0.1:{port}"})
        for name in ("hub.example.org", f"hub.example.org:{peer.port}") * 2:
            assert client.request(name, "GET", "/", headers={}, timeout=20, max_response_bytes=100).status == 200
    assert (len(seen), len(peer.requests)) == (2, 2)


def test_a_plain_server_that_is_a_tls_server_is_no_success(
    make_client: MakeClient, hub_certificate: trustme.LeafCert
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        client = make_client(overrides={"hub.example.org": f"http://127.0.0.1:{peer.port}"})
        with pytest.raises(Unreachable):
            client.request("hub.example.org", "GET", "/", headers={}, timeout=20, max_response_bytes=100)
    assert peer.requests == []


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process of their own, and print what they make of these variables."""
    names = "settings.SERVER_OVERRIDES, settings.WELL_KNOWN_SERVER"
    return subprocess.run(
        [sys.executable, "-c", f"from linmatrix import settings; print({names})"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "LINMATRIX_DATA_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_overrides_and_delegation_are_off_unless_set(tmp_path: Path) -> None:
    assert start(tmp_path).stdout == "{} \n"


def test_overrides_and_delegation_are_taken_from_the_environment(tmp_path: Path) -> None:
    started = start(
        tmp_path,
        LINMATRIX_SERVER_OVERRIDES="peer.localhost:3500=http://127.0.0.1:3500",
        LINMATRIX_WELL_KNOWN_SERVER="matrix.example.org:443",
    )
    assert started.stdout == "{'peer.localhost:3500': 'http://127.0.0.1:3500'} matrix.example.org:443\n"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LINMATRIX_SERVER_OVERRIDES", "peer.localhost=http://peer:3500"),
        ("LINMATRIX_WELL_KNOWN_SERVER", "127.0.0.1:8448"),
        ("LINMATRIX_WELL_KNOWN_SERVER", "https://matrix.example.org"),
    ],
)
def test_a_setting_that_is_wrong_stops_the_start_and_is_named(tmp_path: Path, variable: str, value: str) -> None:
    started = start(tmp_path, **{variable: value})
    assert started.returncode != 0
    assert f"ImproperlyConfigured: {variable}: " in started.stderr
