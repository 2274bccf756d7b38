"""Who may ask a server for its keys, and when: one request at a time, whichever process needs it.

A lease is taken in a transaction that has ended before the request begins. One that is never given back, because its
process died, runs out by itself. After each request a server is left alone for a while, the longer the more often it
has failed; without that, anybody could have us flood a server by naming it (threat T26).
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from django.conf import settings
from django.db import transaction
from django.db.models import F

from keys.clock import at
from keys.models import KeyFetch
from linmatrix import pruning

STORING_MS = 5_000
"""What a lease is longer than the requests that it is for: time to store their answers."""

HOUR_MS = 3600 * 1000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is left alone, in milliseconds: after a usable answer, after the first failure, which is
    doubled with each further one, and at most."""

    after_answer_ms: int
    after_failure_ms: int
    at_most_ms: int

    def pause(self, failures: int) -> timedelta:
        """After this many failures in a row."""
        if not failures:
            return timedelta(milliseconds=self.after_answer_ms)
        doublings = min(failures - 1, 20)  # far above any maximum; bounds the power
        return timedelta(milliseconds=min(self.after_failure_ms * 2**doublings, self.at_most_ms))


FOR_EVENTS = Patience(after_answer_ms=10_000, after_failure_ms=5_000, at_most_ms=HOUR_MS)
"""A key that a server took into use since its last answer is unknown to us for ten seconds. Servers restart, so after
a failure the pause begins short."""

FOR_REQUESTS = Patience(after_answer_ms=10_000, after_failure_ms=5_000, at_most_ms=60_000)
"""Who sends us requests is probably up: a peer that was away is recognised again within a minute."""

FOR_STRANGERS = Patience(after_answer_ms=60_000, after_failure_ms=HOUR_MS, at_most_ms=HOUR_MS)
"""For notary queries, which anybody may make about any name: a name that does not answer is left alone for an hour
(decision 105)."""

FOR_OPERATOR = Patience(after_answer_ms=0, after_failure_ms=0, at_most_ms=0)
"""An operator who asks again has a reason to."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to ask `server` for its keys, until another may take it at `until_ms` (milliseconds)."""

    server: str
    until_ms: int


class Refusal(Enum):
    """Why a lease was not to be had."""

    BUSY = "another is asking the server right now"
    NOT_DUE = "the server was asked not long ago"


def lease_ms() -> int:
    """Longer than a request can take, in milliseconds."""
    return int(settings.LIMITS.key_fetch_seconds * 1000) + STORING_MS


def notaries_lease_ms() -> int:
    """Longer than it can take until notaries have answered, in milliseconds: they are asked when all servers of a
    caller have had their turn, for their own keys too, and then for the others'."""
    limits = settings.LIMITS
    turns = limits.key_wait_seconds + limits.key_fetch_seconds
    own_keys = limits.key_fetch_seconds
    return int((turns + own_keys + limits.notary_queries_seconds) * 1000) + STORING_MS


def take(server: str, *, now_ms: int, patience: Patience = FOR_EVENTS) -> Lease | Refusal:
    """The lease of `server`, if nobody has it and the server may be asked again at `now_ms` (milliseconds).

    Raises RuntimeError inside of a transaction, where the lease would stay unseen and the network would be waited
    for with locks held.
    """
    known = KeyFetch.objects.filter(server=server).first()
    if known and (refusal := _refusal(known, now_ms, patience)):
        return refusal  # without locking anything: it is what most callers find when a server is down
    with transaction.atomic(durable=True):
        row, _ = KeyFetch.objects.select_for_update().get_or_create(server=server)
        if refusal := _refusal(row, now_ms, patience):
            return refusal
        lease = Lease(server, now_ms + lease_ms())
        row.asked_at, row.lease_until = at(now_ms), at(lease.until_ms)
        row.save(update_fields=["asked_at", "lease_until"])
        return lease


def finish(lease: Lease, *, now_ms: int, error: str = "") -> bool:
    """Give the lease back; `error` says in a line why there was no usable answer, if there was none.

    False if it ran out and another took it: then that one's answer is the later, and ours must not be stored. After
    True, the row stays locked to the end of the caller's transaction, and other answers of the server wait for it.
    """
    return _update(lease, asked_at=at(now_ms), lease_until=None, **_outcome(error))


def hold_on(lease: Lease, *, now_ms: int, error: str) -> Lease | None:
    """Record that the server did not answer, but keep the lease while notaries are asked instead, so that others who
    need the keys wait. None if it ran out and another took it."""
    longer = Lease(lease.server, now_ms + notaries_lease_ms())
    held_on = _update(lease, asked_at=at(now_ms), lease_until=at(longer.until_ms), **_outcome(error))
    return longer if held_on else None


def release(lease: Lease) -> bool:
    """Give back a lease that was held on to. Otherwise as `finish`."""
    return _update(lease, lease_until=None)


def due(servers: set[str], *, now_ms: int, patience: Patience) -> set[str]:
    """Those of these servers for which `take` would not answer that they were asked not long ago."""
    rows = KeyFetch.objects.filter(server__in=servers)
    return servers - {row.server for row in rows if _refusal(row, now_ms, patience) is Refusal.NOT_DUE}


def held(servers: set[str], *, now_ms: int) -> bool:
    """Whether any of these servers is being asked right now."""
    return KeyFetch.objects.filter(server__in=servers, lease_until__gt=at(now_ms)).exists()


def prune(*, now_ms: int) -> int:
    """Forget servers that were asked long ago, so that names which anybody makes up do not pile up.

    Returns how many. RuntimeError inside of a transaction.
    """
    kept_ms = settings.LIMITS.key_fetch_hours * HOUR_MS
    return pruning.prune(KeyFetch.objects.filter(asked_at__lt=at(now_ms - kept_ms)), oldest_first="asked_at")


def _outcome(error: str) -> dict[str, object]:
    return {"failures": F("failures") + 1 if error else 0, "last_error": error}


def _update(lease: Lease, **columns: object) -> bool:
    mine = KeyFetch.objects.filter(server=lease.server, lease_until=at(lease.until_ms))
    return mine.update(**columns) == 1


def _refusal(row: KeyFetch, now_ms: int, patience: Patience) -> Refusal | None:
    now = at(now_ms)
    if row.lease_until:
        # One that ran out was never given back: who held it is gone, and how the server is nobody knows.
        return Refusal.BUSY if row.lease_until > now else None
    if row.asked_at and row.asked_at + patience.pause(row.failures) > now:
        return Refusal.NOT_DUE
    return None
