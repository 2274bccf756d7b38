"""The keys that signatures are checked with: those we know, and those we ask their server for.

Everything here is about asking seldom. What is known and still valid is taken from this process's memory, or from the
database. Only then is the server itself asked, once for all threads and processes that wait for it (`keys.leases`),
and not again for a while, whatever came of it. A key that cannot be had is missing from the answer, and the signature
check fails: nothing here raises because of what another server does.

Events may be signed by any key that was valid when they were made; requests only by one that is in use now
(decisions 27 and 68). The two have one function each, so that one cannot pass for the other.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from threading import BoundedSemaphore

from django.conf import settings

from keys import history, leases, local
from keys.asking import Asker, Fetch
from keys.clock import Clock, now_ms
from keys.fetchers import fetch_server_keys
from keys.history import Known, KnownKey
from keys.http import http_client
from keys.leases import Patience
from keys.notaries import Notaries, Query, query_notary
from linmatrix.protocol.canonical_json import MAX_SAFE_INTEGER
from linmatrix.protocol.events import CheckedEvent
from linmatrix.protocol.receipt import keys_needed
from linmatrix.protocol.signing import MAX_KEY_VALIDITY_MS, KnownKeys, VerifyKey
from linmatrix.transport.cache import TtlCache
from linmatrix.transport.errors import NotConnected

SLOT_SECONDS = 1.0
"""Requests whose origin must be asked for its keys may hold up few threads of a process, others wait a second at most
for their turn. Anybody can name origins that never answer; known peers are served meanwhile. As notary, too: queries
without a turn are answered from what is stored."""

CACHE_SECONDS = 30.0
"""How long another process may go on using a key after its server withdrew it."""


def _no_query(notary: str, servers: list[str], seconds: float) -> bytes:
    raise NotConnected(f"there is no way to ask {notary}")


def _ask_nobody(servers: set[str]) -> None:
    """For those who are content with what is known."""


class Keyring:
    """Looks keys up. One per process; safe for any number of threads."""

    def __init__(
        self, *, fetch: Fetch, query: Query = _no_query, notaries: Sequence[str] = (), clock: Clock = now_ms
    ) -> None:
        """`fetch` asks servers, `query` asks those named `notaries` about servers that do not answer."""
        self._clock = clock
        limits = settings.LIMITS
        self._cache: TtlCache[tuple[KnownKey, ...]] = TtlCache(
            max_entries=limits.cached_key_servers, clock=lambda: clock() / 1000
        )
        self._request_slots = BoundedSemaphore(limits.key_requests_waiting)
        self._stranger_slots = BoundedSemaphore(limits.key_strangers_waiting)
        self._asker = Asker(
            fetch=fetch, notaries=Notaries(notaries, query=query, keys=self._notary_keys, clock=clock), clock=clock
        )

    def event_keys(
        self, wanted: Iterable[tuple[str, str, int]], *, seconds: float | None = None
    ) -> dict[tuple[str, str], list[VerifyKey]]:
        """The keys for events, by (server, key id), wanted as (server, key id, `origin_server_ts` in milliseconds).

        A server is asked when none of its keys of that id was valid at that time, for about `seconds` at most, or
        `key_wait_seconds`; what is under way then is waited for. Keys come with their validity, which the signature
        check applies. RuntimeError inside of a transaction.
        """
        seconds = settings.LIMITS.key_wait_seconds if seconds is None else seconds
        # No key is valid that far ahead, nor will one be after asking.
        horizon = self._clock() + MAX_KEY_VALIDITY_MS
        triples = {triple for triple in wanted if triple[2] <= horizon}
        remote = {triple for triple in triples if triple[0] != settings.SERVER_NAME}

        def lacking(known: Known) -> set[str]:
            return {
                server
                for server, key_id, ts in remote
                if not any(item.key_id == key_id and item.key.valid_at(ts) for item in known.get(server, ()))
            }

        known = self._look_up(
            {server for server, _, _ in remote},
            lacking,
            partial(self._asker.ask, seconds=seconds, patience=leases.FOR_EVENTS, with_notaries=True),
        )
        if len(remote) < len(triples):
            known[settings.SERVER_NAME] = _own_keys()
        found: dict[tuple[str, str], list[VerifyKey]] = {}
        for server, key_id in {(server, key_id) for server, key_id, _ in triples}:
            keys = [item.key for item in known.get(server, ()) if item.key_id == key_id]
            if keys:
                found[server, key_id] = keys
        return found

    def request_keys(self, server: str, key_id: str, now_ms: int, *, asking: bool = True) -> list[VerifyKey]:
        """The key for a request by `server`: listed as current by its last answer, unexpired at `now_ms`
        (milliseconds). Empty if there is none. Without `asking`, only what is known counts and the server is left
        alone. RuntimeError inside of a transaction."""
        if server == settings.SERVER_NAME:
            return [own.key for own in _own_keys() if own.current and own.key_id == key_id]
        ask = partial(self._ask_in_turn, self._request_slots, patience=leases.FOR_REQUESTS)
        return self._current_keys(server, key_id, now_ms, ask if asking else _ask_nobody)

    def refresh(self, servers: set[str], *, patience: Patience) -> None:
        """Ask servers anew, whatever is known of them, as soon as `patience` allows. RuntimeError inside of a
        transaction."""
        if servers:
            self._asker.ask(servers, seconds=settings.LIMITS.key_wait_seconds, patience=patience)
            self._load(servers)

    def refresh_for_strangers(self, servers: set[str]) -> None:
        """As `refresh`, but never in more than a few threads: others return at once or after a second."""
        if servers:
            self._ask_in_turn(self._stranger_slots, servers, patience=leases.FOR_STRANGERS)
            self._load(servers)

    def _notary_keys(self, notary: str, key_id: str) -> list[VerifyKey]:
        """The key of a notary, which it must have told us itself, and in use now."""
        ask = partial(self._asker.ask, seconds=settings.LIMITS.key_wait_seconds, patience=leases.FOR_EVENTS)
        return self._current_keys(notary, key_id, self._clock(), ask)

    def _current_keys(self, server: str, key_id: str, now_ms: int, ask: Callable[[set[str]], None]) -> list[VerifyKey]:
        def usable(known: Known) -> list[VerifyKey]:
            keys = [item.key for item in known.get(server, ()) if item.current and item.key_id == key_id]
            return [key for key in keys if key.valid_until_ts > now_ms]

        def lacking(known: Known) -> set[str]:
            return set() if usable(known) else {server}

        return usable(self._look_up({server}, lacking, ask))

    def _look_up(
        self, servers: set[str], lacking: Callable[[Known], set[str]], ask: Callable[[set[str]], None]
    ) -> dict[str, tuple[KnownKey, ...]]:
        """All known keys of `servers`, from the nearest place that leaves none of them `lacking`."""
        known = {server: keys for server in servers if (keys := self._cache.get(server))}
        if missing := lacking(known):
            known |= self._load(missing)
        if missing := lacking(known):
            ask(missing)
            known |= self._load(missing)
        return known

    def _load(self, servers: set[str]) -> dict[str, tuple[KnownKey, ...]]:
        loaded = history.load(servers)
        for server, keys in loaded.items():
            self._cache.put(server, keys, ttl=CACHE_SECONDS)
        return loaded

    def _ask_in_turn(self, slots: BoundedSemaphore, servers: set[str], *, patience: Patience) -> None:
        if slots.acquire(timeout=SLOT_SECONDS):
            try:
                self._asker.ask(servers, seconds=settings.LIMITS.key_wait_seconds, patience=patience)
            finally:
                slots.release()


def _own_keys() -> tuple[KnownKey, ...]:
    """Our own keys: the current one is valid for whatever we sign, an old one for what it signed in its time."""
    own = local.own_keys()
    old = [
        KnownKey(
            key.key_id,
            VerifyKey.from_bytes(key.public_key, valid_until_ts=key.expired_ts, expired_ts=key.expired_ts),
            current=False,
        )
        for key in own.old
    ]
    signing = VerifyKey.from_bytes(own.signing.public_key, valid_until_ts=MAX_SAFE_INTEGER)
    return KnownKey(own.signing.key_id, signing, current=True), *old


@cache
def keyring() -> Keyring:
    """The keyring of this process."""
    return Keyring(
        fetch=lambda server: fetch_server_keys(server, client=http_client()),
        query=lambda notary, servers, seconds: query_notary(notary, servers, seconds, client=http_client()),
        notaries=settings.NOTARIES,
    )


def event_keys(
    wanted: Iterable[tuple[str, str, int]], *, seconds: float | None = None
) -> dict[tuple[str, str], list[VerifyKey]]:
    """`Keyring.event_keys` of this process's keyring."""
    return keyring().event_keys(wanted, seconds=seconds)


def request_keys(server: str, key_id: str, now_ms: int, *, asking: bool = True) -> list[VerifyKey]:
    """`Keyring.request_keys` of this process's keyring."""
    return keyring().request_keys(server, key_id, now_ms, asking=asking)


def stored_keys(servers: Iterable[str]) -> KnownKeys:
    """All keys of these servers that are stored, and our own: for looking at what was signed. Nobody is asked."""
    wanted = set(servers)
    known: Known = history.load(wanted - {settings.SERVER_NAME})
    if settings.SERVER_NAME in wanted:
        known = {**known, settings.SERVER_NAME: _own_keys()}
    found: dict[tuple[str, str], list[VerifyKey]] = {}
    for server, keys in known.items():
        for item in keys:
            found.setdefault((server, item.key_id), []).append(item.key)
    return found


def keys_for(events: Iterable[CheckedEvent]) -> KnownKeys:
    """The keys that the checks of these events need, fetched where we do not have them."""
    return event_keys(
        (server, key_id, event["origin_server_ts"]) for event in events for server, key_id in keys_needed(event)
    )
