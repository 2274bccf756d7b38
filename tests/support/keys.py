"""Servers that publish keys, and a network that asks them: what `keys` sees of the world, without sockets."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.signing import SigningKey, sign_object
from linmatrix.transport.errors import NotConnected

NOW = 1_800_000_000_000
"""Milliseconds: the time at which tests begin that bring their own clock."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

PEER = "peer.example.org"


def key(number: int, version: str = "1") -> SigningKey:
    """A signing key that is the same in every run, another for each number."""
    return SigningKey.from_seed(f"ed25519:{version}", bytes([number]) * 32)


def answer(
    *current: SigningKey,
    server: str = PEER,
    valid_until_ts: int = NOW + 12 * HOUR,
    old: Mapping[SigningKey, int] | None = None,
    signed_by: tuple[SigningKey, ...] | None = None,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> bytes:
    """A server's answer with its `current` keys and `old` ones (to when they expired).

    `change` alters it before it is signed, with all current keys unless `signed_by` names others.
    """
    value: dict[str, Any] = {
        "server_name": server,
        "valid_until_ts": valid_until_ts,
        "m.linearized": True,
        "verify_keys": {item.key_id: {"key": encode_base64(item.public_key)} for item in current},
        "old_verify_keys": {
            item.key_id: {"key": encode_base64(item.public_key), "expired_ts": expired_ts}
            for item, expired_ts in (old or {}).items()
        },
    }
    if change:
        change(value)
    for item in current if signed_by is None else signed_by:
        value = sign_object(value, server=server, key=item)
    return json.dumps(value).encode()


@dataclass
class Clock:
    """A clock that tests set."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now


@dataclass
class Network:
    """Answers for servers that are asked for their keys, and who was asked; a server without one is down."""

    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    """Answers arrive only while this is set."""

    def __post_init__(self) -> None:
        self.open.set()

    def __call__(self, server: str) -> bytes:
        self.asked.append(server)
        assert self.open.wait(timeout=20)
        if server not in self.answers:
            raise NotConnected(f"{server} is down")
        return self.answers[server]
