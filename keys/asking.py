"""Asking servers for their keys: many at once, each by one process at a time, and what they answer stored.

A server is asked itself (decision 101). Where that fails, and the caller can use what notaries say, they are asked
before others who wait for the same server go on.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from django.conf import settings
from django.db import transaction

from keys import history, leases
from keys.clock import Clock
from keys.fetchers import ServerKeys, parse_server_keys
from keys.leases import Lease, Patience
from keys.notaries import Notaries
from linmatrix.metrics.instruments import key_fetches
from linmatrix.protocol.errors import Malformed, ProtocolError
from linmatrix.transport.errors import TransportError

logger = logging.getLogger(__name__)

Fetch = Callable[[str], bytes]
"""Asks a server for its keys and returns the body of its answer, or raises `TransportError`. Called in a thread of
its own, without a database."""

POLL_SECONDS = 0.05
"""Between two looks at whether another process has the answer; requests over the network take about as long."""


class Asker:
    """Asks for keys and stores them. Safe for any number of threads."""

    def __init__(self, *, fetch: Fetch, notaries: Notaries, clock: Clock) -> None:
        self._fetch = fetch
        self._notaries = notaries
        self._clock = clock

    def ask(self, servers: set[str], *, seconds: float, patience: Patience, with_notaries: bool = False) -> None:
        """Ask those of `servers` that may be asked now, and wait for those that others are asking.

        None is begun with after `seconds`. What is under way then is still waited for: for a request to a server as
        long as it may take, then for notaries where they are asked. The database is only used in the calling thread.
        RuntimeError inside of a transaction.
        """
        deadline = time.monotonic() + seconds
        asked_by_others, silent = self._ask_directly(servers, deadline, patience, with_notaries)
        if silent:
            self._ask_notaries(silent)
        while time.monotonic() < deadline and leases.held(asked_by_others, now_ms=self._clock()):
            time.sleep(POLL_SECONDS)

    def _ask_directly(
        self, servers: set[str], deadline: float, patience: Patience, with_notaries: bool
    ) -> tuple[set[str], list[Lease]]:
        """Ask the servers themselves. Returns those that others are asking, and the leases of those to ask notaries
        about."""
        queue, asked_by_others = deque(sorted(servers)), set()
        running: dict[Future[bytes], Lease] = {}
        silent: list[Lease] = []
        at_once = settings.LIMITS.keys_asked_at_once
        with ThreadPoolExecutor(max_workers=min(len(servers), at_once) or 1) as pool:
            while queue or running:
                while queue and len(running) < at_once:
                    server = queue.popleft()
                    lease = leases.take(server, now_ms=self._clock(), patience=patience)
                    if isinstance(lease, Lease):
                        running[pool.submit(self._fetch, server)] = lease
                    elif lease is leases.Refusal.BUSY:
                        asked_by_others.add(server)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    if still_held := self._record(running.pop(future), future, with_notaries):
                        silent.append(still_held)
                if time.monotonic() > deadline:
                    queue.clear()
        return asked_by_others, silent

    def _record(self, lease: Lease, outcome: Future[bytes], with_notaries: bool) -> Lease | None:
        """Store what a server answered, or that it did not; either way it may be asked again after a while.

        Returns the lease if notaries are to be asked about the server.
        """
        now = self._clock()
        try:
            answer = parse_server_keys(outcome.result(), server=lease.server, now_ms=now)
            with transaction.atomic():
                if leases.finish(lease, now_ms=now):
                    history.store(answer, now_ms=now)
            key_fetches.labels("answered").inc()
        except (ProtocolError, TransportError) as error:
            key_fetches.labels("failed").inc()
            logger.info("no keys from %s: %s", lease.server, error.reason)
            if with_notaries and self._notaries:
                return leases.hold_on(lease, now_ms=now, error=error.reason)
            leases.finish(lease, now_ms=now, error=error.reason)
        return None

    def _ask_notaries(self, silent: list[Lease]) -> None:
        """Ask notaries about servers that did not answer, whose leases are given back in the end."""
        found: dict[str, list[ServerKeys]] = {}
        try:
            for answer in self._notaries.ask([lease.server for lease in silent]):
                found.setdefault(answer.server, []).append(answer)
        finally:
            for lease in silent:
                self._store_from_notaries(lease, found.get(lease.server, []))

    def _store_from_notaries(self, lease: Lease, answers: list[ServerKeys]) -> None:
        now = self._clock()
        with transaction.atomic():
            if not leases.release(lease):
                return
            for answer in answers:
                try:
                    history.store(answer, now_ms=now)
                except Malformed as error:
                    logger.warning("keys of %s from %s are not kept: %s", lease.server, answer.notary, error.reason)
