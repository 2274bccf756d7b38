"""X-Matrix on the endpoints: who may ask, and what a forged, stale or replayed request is told."""

import pytest

from keys.models import ServerKey
from linmatrix.protocol.request_auth import authorization
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.protocol.signing import SigningKey
from tests.support.hosted import snapshot
from tests.support.peers import HOUR_MS, Peer, now_ms

pytestmark = pytest.mark.django_db(transaction=True)

SEND = "/_matrix/federation/v2/send/1"
STATE = "/_matrix/federation/v1/state/%21room%3Ahub.example.org?event_id=%24x"


def is_refused(response):
    body = response.json()
    assert body["error"].startswith("Signature error on request")
    return (response.status_code, body["errcode"]) == (401, "M_FORBIDDEN")


def test_a_signed_request_is_let_in(peer):
    assert peer.request("PUT", SEND, {"pdus": []}).status_code == 200


AUTHENTICATED = [
    ("PUT", "v2/send/1"),
    ("POST", "v3/invite/1"),
    ("POST", "v3/send_join/1"),
    ("POST", "v3/send_leave/1"),
    ("GET", "v2/event/%24x"),
    ("GET", "v2/backfill/%21a%3Ab"),
    ("GET", "v1/state/%21a%3Ab"),
    ("GET", "v1/state_ids/%21a%3Ab"),
    ("GET", "v1/make_join/%21a%3Ab/%40u%3Ab"),
    ("GET", "v1/make_leave/%21a%3Ab/%40u%3Ab"),
    ("PUT", f"unstable/{UNSTABLE_PREFIX}/send/1"),
    ("POST", f"unstable/{UNSTABLE_PREFIX}/invite/1"),
    ("POST", f"unstable/{UNSTABLE_PREFIX}/send_join/1"),
    ("POST", f"unstable/{UNSTABLE_PREFIX}/send_leave/1"),
    ("GET", f"unstable/{UNSTABLE_PREFIX}/event/%24x"),
    ("GET", f"unstable/{UNSTABLE_PREFIX}/backfill/%21a%3Ab"),
]


@pytest.mark.parametrize(("method", "path"), AUTHENTICATED)
def test_every_endpoint_refuses_a_request_without_a_signature(method, path, peer):
    content = None if method == "GET" else {}
    assert is_refused(peer.request(method, f"/_matrix/federation/{path}", content, header=""))


def headers(peer):
    """Authorization headers for `PUT SEND {"pdus":[]}`, the good one and its twins."""
    body = b'{"edus":[],"pdus":[]}'
    good = peer.headers("PUT", SEND, body)
    other_key = SigningKey.from_seed("ed25519:1", bytes(32))
    return {
        "no scheme": good.removeprefix("X-Matrix "),
        "another scheme": good.replace("X-Matrix", "Bearer"),
        "no key": good.replace('key="ed25519:1",', ""),
        "no destination": good.replace('destination="hub.example.org",', ""),
        "an unknown key": good.replace("ed25519:1", "ed25519:2"),
        "origin twice": good.replace('origin="', 'origin="other.example.org",origin="'),
        "two signatures that differ": good + ',signature="' + "A" * 86 + '"',
        "a signature of 63 bytes": good[: good.index("sig=")] + 'sig="' + "A" * 84 + '"',
        "a signature with junk in its base64": good.replace('sig="', 'sig="!'),
        "signed with another key": peer.headers("PUT", SEND, body, key=other_key),
        "for another server": peer.headers("PUT", SEND, body, destination="other.example.org"),
        "for this server in another case": peer.headers("PUT", SEND, body, destination="Hub.example.org"),
        "in our own name": peer.headers("PUT", SEND, body, origin="hub.example.org"),
        "for another method": peer.headers("POST", SEND, body),
        "for another path": peer.headers("PUT", "/_matrix/federation/v2/send/2", body),
        "for the path with a query": peer.headers("PUT", SEND + "?a=b", body),
        "for another body": peer.headers("PUT", SEND, b'{"edus":[],"pdus":[null]}'),
        "too long": good + "," + "x" * 9000 + "=1",
        "the same key twice": f"{good}, {good}",
        "a second header that is false": good + "," + good.replace("ed25519:1", "ed25519:2"),
        "a second scheme": f"{good},Bearer x",
        "unbalanced quotes": good[:-1],
    }


@pytest.mark.parametrize("name", headers(Peer("part.example.org")))
def test_a_header_that_differs_in_one_thing_is_refused_before_anything_happens(name, peer, joined):
    before = snapshot(joined.room_id)
    body = b'{"edus":[],"pdus":[]}'
    assert is_refused(peer.request("PUT", SEND, raw=body, header=headers(peer)[name]))
    assert snapshot(joined.room_id) == before


def test_names_of_parameters_are_case_insensitive_and_unknown_ones_ignored(peer):
    body = b'{"edus":[],"pdus":[]}'
    good = peer.headers("PUT", SEND, body).replace("origin=", "ORIGIN=").replace(",key=", ' , new="a,\\"b", key=')
    assert peer.request("PUT", SEND, raw=body, header=good).status_code == 200


def test_a_signature_may_be_named_signature(peer):
    body = b'{"edus":[],"pdus":[]}'
    good = peer.headers("PUT", SEND, body).replace("sig=", "signature=")
    assert peer.request("PUT", SEND, raw=body, header=good).status_code == 200


def test_two_keys_of_one_server_may_both_sign(peer):
    second = Peer(peer.name, key_id="ed25519:2")
    second.publish()
    peer.publish()
    ServerKey.objects.update(current=True)
    body = b'{"edus":[],"pdus":[]}'
    both = f"{peer.headers('PUT', SEND, body)},{second.headers('PUT', SEND, body)}"
    assert peer.request("PUT", SEND, raw=body, header=both).status_code == 200


@pytest.mark.parametrize("content", [{}, None], ids=["an empty object", "nothing"])
def test_a_request_without_a_body_may_be_signed_with(content, peer):
    header = authorization(
        method="GET", uri=STATE, origin=peer.name, destination="hub.example.org", content=content, key=peer.key
    )
    assert peer.request("GET", STATE, header=header).status_code == 404


def test_the_target_is_checked_as_it_stands_on_the_request_line(peer):
    signed = STATE.replace("%21", "!")
    header = peer.headers("GET", signed, b"")
    assert is_refused(peer.request("GET", STATE, header=header))
    assert peer.request("GET", signed, header=header).status_code == 404


def test_a_key_that_has_expired_authenticates_nothing(db):
    stale = Peer("stale.example.org").publish()
    ServerKey.objects.filter(server=stale.name).update(valid_until_ts=now_ms() - HOUR_MS)
    response = stale.request("PUT", SEND, {"pdus": []})
    assert is_refused(response)
    assert "no current key" in response.json()["error"]


def test_a_key_that_its_server_no_longer_lists_authenticates_nothing(db):
    rotated = Peer("rotated.example.org").publish()
    ServerKey.objects.filter(server=rotated.name).update(current=False)
    assert is_refused(rotated.request("PUT", SEND, {"pdus": []}))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/_matrix/federation/v2/send/1/", 404),
        ("PUT", "/_matrix/federation/v2/send/", 404),
        ("PUT", "/_matrix/federation/v1/send/1", 404),
        ("GET", "/_matrix//federation/v2/event/x", 404),
        ("GET", "//_matrix/federation/v2/event/x", 404),
        ("GET", "/_matrix/federation/v9/anything", 404),
        ("GET", "/_matrix/key/v2/server/", 404),
        ("GET", "/_matrix", 404),
        ("POST", "/_matrix/federation/v2/send/1", 405),
        ("GET", "/_matrix/federation/v2/send/1", 405),
        ("OPTIONS", "/_matrix/federation/v2/send/1", 405),
        ("HEAD", "/_matrix/federation/v2/event/%24x", 405),
        ("DELETE", "/_matrix/federation/v3/invite/1", 405),
        ("PUT", "/_matrix/key/v2/server", 405),
    ],
)
def test_unknown_paths_and_methods_are_unrecognized_before_anyone_is_asked_who_they_are(method, path, status, peer):
    response = peer.request(method, path, header="")
    assert response.status_code == status
    if method != "HEAD":
        assert response.json()["errcode"] == "M_UNRECOGNIZED"
    assert response["Content-Type"] == "application/json"
