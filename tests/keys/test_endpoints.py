"""The key endpoints as others meet them: real peers over TLS behind them, and errors in the draft's form."""

import json
from urllib.parse import quote

import pytest
from django.conf import settings
from django.test import Client

from keys import views
from keys.clock import now_ms
from keys.fetchers import parse_server_keys
from keys.key_file import TAKE_UP_MS
from keys.local import rotate, signing_key
from keys.models import KeyFetch, KeyResponse, ServerKey
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.signing import VerifyKey, check_signature, object_bytes, sign_object
from tests.support.hosted import is_error
from tests.support.keys import DAY, HOUR

SERVER = "/_matrix/key/v2/server"
QUERY = "/_matrix/key/v2/query"
OWN = settings.SERVER_NAME


@pytest.fixture(autouse=True)
def _full_quota():
    views.unknown_names.cache_clear()


def query(client, server, **parameters):
    return client.get(f"{QUERY}/{quote(server, safe='')}", parameters)


def post(client, servers):
    return client.post(QUERY, {"server_keys": servers}, content_type="application/json")


def check_notarized(item, peer):
    """The object is `peer`'s own, and signed by it and by us."""
    ours = VerifyKey.from_bytes(signing_key().public_key, valid_until_ts=2**53)
    theirs = VerifyKey.from_bytes(peer.key.public_key, valid_until_ts=2**53)
    keys = {(OWN, signing_key().key_id): [ours], (peer.name, peer.key.key_id): [theirs]}
    for server in (OWN, peer.name):
        check_signature(object_bytes(item), item["signatures"], server=server, keys=keys, ts=0)
    assert item["server_name"] == peer.name


def asked_for_keys(peer):
    return len([request for request in peer.requests if request.parts == ["server"]])


@pytest.mark.parametrize("header", [None, "Bearer x", 'X-Matrix origin="x"'])
def test_row1_row6_our_keys_are_for_anybody_and_verify_with_themselves(client, header):
    before = now_ms()
    response = client.get(SERVER, headers={"Authorization": header} if header else {})
    assert response.status_code == 200
    value = response.json()
    assert value["server_name"] == OWN
    assert before < value["valid_until_ts"] <= now_ms() + 12 * HOUR
    assert isinstance(value["old_verify_keys"], dict)
    assert value["m.linearized"] is True
    for key_id, entry in value["verify_keys"].items():
        assert key_id.startswith("ed25519:")
        assert "=" not in entry["key"]
        signature = value["signatures"][OWN][key_id]
        assert "=" not in signature
        key = VerifyKey.from_bytes(decode_base64(entry["key"], length=32), valid_until_ts=0)
        assert key.verifies(object_bytes(value), decode_base64(signature, length=64))


def test_row1_the_published_keys_are_right_at_once_after_a_rotation(client, settings, tmp_path):
    settings.SIGNING_KEY_FILE = tmp_path / "signing.key"
    first = client.get(SERVER)
    assert first["Cache-Control"] == "no-store"
    (old,) = first.json()["verify_keys"]
    at = now_ms()
    new = rotate(replaced=old, now_ms=at).signing.key_id
    value = client.get(SERVER).json()
    assert list(value["verify_keys"]) == [new]
    assert value["old_verify_keys"] == {
        old: {"key": first.json()["verify_keys"][old]["key"], "expired_ts": at + TAKE_UP_MS}
    }


def test_row2_a_notary_query_gives_the_peers_keys_with_our_signature(client, tls_peer):
    response = query(client, tls_peer.name)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    (item,) = response.json()["server_keys"]
    check_notarized(item, tls_peer)
    parse_server_keys(canonical_json.dumps(item), server=tls_peer.name, now_ms=now_ms())


def test_row2_a_fresh_answer_is_passed_on_without_asking_again(client, tls_peer):
    assert query(client, tls_peer.name).json() == query(client, tls_peer.name).json()
    assert asked_for_keys(tls_peer) == 1


def test_row3_a_bulk_query_gives_the_peers_keys_with_our_signature(client, tls_peer):
    for criteria in ({}, {tls_peer.key.key_id: {}}, {tls_peer.key.key_id: {"minimum_valid_until_ts": now_ms()}}):
        response = post(client, {tls_peer.name: criteria, "nowhere.invalid": {}})
        assert response.status_code == 200
        (item,) = response.json()["server_keys"]
        check_notarized(item, tls_peer)
    assert asked_for_keys(tls_peer) == 1


def test_row3_a_bulk_query_for_nobody_gives_nothing(client, db):
    assert post(client, {}).json() == {"server_keys": []}


def test_row4_an_expired_key_is_given_when_the_server_is_away(client, tls_peer):
    def expired():
        ServerKey.objects.update(valid_until_ts=now_ms() - DAY)
        KeyFetch.objects.all().delete()

    query(client, tls_peer.name)
    expired()
    tls_peer.endpoints["GET", "server"] = lambda _request: (500, {})
    (item,) = query(client, tls_peer.name).json()["server_keys"]
    check_notarized(item, tls_peer)
    assert asked_for_keys(tls_peer) == 2
    assert query(client, tls_peer.name, minimum_valid_until_ts=now_ms()).json() == {"server_keys": []}
    (item,) = post(client, {tls_peer.name: {tls_peer.key.key_id: {}}}).json()["server_keys"]
    check_notarized(item, tls_peer)


def spurious(peer, **fields):
    """The peer's answer with other fields, well signed."""
    value = {**peer.server_keys(), **fields}
    return lambda _request: (200, sign_object({**value, "signatures": {}}, server=peer.name, key=peer.key))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda peer: spurious(peer, server_name="other.example.org"), id="another server's name"),
        pytest.param(lambda peer: spurious(peer, valid_until_ts=now_ms() - 1), id="no longer valid"),
        pytest.param(lambda peer: spurious(peer, verify_keys={}), id="no keys"),
        pytest.param(lambda peer: lambda _request: (200, b"<html>"), id="no JSON"),
        pytest.param(lambda peer: lambda _request: (200, {**peer.server_keys(), "signatures": {}}), id="unsigned"),
        pytest.param(lambda peer: lambda _request: (404, peer.server_keys()), id="another status"),
    ],
)
def test_row5_a_spurious_answer_of_the_origin_does_not_overwrite_its_keys(client, tls_peer, answer):
    before = query(client, tls_peer.name).json()
    rows = list(ServerKey.objects.values()), list(KeyResponse.objects.values())
    tls_peer.endpoints["GET", "server"] = answer(tls_peer)
    KeyFetch.objects.update(asked_at=None)
    assert query(client, tls_peer.name, minimum_valid_until_ts=now_ms() + DAY).json() == {"server_keys": []}
    assert asked_for_keys(tls_peer) == 2
    assert query(client, tls_peer.name).json() == before
    assert (list(ServerKey.objects.values()), list(KeyResponse.objects.values())) == rows


@pytest.mark.parametrize("name", ["nowhere.invalid", "127.0.0.1:22", "[::1]", "a%2Fb", "x\0y", "\udcff"])
def test_an_unknown_or_improper_name_gives_an_empty_list(client, transactional_db, name):
    response = client.get(f"{QUERY}/{quote(name, safe='', errors='surrogateescape')}")
    assert (response.status_code, response.json()) == (200, {"server_keys": []})


def test_our_own_name_gives_our_own_keys(client, db):
    (item,) = query(client, OWN).json()["server_keys"]
    assert list(item["verify_keys"]) == [signing_key().key_id]
    assert set(item["signatures"]) == {OWN}
    (again,) = post(client, {OWN: {signing_key().key_id: {}}}).json()["server_keys"]
    assert again["verify_keys"] == item["verify_keys"]
    assert not KeyFetch.objects.exists()


def test_authorization_is_ignored(client, tls_peer):
    header = tls_peer.headers("GET", "/elsewhere", b"")
    for response in (
        client.get(f"{QUERY}/{tls_peer.name}", headers={"Authorization": header}),
        client.post(
            QUERY, {"server_keys": {}}, content_type="application/json", headers={"Authorization": "X-Matrix nonsense"}
        ),
    ):
        assert response.status_code == 200


@pytest.mark.parametrize("minimum", ["", "x", "-1", "1.5", "1e3", "9007199254740992", "1" * 5000, "\u0661", " 1"])
def test_a_minimum_that_is_no_time_is_refused(client, db, minimum):
    assert is_error(query(client, OWN, minimum_valid_until_ts=minimum), 400, "M_INVALID_PARAM")


def test_a_minimum_may_be_repeated_and_the_first_counts(client, db):
    assert (
        len(client.get(f"{QUERY}/{OWN}?minimum_valid_until_ts=1&minimum_valid_until_ts=x").json()["server_keys"]) == 1
    )


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", "M_NOT_JSON"),
        (b"<html>", "M_NOT_JSON"),
        (b"\xff", "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b"{}", "M_BAD_JSON"),
        (b'{"server_keys":[]}', "M_BAD_JSON"),
        (b'{"server_keys":{},"server_keys":{}}', "M_BAD_JSON"),
        (b'{"server_keys":{"\\ud800":{}}}', "M_BAD_JSON"),
        (json.dumps({"server_keys": {f"s{n}.invalid": {} for n in range(101)}}).encode(), "M_BAD_JSON"),
    ],
)
def test_a_bulk_query_of_another_form_is_refused_and_asks_nobody(client, db, body, errcode):
    assert is_error(client.post(QUERY, body, content_type="application/json"), 400, errcode)
    assert not KeyFetch.objects.exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, SERVER) for method in ("post", "put", "delete", "patch", "options")),
        *((method, f"{QUERY}/{OWN}") for method in ("post", "put", "delete", "patch", "options")),
        *((method, QUERY) for method in ("get", "put", "delete", "patch", "options")),
    ],
)
def test_other_methods_are_refused(client, method, path):
    assert is_error(getattr(client, method)(path), 405, "M_UNRECOGNIZED")


@pytest.mark.parametrize("path", [f"{SERVER}/", f"{QUERY}/", f"{QUERY}/{OWN}/", f"{QUERY}/{OWN}/ed25519:1"])
def test_other_paths_are_unknown(path):
    assert is_error(Client().get(path), 404, "M_UNRECOGNIZED")
