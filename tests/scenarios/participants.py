"""Servers that take part in a hub's rooms, many in one process: real keys, TLS and HTTP, and no rooms of their own.

They publish their keys where any server does, sign what they send, and keep what they are sent. What they remember
is what a test asks about: whether they got everything, once, in order, and in which transactions.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from federation import paths
from federation.client import Answer, FederationClient
from linmatrix.protocol import canonical_json, completion
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.protocol.signing import SigningKey, sign_object
from linmatrix.stack.certificates import Authority
from linmatrix.transport.http import HttpClient
from linmatrix.transport.resolve import Resolver
from tests.scenarios.listener import Listener, Request

KEY_VALIDITY_MS = 24 * 3600 * 1000
ACKNOWLEDGED = b'{"failed_pdus":{}}'
ANSWER_SECONDS = 60.0


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A transaction as it arrived: `PUT send/:txnId`."""

    target: str
    authorization: str
    body: bytes

    @property
    def pdus(self) -> list[dict[str, Any]]:
        """Its events."""
        pdus: list[dict[str, Any]] = canonical_json.loads(self.body)["pdus"]
        return pdus


class Participant:
    """One server, with a key, a client and a memory."""

    def __init__(self, name: str, *, seed: int, client: HttpClient) -> None:
        self.name = name
        self.key = SigningKey.from_seed("ed25519:1", bytes([seed]) * 32)
        self.http = client
        self.client = FederationClient(client, self.key, name)
        self.requests: list[Request] = []
        """Every request that arrived."""
        self.deliveries: list[Delivery] = []
        """Every transaction that arrived, repetitions too."""
        self.most_at_once = 0
        """Transactions that were being answered at the same time, at most: the draft allows one."""
        self.before_answering: Callable[[Delivery], None] = lambda _delivery: None
        """Called in the thread that answers; the answer comes when it returns."""
        self._at_once = 0
        self._lock = Lock()

    def user(self, localpart: str) -> str:
        """The id of one of its users."""
        return f"@{localpart}:{self.name}"

    @property
    def transactions(self) -> list[Delivery]:
        """What arrived, in order, a repeated transaction once. A transaction is its target, which holds its id."""
        return list({delivery.target: delivery for delivery in reversed(self.deliveries)}.values())[::-1]

    def events(self, room_id: str) -> list[dict[str, Any]]:
        """The room's events in the order in which they arrived."""
        return [pdu for delivery in self.transactions for pdu in delivery.pdus if pdu["room_id"] == room_id]

    def lpdu(self, hub: str, room_id: str, *, type: str, content: dict[str, Any], state_key: str | None = None) -> Lpdu:
        """A signed LPDU of its user `user`."""
        event = completion.new_event(
            room_id=room_id,
            sender=self.user("user"),
            type=type,
            content=content,
            origin_server_ts=now_ms(),
            state_key=state_key,
        )
        return completion.make_lpdu(event, hub_server=hub, key=self.key)

    def join(self, hub: str, room_id: str) -> Answer:
        """Have its user join a room."""
        lpdu = self.lpdu(
            hub, room_id, type="m.room.member", content={"membership": "join"}, state_key=self.user("user")
        )
        target = paths.send_join(lpdu.lpdu_id).stable
        return self.client.request(hub, "POST", target, content=lpdu.event, timeout=ANSWER_SECONDS)

    def invite(self, hub: str, lpdu: Lpdu) -> Answer:
        """Have a room's hub invite somebody whose server is not in the room."""
        content = {"event": lpdu.event, "room_version": UNSTABLE_PREFIX}
        target = paths.invite(lpdu.lpdu_id).stable
        return self.client.request(hub, "POST", target, content=content, timeout=ANSWER_SECONDS)

    def send(self, hub: str, lpdus: Sequence[Lpdu], *, txn_id: str, stable: bool = True) -> Answer:
        """Send a transaction."""
        target = paths.send(txn_id).form(stable=stable)
        content = {"pdus": [lpdu.event for lpdu in lpdus], "edus": []}
        return self.client.request(hub, "PUT", target, content=content, timeout=ANSWER_SECONDS)

    def respond(self, request: Request) -> tuple[int, bytes]:
        """Answer a request to this server."""
        self.requests.append(request)
        if request.method == "GET" and request.target == "/_matrix/key/v2/server":
            return 200, self._keys()
        if request.method == "PUT" and "/send/" in request.target:
            self._receive(Delivery(request.target, request.authorization, request.body))
            return 200, ACKNOWLEDGED
        return 404, b'{"errcode":"M_UNRECOGNIZED","error":"no such endpoint"}'

    def _receive(self, delivery: Delivery) -> None:
        with self._lock:
            self.deliveries.append(delivery)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self.before_answering(delivery)
        with self._lock:
            self._at_once -= 1

    def _keys(self) -> bytes:
        answer = {
            "server_name": self.name,
            "valid_until_ts": now_ms() + KEY_VALIDITY_MS,
            "m.linearized": True,
            "verify_keys": {self.key.key_id: {"key": encode_base64(self.key.public_key)}},
            "old_verify_keys": {},
        }
        return canonical_json.dumps(sign_object(answer, server=self.name, key=self.key))


@contextmanager
def participants(*labels: str, authority: Authority, folder: Path, trusted: Authority) -> Iterator[list[Participant]]:
    """Servers named `label.localhost:port` up until the block ends, with certificates of `authority`.

    They trust servers that have certificates of `trusted`.
    """
    by_name: dict[str, Participant] = {}
    listener = Listener(lambda request: by_name[request.host].respond(request))
    hosts = [f"{label}.localhost" for label in labels]
    listener.use(authority.issue(hosts, folder=folder))
    ca_file = str(trusted.certificate_file)
    for seed, host in enumerate(hosts, start=1):
        # Each with connections of its own, as servers apart have.
        client = HttpClient(Resolver(allow_private=True), user_agent="participant", ca_file=ca_file)
        name = f"{host}:{listener.port}"
        by_name[name] = Participant(name, seed=seed, client=client)
    with listener:
        yield list(by_name.values())
