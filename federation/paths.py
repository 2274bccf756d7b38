"""Request targets of the endpoints that we call, each in its stable and its unstable form.

The draft gives most endpoints a stable path that "currently doesn't exist" and a path under the unstable
prefix (decision 3): which one a peer serves is learnt by asking. Ids go into a path percent-encoded without
exception, since a user id may hold a slash.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from linmatrix.protocol.room_versions import ROOM_VERSIONS, UNSTABLE_PREFIX

_FEDERATION = "/_matrix/federation"
_UNSTABLE = f"{_FEDERATION}/unstable/{UNSTABLE_PREFIX}"


@dataclass(frozen=True, slots=True)
class Paths:
    """One request's target in both forms; they are equal for the endpoints that have a single path."""

    stable: str
    unstable: str

    def form(self, *, stable: bool) -> str:
        """The target in one of the forms."""
        return self.stable if stable else self.unstable


def uses_stable_paths(room_version: str) -> bool:
    """Which form a room's requests take at first (decision 3); rooms of an unknown version take the unstable one."""
    version = ROOM_VERSIONS.get(room_version)
    return version is not None and version.stable


def _both(version: str, *parts: str, query: Iterable[tuple[str, str]] = ()) -> Paths:
    tail = _tail(parts, query)
    return Paths(f"{_FEDERATION}/{version}{tail}", f"{_UNSTABLE}{tail}")


def _only_v1(*parts: str, query: Iterable[tuple[str, str]] = ()) -> Paths:
    target = f"{_FEDERATION}/v1{_tail(parts, query)}"
    return Paths(target, target)


def _tail(parts: Iterable[str], query: Iterable[tuple[str, str]]) -> str:
    path = "".join("/" + quote(part, safe="") for part in parts)
    parameters = urlencode(list(query), quote_via=quote, safe="")
    return f"{path}?{parameters}" if parameters else path


def send(txn_id: str) -> Paths:
    """Draft, `PUT send/:txnId`."""
    return _both("v2", "send", txn_id)


def event(event_id: str) -> Paths:
    """Draft, `GET event/:eventId`."""
    return _both("v2", "event", event_id)


def backfill(room_id: str, *, from_event_id: str, limit: int) -> Paths:
    """Draft, `GET backfill/:roomId`: at most `limit` events up to and including `from_event_id`."""
    return _both("v2", "backfill", room_id, query=[("v", from_event_id), ("limit", str(limit))])


def state(room_id: str, *, event_id: str) -> Paths:
    """Draft, `GET state/:roomId`."""
    return _only_v1("state", room_id, query=[("event_id", event_id)])


def state_ids(room_id: str, *, event_id: str) -> Paths:
    """Draft, `GET state_ids/:roomId`."""
    return _only_v1("state_ids", room_id, query=[("event_id", event_id)])


def invite(txn_id: str) -> Paths:
    """Draft, `POST invite/:txnId`."""
    return _both("v3", "invite", txn_id)


def make_join(room_id: str, user_id: str, *, versions: Iterable[str]) -> Paths:
    """Draft, `GET make_join/:roomId/:userId` with the room versions that we support."""
    return _only_v1("make_join", room_id, user_id, query=[("ver", version) for version in versions])


def send_join(txn_id: str) -> Paths:
    """Draft, `POST send_join/:txnId`."""
    return _both("v3", "send_join", txn_id)


def make_knock(room_id: str, user_id: str, *, versions: Iterable[str]) -> Paths:
    """Draft, `GET make_knock/:roomId/:userId` with the room versions that we support."""
    return _only_v1("make_knock", room_id, user_id, query=[("ver", version) for version in versions])


def send_knock(txn_id: str) -> Paths:
    """Draft, `POST send_knock/:txnId`."""
    return _both("v3", "send_knock", txn_id)


def make_leave(room_id: str, user_id: str) -> Paths:
    """Draft, `GET make_leave/:roomId/:userId`."""
    return _only_v1("make_leave", room_id, user_id)


def send_leave(txn_id: str) -> Paths:
    """Draft, `POST send_leave/:txnId`."""
    return _both("v3", "send_leave", txn_id)


def user_device(user_id: str, device_id: str) -> Paths:
    """Draft, `GET user/:userId/device/:deviceId`."""
    return _both("v1", "user", user_id, "device", device_id)


def user_devices(user_id: str) -> Paths:
    """Matrix, `GET user/devices/:userId`."""
    return _only_v1("user", "devices", user_id)


def user_keys_query() -> Paths:
    """Matrix, `POST user/keys/query`."""
    return _only_v1("user", "keys", "query")


def user_keys_claim() -> Paths:
    """Draft, `POST user/keys/claim`."""
    return _only_v1("user", "keys", "claim")
