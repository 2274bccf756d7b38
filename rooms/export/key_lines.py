"""The keys in a room's file, each as its server's own signed answer lists it.

An answer proves that whoever had the private key said so, and no more: someone who signs a whole room anew with
keys of their own makes answers for them, too. Which keys a server really has is known to those who asked it. Taking a
file in compares with them (`rooms.importing`), and people can compare what a verification prints.
"""

from typing import Any

from nacl.exceptions import CryptoError

from linmatrix.protocol.canonical_json import MAX_SAFE_INTEGER
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.signing import KEY_LENGTH, VerifyKey, check_signature, object_bytes
from rooms.export.lines import Read


class BadKey(Exception):
    """A key or an answer that does not hold; the message says why."""


class KeyLines:
    """The keys of a file. `known` has those that hold with their validity, `timeless` without it; `given` the key
    materials as they are written, by server and key id."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], list[VerifyKey]] = {}
        self.timeless: dict[tuple[str, str], list[VerifyKey]] = {}
        self.given: dict[tuple[str, str], list[str]] = {}
        self.unproven = 0
        self._responses: dict[int, tuple[str, dict[str, Any]]] = {}

    def add_response(self, read: Read) -> None:
        """Take a server's answer. Raises `BadKey`, `NotALine`."""
        server, answer = read.text("server"), read.record("response")
        if answer.get("server_name") != server:
            raise BadKey(f"the answer is not one of {server}")
        try:
            _check_answer(server, answer)
        except ProtocolError as error:
            raise BadKey(f"the answer of {server} does not hold: {error.reason}") from None
        self._responses[read.whole("number")] = (server, answer)

    def add_key(self, read: Read) -> None:
        """Take a key, if the answer that it names lists it so. Raises `BadKey`, `NotALine`."""
        server, key_id, text = read.text("server"), read.text("key_id"), read.text("public_key")
        valid_until_ts = read.whole("valid_until_ts")
        expired_ts = None if read.fields.get("expired_ts") is None else read.whole("expired_ts")
        try:
            public_key = decode_base64(text, length=KEY_LENGTH)
            key = VerifyKey.from_bytes(public_key, valid_until_ts=valid_until_ts, expired_ts=expired_ts)
        except (ProtocolError, CryptoError, ValueError):
            raise BadKey(f"{key_id} of {server} is no ed25519 key") from None
        if read.fields.get("listed_in") is None:
            self.unproven += 1
        else:
            self._check_listed(read, public_key, key)
        self.known.setdefault((server, key_id), []).append(key)
        timeless = VerifyKey.from_bytes(public_key, valid_until_ts=MAX_SAFE_INTEGER)
        self.timeless.setdefault((server, key_id), []).append(timeless)
        self.given.setdefault((server, key_id), []).append(text)

    def _check_listed(self, read: Read, public_key: bytes, key: VerifyKey) -> None:
        server, key_id = read.text("server"), read.text("key_id")
        if read.whole("listed_in") not in self._responses:
            raise BadKey(f"there is no answer {read.whole('listed_in')} to prove {key_id} of {server}")
        of_server, answer = self._responses[read.whole("listed_in")]
        if of_server != server:
            raise BadKey(f"{key_id} of {server} is said to be listed by {of_server}")
        current, old = _entry(answer, "verify_keys", key_id), _entry(answer, "old_verify_keys", key_id)
        if not _is(current, public_key) and not _is(old, public_key):
            raise BadKey(f"{key_id} of {server} is not the key that the server's answer lists")
        if not _is(current, public_key) and (key.expired_ts is None or key.expired_ts > _time(old, "expired_ts")):
            raise BadKey(f"{key_id} of {server} has expired earlier by the server's answer")
        if key.valid_until_ts > _time(answer, "valid_until_ts"):
            raise BadKey(f"{key_id} of {server} is valid for less long by the server's answer")


def _entry(answer: dict[str, Any], listed: str, key_id: str) -> dict[str, Any]:
    keys = answer.get(listed)
    entry = keys.get(key_id) if isinstance(keys, dict) else None
    return entry if isinstance(entry, dict) else {}


def _is(entry: dict[str, Any], public_key: bytes) -> bool:
    if not entry:
        return False
    try:
        return decode_base64(entry.get("key"), length=KEY_LENGTH) == public_key
    except ProtocolError:
        return False


def _time(entry: dict[str, Any], name: str) -> int:
    value = entry.get(name)
    return value if type(value) is int else -1


def _check_answer(server: str, answer: dict[str, Any]) -> None:
    """That a key which the answer lists as in use has signed it. Raises `BadSignature`, `Malformed`."""
    keys = {}
    listed = answer.get("verify_keys")
    for key_id in listed if isinstance(listed, dict) else ():
        public_key = decode_base64(_entry(answer, "verify_keys", key_id).get("key"), length=KEY_LENGTH)
        keys[server, key_id] = [VerifyKey.from_bytes(public_key, valid_until_ts=MAX_SAFE_INTEGER)]
    check_signature(object_bytes(answer), answer.get("signatures"), server=server, keys=keys, ts=0)
