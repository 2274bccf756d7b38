"""Who may ask a server for its keys, and when: one request at a time, whichever process needs it.

A lease is taken in a transaction that has ended before the request begins. One that is never given back, because its
process died, runs out by itself. After each request a server is left alone for a while, the longer the more often it
has failed; without that, anybody could have us flood a server by naming it (threat T26).
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from django.db import transaction
from django.db.models import F

from keys.clock import at
from keys.models import KeyFetch

LEASE_MS = 15_000
"""Longer than a request can take (`fetchers.FETCH_SECONDS`), with time to store its answer."""

PAUSE_MS = 10_000
"""After a usable answer. A key that a server took into use since then is unknown to us for as long."""

FIRST_BACKOFF_MS = 5_000
"""After the first failure, doubled with each further one. Servers restart, so it begins short."""

MAX_BACKOFF_MS = 3600 * 1000
"""The longest pause, whatever the number of failures."""

KEPT_MS = 24 * 3600 * 1000
"""How long it is remembered that a server was asked: longer than any pause."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to ask `server` for its keys, until another may take it at `until_ms` (milliseconds)."""

    server: str
    until_ms: int


class Refusal(Enum):
    """Why a lease was not to be had."""

    BUSY = "another is asking the server right now"
    NOT_DUE = "the server was asked not long ago"


def take(server: str, *, now_ms: int, max_backoff_ms: int = MAX_BACKOFF_MS) -> Lease | Refusal:
    """The lease of `server`, if nobody has it and the server may be asked again at `now_ms` (milliseconds).

    Raises RuntimeError inside of a transaction, where the lease would stay unseen and the network would be waited
    for with locks held.
    """
    known = KeyFetch.objects.filter(server=server).first()
    if known and (refusal := _refusal(known, now_ms, max_backoff_ms)):
        return refusal  # without locking anything: it is what most callers find when a server is down
    with transaction.atomic(durable=True):
        row, _ = KeyFetch.objects.select_for_update().get_or_create(server=server)
        if refusal := _refusal(row, now_ms, max_backoff_ms):
            return refusal
        lease = Lease(server, now_ms + LEASE_MS)
        row.asked_at, row.lease_until = at(now_ms), at(lease.until_ms)
        row.save(update_fields=["asked_at", "lease_until"])
        return lease


def finish(lease: Lease, *, now_ms: int, error: str = "") -> bool:
    """Give the lease back; `error` says in a line why there was no usable answer, if there was none.

    False if it ran out and another took it: then that one's answer is the later, and ours must not be stored. After
    True, the row stays locked to the end of the caller's transaction, and other answers of the server wait for it.
    """
    mine = KeyFetch.objects.filter(server=lease.server, lease_until=at(lease.until_ms))
    failures = F("failures") + 1 if error else 0
    return mine.update(asked_at=at(now_ms), lease_until=None, failures=failures, last_error=error) == 1


def held(servers: set[str], *, now_ms: int) -> bool:
    """Whether any of these servers is being asked right now."""
    return KeyFetch.objects.filter(server__in=servers, lease_until__gt=at(now_ms)).exists()


def prune(*, now_ms: int) -> int:
    """Forget servers that were asked over a day ago, so that names which anybody makes up do not pile up.

    Returns how many.
    """
    deleted, _ = KeyFetch.objects.filter(asked_at__lt=at(now_ms - KEPT_MS)).delete()
    return deleted


def _refusal(row: KeyFetch, now_ms: int, max_backoff_ms: int) -> Refusal | None:
    now = at(now_ms)
    if row.lease_until:
        # One that ran out was never given back: who held it is gone, and how the server is nobody knows.
        return Refusal.BUSY if row.lease_until > now else None
    if row.asked_at and row.asked_at + _pause(row.failures, max_backoff_ms) > now:
        return Refusal.NOT_DUE
    return None


def _pause(failures: int, max_backoff_ms: int) -> timedelta:
    """How long a server is left alone after this many failures in a row."""
    if not failures:
        return timedelta(milliseconds=PAUSE_MS)
    doublings = min(failures - 1, 20)  # far above any maximum; bounds the power
    return timedelta(milliseconds=min(FIRST_BACKOFF_MS * 2**doublings, max_backoff_ms))
