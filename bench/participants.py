"""Servers that only exist as names and keys, and the LPDUs and requests that they sign.

Pure, so that a process that sends and one that is inside of the hub's Django agree on them by name alone.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from linmatrix.protocol import canonical_json
from linmatrix.protocol.completion import make_lpdu, new_event
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.request_auth import authorization
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.protocol.signing import SigningKey, sign_object

LPDU_BYTES = 900
"""Canonical JSON of one LPDU, signature included: a chat message of some 400 characters, or a shorter encrypted one."""

UNSTABLE = f"/_matrix/federation/unstable/{UNSTABLE_PREFIX}"
"""The path that rooms of the default version take."""

KEY_VALIDITY_MS = 12 * 3600 * 1000
_NUMBER_DIGITS = 8


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that is ready to go out."""

    target: str
    authorization: str
    body: bytes


class Participant:
    """A server by its name; its key follows from that."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = SigningKey.from_seed("ed25519:1", hashlib.sha256(name.encode()).digest())

    def user(self, localpart: str = "user") -> str:
        """The id of one of its users."""
        return f"@{localpart}:{self.name}"

    def published_keys(self) -> bytes:
        """Its answer to `GET /_matrix/key/v2/server`."""
        answer = {
            "server_name": self.name,
            "valid_until_ts": now_ms() + KEY_VALIDITY_MS,
            "verify_keys": {self.key.key_id: {"key": encode_base64(self.key.public_key)}},
            "old_verify_keys": {},
        }
        return canonical_json.dumps(sign_object(answer, server=self.name, key=self.key))

    def message(self, room_id: str, *, hub: str, number: int) -> Lpdu:
        """A signed message of exactly `LPDU_BYTES`; another `number` (below 10^8) makes another message."""
        text = f"{number:0{_NUMBER_DIGITS}} {'x' * _padding(self.name, room_id, hub)}"
        return self._say(text, room_id, hub)

    def _say(self, text: str, room_id: str, hub: str) -> Lpdu:
        content = {"msgtype": "m.text", "body": text}
        return self.event(room_id, hub=hub, sender=self.user(), type="m.room.message", content=content)

    def event(self, room_id: str, *, hub: str, sender: str, type: str, content: dict[str, Any]) -> Lpdu:
        """A signed event of one of its users that is no state event."""
        event = new_event(room_id=room_id, sender=sender, type=type, content=content, origin_server_ts=now_ms())
        return make_lpdu(event, hub_server=hub, key=self.key)

    def join(self, room_id: str, *, hub: str, localpart: str = "user") -> Lpdu:
        """A signed join of one of its users."""
        event = new_event(
            room_id=room_id,
            sender=self.user(localpart),
            type="m.room.member",
            content={"membership": "join"},
            origin_server_ts=now_ms(),
            state_key=self.user(localpart),
        )
        return make_lpdu(event, hub_server=hub, key=self.key)

    def transactions(self, room_id: str, *, hub: str, count: int, lpdus: int) -> list[SignedRequest]:
        """Signed transactions of `lpdus` new messages each."""
        batch = secrets.token_hex(8)
        requests = []
        for first in range(0, count * lpdus, lpdus):
            messages = [self.message(room_id, hub=hub, number=number) for number in range(first, first + lpdus)]
            requests.append(self.transaction(f"{batch}-{first}", messages, hub))
        return requests

    def transaction(self, txn_id: str, lpdus: list[Lpdu], hub: str) -> SignedRequest:
        """A signed transaction of these."""
        content = {"edus": [], "pdus": [lpdu.event for lpdu in lpdus]}
        return self.signed("PUT", f"{UNSTABLE}/send/{txn_id}", hub=hub, content=content)

    def signed(self, method: str, target: str, *, hub: str, content: dict[str, Any] | None = None) -> SignedRequest:
        """Any request."""
        body = b"" if content is None else canonical_json.dumps(content)
        signed = b"{}" if content is None else body
        header = authorization(
            method=method, uri=target, origin=self.name, destination=hub, content=signed, key=self.key
        )
        return SignedRequest(target, header, body)


@lru_cache
def _padding(name: str, room_id: str, hub: str) -> int:
    """The characters by which a message without padding is smaller than `LPDU_BYTES`."""
    bare = Participant(name)._say("0" * _NUMBER_DIGITS + " ", room_id, hub)
    return LPDU_BYTES - len(canonical_json.dumps(bare.event))


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
