"""Whom the client believes to be talking to (threats T5, T6)."""

import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from linmatrix.transport.errors import NotConnected
from linmatrix.transport.http import HttpClient
from linmatrix.transport.lookup import Answer
from linmatrix.transport.resolve import Resolver
from tests.transport.conftest import MakeClient
from tests.transport.peers import ScriptedPeer, answer, server_context


def ask(client: HttpClient, name: str) -> int:
    return client.request(name, "GET", "/", headers={}, timeout=20, max_response_bytes=1000).status


def refused(client: HttpClient, context: ssl.SSLContext, name: str = "hub.example.org") -> str:
    """Why the client refuses a server with this context under this name; no request may have reached it."""
    with ScriptedPeer(context, answer()) as peer, pytest.raises(NotConnected) as failure:
        ask(client, f"{name}:{peer.port}")
    assert peer.requests == []
    return failure.value.reason


def test_a_certificate_for_the_name_from_a_trusted_authority_is_believed(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        assert ask(client, f"hub.example.org:{peer.port}") == 200
        assert ask(client, f"HUB.Example.org:{peer.port}") == 200


def test_a_certificate_for_another_name_is_refused(client: HttpClient, authority: trustme.CA) -> None:
    other = server_context(authority.issue_cert("other.example.org"))
    assert refused(client, other).endswith("is not for hub.example.org")


@pytest.mark.parametrize("names", [("127.0.0.1",), ("example.org",), ("*.org",), ("x.hub.example.org",)])
def test_a_certificate_for_the_address_or_a_similar_name_is_refused(
    client: HttpClient, authority: trustme.CA, names: tuple[str, ...]
) -> None:
    assert refused(client, server_context(authority.issue_cert(*names))).endswith("is not for hub.example.org")


def test_a_certificate_from_an_unknown_authority_is_refused(client: HttpClient) -> None:
    stranger = trustme.CA().issue_cert("hub.example.org")
    assert "authority we do not trust" in refused(client, server_context(stranger))


def test_an_expired_certificate_is_refused(client: HttpClient, authority: trustme.CA) -> None:
    expired = authority.issue_cert("hub.example.org", not_after=datetime(2020, 1, 2, tzinfo=UTC))
    assert refused(client, server_context(expired)).endswith("has expired")


def test_without_the_ca_file_its_authority_is_not_trusted(hub_certificate: trustme.LeafCert) -> None:
    resolver = Resolver(allow_private=True, lookup=lambda _host, _within: Answer(("127.0.0.1",), 60.0))
    client = HttpClient(resolver, user_agent="linmatrix-tests")
    assert "authority we do not trust" in refused(client, server_context(hub_certificate))


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_an_unusable_ca_file_stops_the_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(OSError, match=r"No such file|NO_CERTIFICATE|no certificate|PEM"):
        HttpClient(Resolver(allow_private=False), user_agent="linmatrix-tests", ca_file=str(path))


def test_a_kept_connection_never_serves_another_name(client: HttpClient, hub_certificate: trustme.LeafCert) -> None:
    """Same address, same port, and a connection that is open and verified, but for the other name."""
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        assert ask(client, f"hub.example.org:{peer.port}") == 200
        with pytest.raises(NotConnected, match=r"is not for other.example.org"):
            ask(client, f"other.example.org:{peer.port}")
        assert ask(client, f"hub.example.org:{peer.port}") == 200
    assert len(peer.requests) == 2
    assert set(peer.server_names) == {"hub.example.org", "other.example.org"}


def test_names_that_share_a_certificate_still_have_their_own_connections(
    client: HttpClient, authority: trustme.CA
) -> None:
    shared = authority.issue_cert("hub.example.org", "other.example.org")
    with ScriptedPeer(server_context(shared), answer()) as peer:
        for name in ("hub.example.org", "other.example.org"):
            assert ask(client, f"{name}:{peer.port}") == 200
    assert peer.server_names == ["hub.example.org", "other.example.org"]


def test_tls_1_2_is_refused_unless_allowed(make_client: MakeClient, hub_certificate: trustme.LeafCert) -> None:
    context = server_context(hub_certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "must offer TLS 1.3 at least" in refused(make_client(), context)
    with ScriptedPeer(context, answer()) as peer:
        assert ask(make_client(allow_tls12=True), f"hub.example.org:{peer.port}") == 200


@pytest.mark.parametrize(("allow_tls12", "oldest"), [(False, "1.3"), (True, "1.2")])
def test_a_server_without_tls_is_refused(make_client: MakeClient, allow_tls12: bool, oldest: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak_plainly() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=speak_plainly)
        thread.start()
        with pytest.raises(NotConnected, match=rf"no TLS connection to 127.*, which must offer TLS {oldest} at least"):
            ask(make_client(allow_tls12=allow_tls12), f"hub.example.org:{listener.getsockname()[1]}")
        thread.join()
