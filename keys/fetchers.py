"""A server's own answer to `GET /_matrix/key/v2/server`: getting it, and deciding what of it to believe.

Draft section "Retrieving Server Keys"; decision 103, threats T20, T22, T23 and T27. An answer is refused as a whole
when it is not the server's or contradicts itself. A key that merely cannot be used is left out of it: servers in
the wild list keys that are no curve point, and those that once used a leaked key must list it as an old one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from nacl.bindings import crypto_core_ed25519_is_valid_point

from keys.leaked import is_leaked
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.identifiers import is_key_id
from linmatrix.protocol.signing import (
    KEY_LENGTH,
    MAX_KEY_VALIDITY_MS,
    SIGNATURE_LENGTH,
    VerifyKey,
    object_bytes,
    signature_ids,
)
from linmatrix.transport.errors import Unreachable
from linmatrix.transport.http import HttpClient


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A key as its server published it; `expired_ts` (milliseconds) is set for one under `old_verify_keys`."""

    key_id: str
    public_key: bytes
    expired_ts: int | None


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What is believed of an answer. `valid_until_ts` (milliseconds) is at most a week after it was fetched;
    `keys` holds at least one current key, and no key twice; `response` is the answer in canonical JSON; `notary` is
    the server that passed it on, empty for one that came from `server` itself."""

    server: str
    valid_until_ts: int
    keys: tuple[PublishedKey, ...]
    response: str
    notary: str = ""


def fetch_server_keys(server: str, *, client: HttpClient) -> bytes:
    """The body of `server`'s answer, unchecked, within `key_fetch_seconds`. Raises `TransportError`."""
    response = client.request(
        server,
        "GET",
        "/_matrix/key/v2/server",
        headers={"Accept": "application/json"},
        timeout=settings.LIMITS.key_fetch_seconds,
        max_response_bytes=settings.LIMITS.key_answer_bytes,
    )
    if response.status != 200:
        raise Unreachable(f"the answer has status {response.status}")
    return response.body


def parse_server_keys(body: bytes, *, server: str, now_ms: int) -> ServerKeys:
    """What to believe of an answer that was received from `server` at `now_ms` (milliseconds).

    Raises `NotJson`, and as `check_server_keys` does.
    """
    return check_server_keys(canonical_json.loads_object(body), server=server, now_ms=now_ms)


def check_server_keys(answer: dict[str, Any], *, server: str, now_ms: int, notary: str = "") -> ServerKeys:
    """What to believe of `server`'s answer, which `notary` passed on if it is named.

    An answer from the server itself must still be valid. One that a notary has kept may have run out: then its keys
    are for the events of their time, and that is what notaries are for.
    Raises `Malformed`, or `BadSignature` for a current key that did not sign it or signed something else.
    """
    if answer.get("server_name") != server:
        raise Malformed("server_name is another server's")
    valid_until_ts = _timestamp(answer, "valid_until_ts")
    if valid_until_ts <= now_ms and not notary:
        raise Malformed("valid_until_ts has passed")
    valid_until_ts = min(valid_until_ts, now_ms + MAX_KEY_VALIDITY_MS)
    current, old = _object(answer, "verify_keys"), _object(answer, "old_verify_keys", default={})
    if len(current) + len(old) > settings.LIMITS.keys_per_answer:
        raise Malformed(f"{len(current) + len(old)} keys are more than {settings.LIMITS.keys_per_answer}")
    keys = {(key.key_id, key.public_key): key for key in _old_keys(old, valid_until_ts)}
    # A key that is listed as both is in use.
    keys |= {(key.key_id, key.public_key): key for key in _current_keys(current, answer, server)}
    return ServerKeys(server, valid_until_ts, tuple(keys.values()), canonical_json.dumps(answer).decode(), notary)


def _current_keys(listed: dict[str, Any], answer: dict[str, Any], server: str) -> list[PublishedKey]:
    """The keys under `verify_keys` that prove that the server has their private half, by signing the answer."""
    covered, signatures = object_bytes(answer), answer.get("signatures")
    signed = signature_ids(signatures, server)
    keys = []
    for key_id, public_key, _ in _usable_keys(listed):
        if key_id not in signed:
            continue
        signature = decode_base64(answer["signatures"][server][key_id], length=SIGNATURE_LENGTH)
        if not VerifyKey.from_bytes(public_key, valid_until_ts=0).verifies(covered, signature):
            raise BadSignature(f"the signature by {key_id} does not verify")
        keys.append(PublishedKey(key_id, public_key, None))
    if not keys:
        raise BadSignature("no usable key under verify_keys has signed the answer")
    return keys


def _old_keys(listed: dict[str, Any], valid_until_ts: int) -> list[PublishedKey]:
    """The keys under `old_verify_keys`. None is valid for longer than the answer: it could not be revoked."""
    return [
        PublishedKey(key_id, public_key, min(_timestamp(entry, "expired_ts"), valid_until_ts))
        for key_id, public_key, entry in _usable_keys(listed)
    ]


def _usable_keys(listed: dict[str, Any]) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Key id, public key and entry of each key of an algorithm that we know, that is sound and not leaked."""
    for key_id in listed:
        if not is_key_id(key_id):
            continue
        entry = _object(listed, key_id)
        public_key = decode_base64(entry.get("key"), length=KEY_LENGTH)
        if crypto_core_ed25519_is_valid_point(public_key) and not is_leaked(public_key):
            yield key_id, public_key, entry


def _object(parent: dict[str, Any], name: str, default: object = None) -> dict[str, Any]:
    value = parent.get(name, default)
    if not isinstance(value, dict):
        raise Malformed(f"{name} is not an object")
    return value


def _timestamp(parent: dict[str, Any], name: str) -> int:
    value = parent.get(name)
    if type(value) is not int or value < 0:  # True is an int to isinstance
        raise Malformed(f"{name} is not a time in milliseconds")
    return value
