"""This server as a notary: it passes on what servers answered about their keys, and signs that it has seen it.

Draft sections "Querying Keys Through Another Server" and "Retrieving Server Keys"; decisions 102 and 105, threat T26.
Anybody may ask about any name. So only what the servers themselves answered is passed on, never what another notary
said; a server is asked anew only when what we have of it is no longer fresh, once a minute at most, and a name that
does not answer is left alone for an hour. Unknown names have a quota besides: each one costs a lookup, a connection
to wherever it leads, and a row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from django.conf import settings

from keys import history, leases
from keys.clock import Clock, now_ms
from keys.history import Published
from keys.keyring import Keyring
from keys.local import server_keys, signing_key
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import is_server_name
from linmatrix.protocol.signing import MAX_KEY_VALIDITY_MS, sign_object

QUOTA_MS = 60_000
"""For `notary_unknown_names`, by one process and for whoever names them: two full queries, as a server makes that has
just joined a room."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for of `server`: each key id with the time (ms) that its keys must be valid to, None where the
    query does not say. The key id None stands for all keys."""

    server: str
    minimums: Mapping[str | None, int | None]


class Quota:
    """So many in a while. One per process; safe for any number of threads."""

    def __init__(self, limit: int, *, per_ms: int, clock: Clock = now_ms) -> None:
        self._limit = limit
        self._per_ms = per_ms
        self._clock = clock
        self._lock = Lock()
        self._begun = 0
        self._used = 0

    def take(self, names: Iterable[str]) -> set[str]:
        """As many of the names as there is quota for."""
        wanted = sorted(names)
        with self._lock:
            now = self._clock()
            if now - self._begun >= self._per_ms:
                self._begun, self._used = now, 0
            granted = wanted[: self._limit - self._used]
            self._used += len(granted)
        return set(granted)


def parse_query(body: bytes) -> list[Wanted]:
    """The content of `POST /_matrix/key/v2/query`. Raises `NotJson` or `Malformed`."""
    servers = canonical_json.loads_object(body).get("server_keys")
    if not isinstance(servers, dict):
        raise Malformed("server_keys is not an object")
    if len(servers) > settings.LIMITS.notary_servers:
        raise Malformed(f"{len(servers)} servers are more than {settings.LIMITS.notary_servers}")
    return [Wanted(server, _minimums(criteria)) for server, criteria in servers.items()]


def answer(wanted: Sequence[Wanted], *, keyring: Keyring, unknown_names: Quota, now_ms: int) -> list[dict[str, Any]]:
    """The signed keys of these servers that we know or can get, at `now_ms` (milliseconds).

    An explicit minimum leaves out what is not valid so long. Without one, what has run out is asked for again, and
    passed on still if nothing newer is to be had (decision 102). Improper and unknown names give nothing.
    """
    own = [item for item in wanted if item.server == settings.SERVER_NAME]
    others = {item.server: item for item in wanted if item not in own and is_server_name(item.server)}
    known = history.published(others)
    stale = {name for name, item in others.items() if not _is_fresh(item, known.get(name, []), now_ms)}
    stale = leases.due(stale, now_ms=now_ms, patience=leases.FOR_STRANGERS)
    asked = stale & known.keys() | unknown_names.take(stale - known.keys())
    keyring.refresh_for_strangers(asked)
    known |= history.published(asked)
    chosen = {chosen for name, item in others.items() for chosen in _choose(item, known.get(name, []))}
    return [keys for item in own for keys in _own(item, now_ms)] + _signed(chosen)


def _own(wanted: Wanted, now_ms: int) -> list[dict[str, Any]]:
    """Our own keys, if they are what is wanted. Our one signature is the origin's and the notary's at once."""
    keys = server_keys(now_ms)
    listed = [None, *keys["verify_keys"], *keys["old_verify_keys"]]
    until = keys["valid_until_ts"]
    meets = any(
        key_id in listed and (minimum is None or until >= minimum) for key_id, minimum in wanted.minimums.items()
    )
    return [keys] if meets else []


def _minimums(criteria: object) -> dict[str | None, int | None]:
    """What is asked for of one server, by key id."""
    if not isinstance(criteria, dict):
        raise Malformed("what is asked for of a server is not an object")
    if len(criteria) > settings.LIMITS.notary_key_ids:
        raise Malformed(f"{len(criteria)} key ids are more than {settings.LIMITS.notary_key_ids}")
    if not criteria:
        return {None: None}
    minimums: dict[str | None, int | None] = {}
    for key_id, conditions in criteria.items():
        minimum = conditions.get("minimum_valid_until_ts") if isinstance(conditions, dict) else False
        if minimum is not None and type(minimum) is not int:  # True is an int to isinstance
            raise Malformed("minimum_valid_until_ts is not a time in milliseconds")
        minimums[key_id] = minimum
    return minimums


def _is_fresh(wanted: Wanted, published: Sequence[Published], now_ms: int) -> bool:
    """Whether asking the server again would tell nothing new of what is wanted, as far as one can know.

    An answer is taken to be true for half of its lifetime (draft, `GET server`). It is looked behind earlier for a
    key that no answer has listed, and for keys that will not do for as long as the query says.
    """
    if not published:
        return False
    latest = published[0]
    if now_ms >= latest.fetched_ms + (latest.valid_until_ts - latest.fetched_ms) // 2:
        return False
    for key_id, minimum in wanted.minimums.items():
        until = now_ms if minimum is None else minimum
        if until <= now_ms + MAX_KEY_VALIDITY_MS and not any(
            key_id in (None, key.key_id) and key.valid_until_ts >= until for key in published
        ):
            return False
    return True


def _choose(wanted: Wanted, published: Sequence[Published]) -> list[int]:
    """The ids of the latest answers that list keys that are wanted, and are valid for as long as it is wanted."""
    chosen = [
        key.response_id
        for key in published
        if any(
            key_id in (None, key.key_id) and (minimum is None or key.valid_until_ts >= minimum)
            for key_id, minimum in wanted.minimums.items()
        )
    ]
    return list(dict.fromkeys(chosen))[: settings.LIMITS.notary_responses]


def _signed(ids: Iterable[int]) -> list[dict[str, Any]]:
    """Stored answers with their servers' signatures and ours, until `notary_bytes` are full."""
    room, signed = settings.LIMITS.notary_bytes, []
    for server, text in history.responses(ids):
        encoded = text.encode()
        room -= len(encoded)
        if room < 0:
            break
        keys = canonical_json.loads_object(encoded)
        # Whoever else has signed it vouches for nothing here, least of all in our name.
        keys["signatures"] = {server: keys["signatures"][server]}
        signed.append(sign_object(keys, server=settings.SERVER_NAME, key=signing_key()))
    return signed
