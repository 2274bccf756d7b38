"""Requests to a peer over TLS: how they are signed, under which paths, and what becomes of the answers."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from federation import paths
from federation.client import Answer, BadAnswer, FederationClient
from federation.delivery import over_http
from federation.models import Destination, OutboundTransaction
from linmatrix.protocol import canonical_json
from linmatrix.protocol.request_auth import covered_forms, parse_authorization, request_bytes
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.protocol.signing import SigningKey, VerifyKey
from linmatrix.transport.errors import ResponseTooLarge, Unreachable
from linmatrix.transport.http import HttpClient
from linmatrix.transport.lookup import Answer as Addresses
from linmatrix.transport.resolve import Resolver
from tests.transport.peers import Script, ScriptedPeer, answer, server_context

HOST = "peer.example.org"
KEY = SigningKey.from_seed("ed25519:1", bytes(32))
PUBLIC = VerifyKey.from_bytes(KEY.public_key, valid_until_ts=0)
NOT_FOUND = answer("404 Not Found", b"<p>Cannot PUT</p>")
UNRECOGNIZED = answer("404 Not Found", b'{"errcode":"M_UNRECOGNIZED"}')
UNAUTHORIZED = answer("401 Unauthorized", b'{"errcode":"M_FORBIDDEN"}')
EVENT = paths.event("$event")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client(authority: trustme.CA, tmp_path: Path) -> FederationClient:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    found = Addresses(("127.0.0.1",), 60.0)
    resolver = Resolver(allow_private=True, lookup=lambda _host, _within: found)
    http = HttpClient(resolver, user_agent="linmatrix-tests", ca_file=str(tmp_path / "ca.pem"))
    return FederationClient(http, KEY, "hub.example.org")


Serve = Callable[..., ScriptedPeer]


@pytest.fixture
def serve(authority: trustme.CA) -> Iterator[Serve]:
    """Starts a peer that gives these answers in turn, the last one again and again."""
    peers: list[ScriptedPeer] = []

    def start(*scripts: Script) -> ScriptedPeer:
        left = list(scripts)

        def script(connection: ssl.SSLSocket, head: bytes) -> None:
            (left.pop(0) if len(left) > 1 else left[0])(connection, head)

        peer = ScriptedPeer(server_context(authority.issue_cert(HOST)), script).__enter__()
        peers.append(peer)
        return peer

    yield start
    for peer in peers:
        peer.__exit__(None, None, None)


def name(peer: ScriptedPeer) -> str:
    return f"{HOST}:{peer.port}"


def targets(peer: ScriptedPeer) -> list[str]:
    return [head.split()[1].decode() for head in peer.requests]


def authorizations(peer: ScriptedPeer) -> list[str]:
    lines = [line.decode() for head in peer.requests for line in head.split(b"\r\n")]
    return [line.partition(": ")[2] for line in lines if line.lower().startswith("authorization:")]


def signed_without_content(peer: ScriptedPeer) -> list[bool]:
    """For each request without a body, which of the two forms its signature covers."""
    forms = []
    for header, target in zip(authorizations(peer), targets(peer), strict=True):
        [credentials] = parse_authorization(header)
        assert (credentials.origin, credentials.destination) == ("hub.example.org", name(peer))
        covered = covered_forms(credentials, method="GET", uri=target, content=None)
        forms.append([PUBLIC.verifies(form, credentials.signature) for form in covered])
    assert all(sum(matches) == 1 for matches in forms)
    return [matches[1] for matches in forms]


def test_a_request_with_a_body_is_signed_over_it(client: FederationClient, serve: Serve) -> None:
    peer = serve(answer(body=b'{"failed_pdus":{}}'))
    content = {"pdus": [{"ü": 1}], "edus": []}
    for given in (content, canonical_json.dumps(content)):
        assert client.request(name(peer), "PUT", "/x", content=given) == Answer(200, {"failed_pdus": {}})
    for header, head in zip(authorizations(peer), peer.requests, strict=True):
        assert ", " not in header
        [credentials] = parse_authorization(header)
        [covered] = covered_forms(credentials, method="PUT", uri="/x", content=content)
        assert PUBLIC.verifies(covered, credentials.signature)
        assert b"content-type: application/json\r\n" in head.lower()


@pytest.mark.parametrize("content", [{}, {"b": [1.5], "a": {"\U0001f600": 1, "\ue000": 2}}])
def test_a_spliced_body_is_covered_as_an_encoded_one_is(content: dict[str, object]) -> None:
    request = {"method": "PUT", "uri": "/x", "origin": "a.example.org", "destination": "b.example.org"}
    expected = canonical_json.dumps({**request, "content": content})
    assert request_bytes(content=content, **request) == expected
    assert request_bytes(content=canonical_json.dumps(content), **request) == expected


def test_a_request_without_a_body_is_signed_as_the_draft_wants(client: FederationClient, serve: Serve) -> None:
    peer = serve(answer())
    client.request(name(peer), "GET", EVENT.stable)
    assert signed_without_content(peer) == [False]
    assert b"content-type:" not in peer.requests[0].lower()


def test_a_peer_that_wants_the_other_form_is_remembered(client: FederationClient, serve: Serve) -> None:
    peer = serve(UNAUTHORIZED, answer())
    assert client.request(name(peer), "GET", EVENT.stable).status == 200
    assert client.request(name(peer), "GET", EVENT.stable).status == 200
    assert signed_without_content(peer) == [False, True, True]


def test_a_peer_that_refuses_both_forms_is_asked_twice_and_nothing_is_learnt(
    client: FederationClient, serve: Serve
) -> None:
    peer = serve(UNAUTHORIZED)
    assert client.request(name(peer), "GET", EVENT.stable).errcode == "M_FORBIDDEN"
    client.request(name(peer), "GET", EVENT.stable)
    assert signed_without_content(peer) == [False, True, False, True]


def test_a_401_to_a_body_is_an_answer(client: FederationClient, serve: Serve) -> None:
    peer = serve(UNAUTHORIZED, answer())
    assert client.request(name(peer), "PUT", "/x", content={}).status == 401
    assert len(peer.requests) == 1


@pytest.mark.parametrize("refusal", [NOT_FOUND, UNRECOGNIZED])
def test_a_peer_that_serves_the_other_path_is_remembered(
    refusal: Script, client: FederationClient, serve: Serve
) -> None:
    peer = serve(refusal, answer())
    assert client.call(name(peer), "GET", EVENT, stable=True).status == 200
    assert client.call(name(peer), "GET", EVENT, stable=True).status == 200
    assert targets(peer) == [EVENT.stable, EVENT.unstable, EVENT.unstable]


def test_a_path_that_is_known_is_not_tried_elsewhere(client: FederationClient, serve: Serve) -> None:
    peer = serve(answer("404 Not Found", b'{"errcode":"M_NOT_FOUND"}'))
    assert client.call(name(peer), "GET", EVENT, stable=False).errcode == "M_NOT_FOUND"
    assert targets(peer) == [EVENT.unstable]


def test_a_peer_that_serves_neither_path_is_asked_for_both_once(client: FederationClient, serve: Serve) -> None:
    peer = serve(UNRECOGNIZED)
    assert client.call(name(peer), "GET", EVENT, stable=False).status == 404
    assert targets(peer) == [EVENT.unstable, EVENT.stable]


def test_an_endpoint_with_one_path_is_asked_once(client: FederationClient, serve: Serve) -> None:
    peer = serve(UNRECOGNIZED)
    client.call(name(peer), "GET", paths.make_leave("!a:b.example.org", "@c:d.example.org"), stable=False)
    assert len(peer.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"ok"', b'{"a":1,"a":2}', b"\xff", b"{", b"null"])
def test_a_success_that_is_no_object_is_no_success(body: bytes, client: FederationClient, serve: Serve) -> None:
    with pytest.raises(BadAnswer, match=r"^HTTP 200, but "):
        client.request(name(serve(answer(body=body))), "GET", "/x")


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (answer("502 Bad Gateway", b"<html>"), "HTTP 502"),
        (answer("403 Forbidden", b'{"errcode":"M_FORBIDDEN","error":"a\\nb"}'), "HTTP 403 M_FORBIDDEN a b"),
        (answer("403 Forbidden", b'{"errcode":7,"error":["no"]}'), "HTTP 403"),
        (answer("400 Bad Request", b'{"errcode":"M_BAD_STATE"}'), "HTTP 400 M_BAD_STATE"),
    ],
)
def test_a_refusal_is_one_line_for_people(script: Script, line: str, client: FederationClient, serve: Serve) -> None:
    assert str(client.request(name(serve(script)), "GET", "/x")) == line


def test_an_answer_larger_than_allowed_is_not_read(client: FederationClient, serve: Serve) -> None:
    peer = serve(answer(body=b'{"a":"' + b"x" * 2000 + b'"}'))
    with pytest.raises(ResponseTooLarge):
        client.request(name(peer), "GET", "/x", max_response_bytes=1000)


def test_a_peer_that_is_down_is_unreachable(client: FederationClient, serve: Serve) -> None:
    peer = serve(answer())
    peer.__exit__(None, None, None)
    with pytest.raises(Unreachable):
        client.request(name(peer), "GET", "/x")


def test_a_transaction_is_put_under_the_path_it_was_frozen_with(client: FederationClient, serve: Serve) -> None:
    peer = serve(answer())
    both = paths.send("txn")
    for target in (both.stable, both.unstable):
        row = OutboundTransaction(
            destination=Destination(server=name(peer)), txn_id="txn", path=target, body=b'{"edus":[],"pdus":[]}'
        )
        assert over_http(client)(row) == Answer(200, {})
    assert targets(peer) == [both.stable, both.unstable]
    assert all(head.startswith(b"PUT ") for head in peer.requests)


def test_ids_are_encoded_whatever_they_hold() -> None:
    both = paths.make_join("!r/~:a.example.org:8448", "@a/b+c=.:x.example.org", versions=["I.1", UNSTABLE_PREFIX])
    assert (
        both.stable
        == both.unstable
        == (
            "/_matrix/federation/v1/make_join/%21r%2F~%3Aa.example.org%3A8448/%40a%2Fb%2Bc%3D.%3Ax.example.org"
            f"?ver=I.1&ver={UNSTABLE_PREFIX}"
        )
    )


def test_backfill_has_both_paths() -> None:
    both = paths.backfill("!r:a.example.org", from_event_id="$e-_", limit=10)
    assert both.stable == "/_matrix/federation/v2/backfill/%21r%3Aa.example.org?v=%24e-_&limit=10"
    assert both.unstable == both.stable.replace("/v2/", f"/unstable/{UNSTABLE_PREFIX}/")
