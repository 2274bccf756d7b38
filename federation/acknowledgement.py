"""The end of one attempt to send a transaction, in one database transaction each: acknowledged, or failed.

Both count only for the worker that holds the destination's lease.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from federation import backoff
from federation.client import one_line
from federation.models import Destination, OutboundLpdu, OutboundTransaction

logger = logging.getLogger(__name__)

MAX_LOGGED_REFUSALS = 50
"""A transaction has no more events; what an answer lists beyond that is made up."""

# Stays before the destination: the lock order of `federation.outbound`. A cursor never goes back.
_ADVANCE = """
    UPDATE rooms_roomserver stay SET sent_position = GREATEST(stay.sent_position, new.position)
    FROM unnest(%s::bigint[], %s::bigint[]) AS new (stay_id, position) WHERE stay.id = new.stay_id
"""


def acknowledge(row: OutboundTransaction, content: Mapping[str, Any], *, holder: str, now: datetime) -> bool:
    """Note that the destination has a transaction: cursors move on, LPDUs leave the queue.

    `content` is the answer, whose `failed_pdus` says which LPDUs the hub refused (draft, `PUT send`; decision
    78). False, and nothing is changed, when the lease is not `holder`'s any more.
    """
    with transaction.atomic(durable=True):
        if row.cursors:
            with connection.cursor() as cursor:
                cursor.execute(_ADVANCE, [list(column) for column in zip(*row.cursors, strict=True)])
        held = Destination.objects.filter(server=row.destination_id, lease_holder=holder).update(
            next_attempt=None, failures=0, failing_since=None, last_error="", last_success_at=now
        )
        if not held:
            transaction.set_rollback(True)
            return False
        OutboundTransaction.objects.filter(pk=row.pk).update(acked_at=now, last_error="")
        _settle(row, _refusals(content))
    return True


def _settle(row: OutboundTransaction, refusals: Mapping[str, str]) -> None:
    """Give each LPDU of a transaction its end: sent, or refused with the hub's reason."""
    lpdus = OutboundLpdu.objects.filter(pk__in=row.lpdus)
    for lpdu in lpdus.filter(lpdu_id__in=refusals):
        lpdu.status, lpdu.reason = OutboundLpdu.Status.REFUSED, refusals[lpdu.lpdu_id]
        lpdu.save(update_fields=["status", "reason"])
    lpdus.filter(status=OutboundLpdu.Status.QUEUED).update(status=OutboundLpdu.Status.SENT)
    for event_id, reason in refusals.items():
        logger.warning("%s refused %s in transaction %s: %s", row.destination_id, event_id, row.txn_id, reason)


def _refusals(content: Mapping[str, Any]) -> dict[str, str]:
    """The reasons by event id in an answer's `failed_pdus`, of which nothing is taken for granted."""
    failed = content.get("failed_pdus")
    if not isinstance(failed, dict):
        return {}
    refusals = {}
    for event_id, details in list(failed.items())[:MAX_LOGGED_REFUSALS]:
        error = details.get("error") if isinstance(details, dict) else None
        refusals[one_line(event_id)] = one_line(error) if isinstance(error, str) else "no reason given"
    return refusals


def record_failure(
    row: OutboundTransaction, *, reason: str, at_least: float, holder: str, now: datetime, chance: float
) -> None:
    """Note that an attempt failed and when the next may come: after back-off, `at_least` the seconds a rate-limiting
    peer asks for (at most the longest back-off). The lease is given back. Does nothing without the lease."""
    with transaction.atomic(durable=True):
        held = Destination.objects.select_for_update(no_key=True).filter(server=row.destination_id, lease_holder=holder)
        destination = held.first()
        if destination is None:
            return
        destination.failures += 1
        wait = max(backoff.seconds_to_wait(destination.failures, chance=chance), min(at_least, backoff.MAX_SECONDS))
        destination.next_attempt = now + timedelta(seconds=wait)
        destination.failing_since = destination.failing_since or now
        destination.last_error = one_line(reason)
        destination.lease_until, destination.lease_holder = None, ""
        destination.save(
            update_fields=["failures", "next_attempt", "failing_since", "last_error", "lease_until", "lease_holder"]
        )
        OutboundTransaction.objects.filter(pk=row.pk).update(last_error=destination.last_error)
    logger.warning(
        "%s did not take transaction %s (attempt %d, next in %.0f s): %s",
        row.destination_id,
        row.txn_id,
        row.attempts,
        wait,
        destination.last_error,
    )
