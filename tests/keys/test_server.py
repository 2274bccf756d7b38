"""What we answer about our own keys, asked for by ourselves as by any other server."""

from pathlib import Path

import pytest
import trustme
from django.conf import settings
from django.test import Client

from keys.clock import now_ms
from keys.fetchers import fetch_server_keys, parse_server_keys
from keys.local import VALIDITY_MS, server_keys, signing_key
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json
from linmatrix.transport.errors import ResponseTooLarge, Unreachable
from linmatrix.transport.http import HttpClient
from linmatrix.transport.resolve import Resolver
from tests.support.keys import NOW, PEER, answer, key
from tests.transport import peers

SERVER = "/_matrix/key/v2/server"


def test_the_answer_is_what_the_draft_shows() -> None:
    value = server_keys(NOW)
    assert set(value) == {
        "server_name",
        "valid_until_ts",
        "m.linearized",
        "verify_keys",
        "old_verify_keys",
        "signatures",
    }
    assert (value["valid_until_ts"], value["m.linearized"], value["old_verify_keys"]) == (NOW + VALIDITY_MS, True, {})


def test_the_answer_verifies_with_its_own_key() -> None:
    body = canonical_json.dumps(server_keys(NOW))
    believed = parse_server_keys(body, server=settings.SERVER_NAME, now_ms=NOW)
    assert [(item.key_id, item.public_key) for item in believed.keys] == [
        (signing_key().key_id, signing_key().public_key)
    ]


def test_anybody_may_ask(client: Client) -> None:
    before = now_ms()
    response = client.get(SERVER)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    believed = parse_server_keys(response.content, server=settings.SERVER_NAME, now_ms=before)
    assert before + VALIDITY_MS <= believed.valid_until_ts <= now_ms() + VALIDITY_MS


@pytest.mark.parametrize("method", ["post", "put", "delete", "head", "options"])
def test_other_methods_are_not_for_this_endpoint(client: Client, method: str) -> None:
    response = getattr(client, method)(SERVER)
    assert response.status_code == 405


def test_a_trailing_slash_makes_another_endpoint(client: Client) -> None:
    assert client.get(f"{SERVER}/").status_code == 404


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def fetch(authority: trustme.CA, script: peers.Script, folder: Path) -> bytes:
    """What is fetched of a peer that answers like this, over TLS."""
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with peers.ScriptedPeer(peers.server_context(authority.issue_cert(PEER)), script) as peer:
        resolver = Resolver(allow_private=True, overrides={PEER: f"127.0.0.1:{peer.port}"})
        body = fetch_server_keys(PEER, client=HttpClient(resolver, user_agent="tests", ca_file=str(ca_file)))
        assert peer.requests[0].startswith(b"GET /_matrix/key/v2/server HTTP/1.1\r\n")
        return body


def test_a_peer_is_asked_over_the_network(authority: trustme.CA, tmp_path: Path) -> None:
    body = answer(key(1))
    assert fetch(authority, peers.answer(body=body), tmp_path) == body


@pytest.mark.parametrize("status", ["404 Not Found", "301 Moved Permanently", "500 Oops", "204 No Content"])
def test_no_other_status_than_200_is_an_answer(authority: trustme.CA, tmp_path: Path, status: str) -> None:
    body = b"" if status.startswith("204") else answer(key(1))
    with pytest.raises(Unreachable, match=f"status {status[:3]}"):
        fetch(authority, peers.answer(status, body), tmp_path)


def test_an_answer_that_is_too_long_is_not_read(authority: trustme.CA, tmp_path: Path) -> None:
    with pytest.raises(ResponseTooLarge):
        fetch(authority, peers.answer(body=b" " * (DEFAULTS.key_answer_bytes + 1)), tmp_path)
