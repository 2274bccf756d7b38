"""What of a server's answer is believed (decision 103): twins of a good answer that differ in one field."""

from collections.abc import Callable
from typing import Any

import pytest

from keys.fetchers import ServerKeys, parse_server_keys
from keys.leaked import LEAKED_KEYS
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.errors import BadSignature, Malformed, NotJson, ProtocolError
from linmatrix.protocol.signing import SigningKey
from tests.support.keys import DAY, HOUR, NOW, PEER, answer, key

ONE, TWO, THREE = key(1, "one"), key(2, "two"), key(3, "three")
NO_POINT = "SSYCjCuSLiIpCjQakVN/1XeDLRetYAvXQqOmDzcHBOc"
"""Listed by a server in the wild among its old keys; no point of the curve."""
SMALL_ORDER = encode_base64(bytes(32))


def parse(body: bytes) -> ServerKeys:
    return parse_server_keys(body, server=PEER, now_ms=NOW)


def believed(body: bytes) -> dict[str, int | None]:
    """Key ids to when they expired."""
    return {item.key_id: item.expired_ts for item in parse(body).keys}


def test_a_good_answer_is_believed() -> None:
    keys = parse(answer(ONE))
    assert (keys.server, keys.valid_until_ts) == (PEER, NOW + 12 * HOUR)
    assert [(item.key_id, item.public_key, item.expired_ts) for item in keys.keys] == [
        ("ed25519:one", ONE.public_key, None)
    ]
    assert keys.response.startswith('{"m.linearized":true,"old_verify_keys":{},"server_name":"peer.example.org"')


@pytest.mark.parametrize(
    ("valid_until_ts", "counts_as"),
    [
        (NOW + 1, NOW + 1),
        (NOW + 7 * DAY, NOW + 7 * DAY),
        (NOW + 7 * DAY + 1, NOW + 7 * DAY),
        (253_402_300_799_000, NOW + 7 * DAY),
    ],
)
def test_validity_ends_after_a_week_at_most(valid_until_ts: int, counts_as: int) -> None:
    assert parse(answer(ONE, valid_until_ts=valid_until_ts)).valid_until_ts == counts_as


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Puts `value` in a field named by its path with slashes; ... takes the field away."""

    def apply(of: dict[str, Any]) -> None:
        *parents, last = name.split("/")
        for parent in parents:
            of = of.setdefault(parent, {})
        if value is ...:
            del of[last]
        else:
            of[last] = value

    return apply


OLD = {"key": encode_base64(TWO.public_key), "expired_ts": NOW - 1}

INVALID = [
    pytest.param(change("server_name", "other.example.org"), Malformed, "another server's", id="another name"),
    pytest.param(change("server_name", "PEER.example.org"), Malformed, "another server's", id="name in upper case"),
    pytest.param(change("server_name", ...), Malformed, "another server's", id="no name"),
    pytest.param(change("valid_until_ts", NOW), Malformed, "has passed", id="expired"),
    pytest.param(change("valid_until_ts", ...), Malformed, "valid_until_ts is not", id="no validity"),
    pytest.param(change("valid_until_ts", True), Malformed, "valid_until_ts is not", id="validity true"),
    pytest.param(change("valid_until_ts", str(NOW + HOUR)), Malformed, "valid_until_ts is not", id="validity a string"),
    pytest.param(change("valid_until_ts", NOW + 0.5), Malformed, "valid_until_ts is not", id="validity a float"),
    pytest.param(change("valid_until_ts", 2**53), Malformed, "an integer is outside", id="validity too large"),
    pytest.param(change("verify_keys", ...), Malformed, "verify_keys is not an object", id="no keys field"),
    pytest.param(change("verify_keys", []), Malformed, "verify_keys is not an object", id="keys a list"),
    pytest.param(change("verify_keys", {}), BadSignature, "no usable key", id="no keys"),
    pytest.param(
        change("verify_keys/ed25519:one", "x"), Malformed, "ed25519:one is not an object", id="entry a string"
    ),
    pytest.param(change("verify_keys/ed25519:one/key", ...), Malformed, "not a string", id="no key"),
    pytest.param(change("verify_keys/ed25519:one/key", "AAAA"), Malformed, "3 bytes instead of 32", id="short key"),
    pytest.param(change("verify_keys/ed25519:one/key", "*" * 43), Malformed, "invalid base64", id="not base64"),
    pytest.param(change("verify_keys/ed25519:one/key", NO_POINT), BadSignature, "no usable key", id="no point"),
    pytest.param(change("verify_keys/ed25519:one/key", SMALL_ORDER), BadSignature, "no usable key", id="small order"),
    pytest.param(
        change("verify_keys/ed25519:one/key", encode_base64(TWO.public_key)),
        BadSignature,
        "ed25519:one does not verify",
        id="key of another",
    ),
    pytest.param(change("old_verify_keys", []), Malformed, "old_verify_keys is not an object", id="old keys a list"),
    pytest.param(
        change("old_verify_keys/ed25519:two", {"key": OLD["key"]}), Malformed, "expired_ts", id="old key without expiry"
    ),
    pytest.param(
        change("old_verify_keys/ed25519:two", {**OLD, "expired_ts": -1}), Malformed, "expired_ts", id="negative expiry"
    ),
    pytest.param(
        change("old_verify_keys/ed25519:two", {**OLD, "key": "AAAA"}), Malformed, "3 bytes", id="short old key"
    ),
    pytest.param(
        change("old_verify_keys", {f"ed25519:{number}": OLD for number in range(DEFAULTS.keys_per_answer)}),
        Malformed,
        "65 keys are more than 64",
        id="too many keys",
    ),
]
"""Changes to a good answer, each signed by its key, and why it is refused."""


@pytest.mark.parametrize(("changed", "error", "reason"), INVALID)
def test_an_answer_is_refused_for(
    changed: Callable[[dict[str, Any]], None], error: type[ProtocolError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        parse(answer(ONE, change=changed))


@pytest.mark.parametrize(
    ("body", "error"), [(b"", NotJson), (b"<html>", NotJson), (b"[]", Malformed), (b'{"a":1,"a":2}', Malformed)]
)
def test_what_is_no_json_object_is_refused(body: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        parse(body)


def test_a_key_that_did_not_sign_is_not_believed() -> None:
    assert believed(answer(ONE, TWO)) == {"ed25519:one": None, "ed25519:two": None}
    assert believed(answer(ONE, TWO, signed_by=(ONE,))) == {"ed25519:one": None}
    with pytest.raises(BadSignature, match="no usable key"):
        parse(answer(ONE, TWO, signed_by=()))


def test_a_signature_by_another_server_is_no_proof() -> None:
    value = answer(ONE).replace(b'"signatures": {"peer.example.org"', b'"signatures": {"other.example.org"')
    with pytest.raises(BadSignature, match="no usable key"):
        parse(value)


def test_one_false_signature_refuses_the_answer() -> None:
    impostor = SigningKey(TWO.key_id, THREE.key)
    with pytest.raises(BadSignature, match="ed25519:two does not verify"):
        parse(answer(ONE, TWO, signed_by=(ONE, impostor)))


def test_a_signature_by_a_key_that_is_not_listed_does_no_harm() -> None:
    assert believed(answer(ONE, signed_by=(ONE, TWO))) == {"ed25519:one": None}


@pytest.mark.parametrize("key_id", ["curve25519:1", "ed25519:", "ed25519:a-b", "ed25519", "ED25519:1"])
def test_keys_of_other_algorithms_are_left_out(key_id: str) -> None:
    assert believed(answer(ONE, change=change(f"verify_keys/{key_id}", {"key": "?"}))) == {"ed25519:one": None}


@pytest.mark.parametrize("listed", [NO_POINT, SMALL_ORDER, *map(encode_base64, sorted(LEAKED_KEYS))])
def test_an_old_key_that_is_unsound_or_leaked_is_left_out(listed: str) -> None:
    old = change("old_verify_keys/ed25519:two", {**OLD, "key": listed})
    assert believed(answer(ONE, change=old)) == {"ed25519:one": None}
    assert believed(answer(ONE, change=change("old_verify_keys/ed25519:two", OLD))) != {"ed25519:one": None}


def test_a_leaked_key_proves_nothing() -> None:
    leaked = SigningKey.from_seed("ed25519:one", bytes(32))
    with pytest.raises(BadSignature, match="no usable key"):
        parse(answer(leaked))


@pytest.mark.parametrize(
    ("expired_ts", "counts_as"),
    [(0, 0), (NOW - DAY, NOW - DAY), (NOW + HOUR, NOW + HOUR), (NOW + 13 * HOUR, NOW + 12 * HOUR)],
)
def test_an_old_key_is_valid_no_longer_than_the_answer(expired_ts: int, counts_as: int) -> None:
    assert believed(answer(ONE, old={TWO: expired_ts})) == {"ed25519:one": None, "ed25519:two": counts_as}


def test_old_verify_keys_may_be_missing() -> None:
    assert believed(answer(ONE, change=change("old_verify_keys", ...))) == {"ed25519:one": None}


def test_a_key_that_is_listed_as_both_is_current() -> None:
    assert believed(answer(ONE, old={ONE: NOW - DAY})) == {"ed25519:one": None}
