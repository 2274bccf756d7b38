"""Short leases that a thread of the process renews for as long as the work goes on.

What one process has claimed holds others up. So a claim whose process has died, or lost the database before it could
give the claim back, must end soon; one whose process is at work must not, for a minute or more. Its lease is therefore
short, and a thread of the process renews those that are held for longer. Most are given back long before that and
never hear of it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import Error, connection
from django.utils import timezone

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
"""How long a claim holds without being renewed: some tries of a peer that comes again after 1, 2, 4 and 8 s. Clocks of
machines that share a database may differ by half of it."""

LONGEST_LEASE = 2 * LEASE
"""A lease that ends later was taken by a clock that was wrong."""

RENEW_SECONDS = 5.0
"""How old a claim is when it is renewed first, and how often: three in a row may fail."""

Extend = Callable[[Sequence[int], datetime], object]
"""Gives the rows of these ids a lease until then."""


class Claims:
    """Rows that threads of this process hold, by their ids. `longest` is for how many seconds one may be held; `clock`
    gives seconds."""

    def __init__(self, extend: Extend, *, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._extend = extend
        self._longest = longest
        self._clock = clock
        self.held: dict[int, float] = {}
        """Ids of rows, and since when they are held."""
        self._lock = threading.Lock()
        self._renewing = False

    @contextmanager
    def hold(self, row_id: int) -> Iterator[None]:
        """Have the claim renewed until the block ends."""
        self.held[row_id] = self._clock()
        if not self._renewing:
            self._start()
        try:
            yield
        finally:
            self.held.pop(row_id, None)  # a second holder of the same row may have ended first

    def renew(self, *, now: datetime) -> None:
        """Give every claim that has been held for a while another lease from `now` on."""
        held = self._clock()
        due = [row_id for row_id, since in list(self.held.items()) if RENEW_SECONDS <= held - since < self._longest]
        if due:
            self._extend(due, now + LEASE)

    def _start(self) -> None:
        """Begin to renew, once in the life of a process."""
        with self._lock:
            if not self._renewing:
                self._renewing = True
                threading.Thread(target=self._keep_renewing, name="claims", daemon=True).start()

    def _keep_renewing(self) -> None:
        while True:
            time.sleep(RENEW_SECONDS)
            if not self.held:
                continue
            try:
                self.renew(now=timezone.now())
            except Error as error:
                logger.warning("cannot renew claims: %s", error)
            finally:
                connection.close()  # to the pool
