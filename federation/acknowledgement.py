"""The end of one attempt to send a transaction, in one database transaction each: acknowledged, or failed.

Both count only for the worker that holds the destination's lease.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from federation import backoff
from federation.client import one_line
from federation.edus.outgoing import settle
from federation.isolation import (
    Fault,
    Verdict,
    advance,
    is_sent_again,
    judge,
    set_aside,
    split,
    takes_single_events_only,
)
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from linmatrix import prepared

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt: why, what it says about the transaction, and the seconds that a rate-limiting peer asks us
    to wait (the longest back-off is the most that it gets)."""

    reason: str
    fault: Fault = Fault.NONE
    at_least: float = 0.0


MAX_LOGGED_REFUSALS = 50
"""A transaction has no more events; what an answer lists beyond that is made up."""


_SUCCESS = """
    UPDATE federation_destination
    SET next_attempt = NULL, failures = 0, failing_since = NULL, last_error = '', last_success_at = %s
    WHERE server = %s AND lease_holder = %s RETURNING server
"""
_ACKNOWLEDGED = "UPDATE federation_outboundtransaction SET acked_at = %s, last_error = '' WHERE id = %s"
_SENT = """
    UPDATE federation_outboundlpdu SET status = 'sent', reason = ''
    WHERE id = ANY(%s) AND status IN ('queued', 'set-aside')
"""


def acknowledge(row: OutboundTransaction, content: Mapping[str, Any], *, holder: str, now: datetime) -> bool:
    """Note that the destination has a transaction: cursors move on, LPDUs and EDUs leave the queue.

    `content` is the answer, whose `failed_pdus` says which LPDUs the hub refused (draft, `PUT send`; decision
    78). False, and nothing is changed, when the lease is not `holder`'s any more.
    """
    with transaction.atomic(durable=True):
        advance(row)  # stays before the destination: the lock order of `federation.outbound`
        if not prepared.execute(_SUCCESS, [now, row.destination_id, holder]):
            transaction.set_rollback(True)
            return False
        prepared.execute(_ACKNOWLEDGED, [now, row.pk])
        _settle(row, _refusals(content))
        settle(row.edus, late=is_sent_again(row))
        if takes_single_events_only(row):
            Destination.objects.filter(server=row.destination_id).update(single_events=True)
            logger.warning("%s takes one event at a time; transactions for it hold no more", row.destination_id)
    return True


def _settle(row: OutboundTransaction, refusals: Mapping[str, str]) -> None:
    """Give each LPDU of a transaction its end: sent, or refused with the hub's reason."""
    for lpdu in OutboundLpdu.objects.filter(pk__in=row.lpdus, lpdu_id__in=refusals):
        lpdu.status, lpdu.reason = OutboundLpdu.Status.REFUSED, refusals[lpdu.lpdu_id]
        lpdu.save(update_fields=["status", "reason"])
    if row.lpdus:
        prepared.execute(_SENT, [row.lpdus])
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
    row: OutboundTransaction, failure: Failure, *, holder: str, now: datetime, chance: float
) -> Verdict | None:
    """Note that an attempt failed, and do what follows; None, and nothing is changed, without the lease.

    When the transaction is to be sent again, that is after back-off, and the lease is given back. When it was split
    or set aside, the next may be sent at once, and the lease stays.
    """
    reason = one_line(failure.reason)
    with transaction.atomic(durable=True):
        verdict = judge(row, failure.fault, now=now)
        if verdict is Verdict.SET_ASIDE:
            advance(row)
        held = Destination.objects.select_for_update(no_key=True).filter(server=row.destination_id, lease_holder=holder)
        destination = held.first()
        if destination is None:
            transaction.set_rollback(True)
            return None
        destination.failing_since = destination.failing_since or now
        destination.last_error = reason
        if verdict is Verdict.SEND_AGAIN:
            _back_off(destination, at_least=failure.at_least, now=now, chance=chance)
        else:
            destination.failures, destination.next_attempt = 0, None
        destination.save(
            update_fields=["failures", "next_attempt", "failing_since", "last_error", "lease_until", "lease_holder"]
        )
        if verdict is Verdict.SET_ASIDE:
            set_aside(row, reason=reason, now=now)
        elif verdict is Verdict.SPLIT:
            split(row, destination, failure.fault, now=now)
        row.last_error = reason
        row.save(update_fields=["last_error", "refusals", "first_refused_at", "set_aside_at"])
    if verdict is Verdict.SEND_AGAIN:
        logger.warning(
            "%s did not take transaction %s (attempt %d, next at %s): %s",
            row.destination_id,
            row.txn_id,
            row.attempts,
            destination.next_attempt,
            reason,
        )
    return verdict


def _back_off(destination: Destination, *, at_least: float, now: datetime, chance: float) -> None:
    """Say when the next attempt may come, and give the lease back."""
    destination.failures += 1
    longest = settings.LIMITS.backoff_seconds
    wait = max(backoff.seconds_to_wait(destination.failures, chance=chance), min(at_least, longest))
    destination.next_attempt = now + timedelta(seconds=wait)
    destination.lease_until, destination.lease_holder = None, ""
