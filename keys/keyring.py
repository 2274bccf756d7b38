"""The keys that signatures are checked with: those we know, and those we ask their server for.

Everything here is about asking seldom. What is known and still valid is taken from this process's memory, or from the
database. Only then is the server itself asked, once for all threads and processes that wait for it (`keys.leases`),
and not again for a while, whatever came of it. A key that cannot be had is missing from the answer, and the signature
check fails: nothing here raises because of what another server does.

Events may be signed by any key that was valid when they were made; requests only by one that is in use now
(decisions 27 and 68). The two have one function each, so that one cannot pass for the other.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from threading import BoundedSemaphore

from django.conf import settings
from django.db import transaction

from keys import history, leases, local
from keys.clock import Clock, now_ms
from keys.fetchers import fetch_server_keys, parse_server_keys
from keys.history import Known, KnownKey
from keys.http import http_client
from linmatrix.protocol.canonical_json import MAX_SAFE_INTEGER
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.events import CheckedEvent
from linmatrix.protocol.receipt import keys_needed
from linmatrix.protocol.signing import MAX_KEY_VALIDITY_MS, KnownKeys, VerifyKey
from linmatrix.transport.cache import TtlCache
from linmatrix.transport.errors import TransportError

logger = logging.getLogger(__name__)

Fetch = Callable[[str], bytes]
"""Asks a server for its keys and returns the body of its answer, or raises `TransportError`. Called in a thread of
its own, without a database."""

WAIT_SECONDS = 10.0
"""How long callers go on asking. What is under way then is still waited for, at most as long again."""

POLL_SECONDS = 0.05
"""Between two looks at whether another process has the answer; requests over the network take about as long."""

MAX_PARALLEL = 16
"""Servers asked at once for one caller: one that does not answer must not hold up those after it."""

MAX_REQUESTS_WAITING = 4
SLOT_SECONDS = 1.0
"""Requests whose origin must be asked for its keys may hold up this many threads of a process, others wait a second
at most for their turn. Anybody can name origins that never answer; known peers are served meanwhile."""

MAX_REQUEST_BACKOFF_MS = 60_000
"""Who sends us requests is probably up: a peer that was away is recognised again within a minute."""

CACHE_SECONDS = 30.0
"""How long another process may go on using a key after its server withdrew it."""

MAX_CACHED_SERVERS = 4096


class Keyring:
    """Looks keys up. One per process; safe for any number of threads."""

    def __init__(self, *, fetch: Fetch, clock: Clock = now_ms) -> None:
        self._fetch = fetch
        self._clock = clock
        self._cache: TtlCache[tuple[KnownKey, ...]] = TtlCache(
            max_entries=MAX_CACHED_SERVERS, clock=lambda: clock() / 1000
        )
        self._slots = BoundedSemaphore(MAX_REQUESTS_WAITING)

    def event_keys(
        self, wanted: Iterable[tuple[str, str, int]], *, seconds: float = WAIT_SECONDS
    ) -> dict[tuple[str, str], list[VerifyKey]]:
        """The keys for events, by (server, key id), wanted as (server, key id, `origin_server_ts` in milliseconds).

        A server is asked when none of its keys of that id was valid at that time, for at most about `seconds`. Keys
        come with their validity, which the signature check applies. RuntimeError inside of a transaction.
        """
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
            {server for server, _, _ in remote}, lacking, lambda servers: self._ask(servers, seconds=seconds)
        )
        if len(remote) < len(triples):
            known[settings.SERVER_NAME] = (_own_key(),)
        found: dict[tuple[str, str], list[VerifyKey]] = {}
        for server, key_id in {(server, key_id) for server, key_id, _ in triples}:
            keys = [item.key for item in known.get(server, ()) if item.key_id == key_id]
            if keys:
                found[server, key_id] = keys
        return found

    def request_keys(self, server: str, key_id: str, now_ms: int) -> list[VerifyKey]:
        """The key for a request by `server`: listed as current by its last answer, unexpired at `now_ms`
        (milliseconds). Empty if there is none. RuntimeError inside of a transaction."""
        if server == settings.SERVER_NAME:
            own = _own_key()
            return [own.key] if own.key_id == key_id else []

        def usable(known: Known) -> list[VerifyKey]:
            keys = [item.key for item in known.get(server, ()) if item.current and item.key_id == key_id]
            return [key for key in keys if key.valid_until_ts > now_ms]

        def lacking(known: Known) -> set[str]:
            return set() if usable(known) else {server}

        return usable(self._look_up({server}, lacking, self._ask_for_request))

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

    def _ask_for_request(self, servers: set[str]) -> None:
        if self._slots.acquire(timeout=SLOT_SECONDS):
            try:
                self._ask(servers, seconds=WAIT_SECONDS, max_backoff_ms=MAX_REQUEST_BACKOFF_MS)
            finally:
                self._slots.release()

    def _ask(self, servers: set[str], *, seconds: float, max_backoff_ms: int = leases.MAX_BACKOFF_MS) -> None:
        """Ask those of `servers` that may be asked now, and wait for those that others are asking.

        The database is only used in the calling thread, the network only in others.
        """
        deadline = time.monotonic() + seconds
        queue, asked_by_others = deque(sorted(servers)), set()
        running: dict[Future[bytes], leases.Lease] = {}
        with ThreadPoolExecutor(max_workers=min(len(servers), MAX_PARALLEL)) as pool:
            while queue or running:
                while queue and len(running) < MAX_PARALLEL:
                    server = queue.popleft()
                    lease = leases.take(server, now_ms=self._clock(), max_backoff_ms=max_backoff_ms)
                    if isinstance(lease, leases.Lease):
                        running[pool.submit(self._fetch, server)] = lease
                    elif lease is leases.Refusal.BUSY:
                        asked_by_others.add(server)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._record(running.pop(future), future)
                if time.monotonic() > deadline:
                    queue.clear()
        while time.monotonic() < deadline and leases.held(asked_by_others, now_ms=self._clock()):
            time.sleep(POLL_SECONDS)

    def _record(self, lease: leases.Lease, outcome: Future[bytes]) -> None:
        """Store what a server answered, or that it did not; either way it may be asked again after a while."""
        now = self._clock()
        try:
            answer = parse_server_keys(outcome.result(), server=lease.server, now_ms=now)
            with transaction.atomic():
                if leases.finish(lease, now_ms=now):
                    history.store(answer, now_ms=now)
        except (ProtocolError, TransportError) as error:
            leases.finish(lease, now_ms=now, error=error.reason)
            logger.info("no keys from %s: %s", lease.server, error.reason)


def _own_key() -> KnownKey:
    """Our own key, which is valid for whatever we signed."""
    key = local.signing_key()
    return KnownKey(key.key_id, VerifyKey.from_bytes(key.public_key, valid_until_ts=MAX_SAFE_INTEGER), current=True)


@cache
def keyring() -> Keyring:
    """The keyring of this process."""
    return Keyring(fetch=lambda server: fetch_server_keys(server, client=http_client()))


def event_keys(
    wanted: Iterable[tuple[str, str, int]], *, seconds: float = WAIT_SECONDS
) -> dict[tuple[str, str], list[VerifyKey]]:
    """`Keyring.event_keys` of this process's keyring."""
    return keyring().event_keys(wanted, seconds=seconds)


def request_keys(server: str, key_id: str, now_ms: int) -> list[VerifyKey]:
    """`Keyring.request_keys` of this process's keyring."""
    return keyring().request_keys(server, key_id, now_ms)


def keys_for(events: Iterable[CheckedEvent]) -> KnownKeys:
    """The keys that the checks of these events need, fetched where we do not have them."""
    return event_keys(
        (server, key_id, event["origin_server_ts"]) for event in events for server, key_id in keys_needed(event)
    )
