"""What is deleted once nothing needs it any more, every hour (beat schedule in the settings).

How long each kind is kept is a limit of the operator's (`linmatrix.limits`). Nothing goes that delivery or idempotency
still stand on: not a transaction that is still to be sent, nor one of a lineage of which another is; not an answer that
a peer may still ask for by repeating its request; not a row whose lease is running. Events, state and findings stay:
they are the rooms.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef, Q, QuerySet

from federation.edus.inbox import prune_messages
from federation.models import InboundTransaction, OutboundLpdu, OutboundTransaction
from federation.models.outbound import OPEN
from keys import history, leases
from keys.devices.housekeeping import prune_devices, prune_keys, prune_remote_devices
from linmatrix.pruning import prune
from rooms.audience import servers_in_rooms
from rooms.models import PendingJoin

logger = logging.getLogger(__name__)

_OPEN_RELATIVE = OutboundTransaction.objects.filter(OPEN, lineage=OuterRef("lineage"))
_ENDED = Q(lineage="") | ~Exists(_OPEN_RELATIVE)
"""Transactions none of whose parts is still to be sent: until then, what became of the others decides about it
(`isolation.takes_single_events_only`)."""


def keep_house(*, now: datetime) -> dict[str, int]:
    """Delete what has had its time at `now`; how many rows of each kind.

    A kind that fails does not keep the others.
    """
    done: dict[str, int] = {}
    for name, chore in CHORES.items():
        try:
            done[name] = chore(now)
        except Exception:
            logger.exception("%s could not be deleted", name)
    if any(done.values()):
        logger.info("deleted %s", ", ".join(f"{number} {name}" for name, number in done.items() if number))
    return done


def _inbound_transactions(now: datetime) -> int:
    """Answers that no peer comes back for, and requests whose process died, which nobody repeated."""
    kept = now - timedelta(hours=settings.LIMITS.inbound_transaction_hours)
    done = Q(status__isnull=False) | Q(lease_until__lt=now)
    return prune(InboundTransaction.objects.filter(done, received_at__lt=kept), oldest_first="received_at")


def _acknowledged_transactions(now: datetime) -> int:
    """Transactions that their receivers have, with the LPDUs in them: their senders have been told."""
    kept = now - timedelta(hours=settings.LIMITS.outbound_transaction_hours)
    settled = [OutboundLpdu.Status.SENT, OutboundLpdu.Status.REFUSED]
    return _with_lpdus(OutboundTransaction.objects.filter(_ENDED, acked_at__lt=kept), "acked_at", settled)


def _split_transactions(now: datetime) -> int:
    """Transactions whose parts have been sent in their place; the LPDUs are the parts'."""
    kept = now - timedelta(hours=settings.LIMITS.outbound_transaction_hours)
    return prune(OutboundTransaction.objects.filter(_ENDED, split_at__lt=kept), oldest_first="split_at")


def _set_aside_transactions(now: datetime) -> int:
    """Events that were not delivered and that no operator has had sent again."""
    kept = now - timedelta(days=settings.LIMITS.set_aside_days)
    rows = OutboundTransaction.objects.filter(_ENDED, set_aside_at__lt=kept)
    return _with_lpdus(rows, "set_aside_at", [OutboundLpdu.Status.SET_ASIDE])


def _with_lpdus(rows: "QuerySet[OutboundTransaction]", oldest_first: str, statuses: list[OutboundLpdu.Status]) -> int:
    """Delete transactions and those of their LPDUs that have one of these ends."""

    def lpdus(batch: list[int]) -> None:
        contained = OutboundTransaction.objects.filter(pk__in=batch).values_list("lpdus", flat=True)
        ids = [pk for pks in contained for pk in pks]
        OutboundLpdu.objects.filter(pk__in=ids, status__in=statuses).delete()

    return prune(rows, oldest_first=oldest_first, along=lpdus)


def _abandoned_joins(now: datetime) -> int:
    """Joins whose process died: their leases have run out, so that nothing waits for them any more."""
    return prune(PendingJoin.objects.filter(lease_until__lt=now), oldest_first="lease_until")


def _key_fetches(now: datetime) -> int:
    return leases.prune(now_ms=_milliseconds(now))


def _unrelated_keys(now: datetime) -> int:
    return history.prune(now_ms=_milliseconds(now), needed=servers_in_rooms)


def _sessions(now: datetime) -> int:
    """Logins at the console that have run out."""
    return prune(Session.objects.filter(expire_date__lt=now), oldest_first="expire_date")


def _milliseconds(now: datetime) -> int:
    return int(now.timestamp() * 1000)


CHORES: dict[str, Callable[[datetime], int]] = {
    "inbound transactions": _inbound_transactions,
    "acknowledged transactions": _acknowledged_transactions,
    "split transactions": _split_transactions,
    "transactions set aside": _set_aside_transactions,
    "abandoned joins": _abandoned_joins,
    "key fetches": _key_fetches,
    "keys of servers in no room": _unrelated_keys,
    "to-device messages": prune_messages,
    "one-time keys": prune_keys,
    "removed devices": prune_devices,
    "devices of others": prune_remote_devices,
    "sessions": _sessions,
}
"""By what is deleted."""
