"""One line and one count per attempt to send a transaction.

The line has the transaction's id, which the receiver's log has as well: what became of a transaction is told by the
lines with its id on both sides. Never anything of its body.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from structlog.contextvars import bound_contextvars

from federation.models import OutboundTransaction
from linmatrix import logs
from linmatrix.metrics.instruments import delivered_events, deliveries, delivery_seconds

logger = logging.getLogger(logs.DELIVERIES)

DELIVERED, FAILED, ISOLATED, SUPERSEDED = "delivered", "failed", "isolated", "superseded"


@contextmanager
def about(row: OutboundTransaction) -> Iterator[None]:
    """Have all that is logged in the block carry the transaction's id and its destination."""
    with bound_contextvars(txn_id=row.txn_id, destination=row.destination_id):
        yield


def record(row: OutboundTransaction, outcome: str, *, seconds: float, error: str = "") -> None:
    """Count and log an attempt that has ended so, for this reason if it failed."""
    deliveries.labels(outcome).inc()
    delivery_seconds.labels(outcome).observe(seconds)
    if outcome == DELIVERED:
        delivered_events.inc(row.events)
    if not logger.isEnabledFor(logging.INFO):
        return
    fields = {
        "attempt": row.attempts,
        "events": row.events,
        "bytes": len(row.body),
        "outcome": outcome,
        "ms": round(1000 * seconds, 1),
    }
    if row.edus:
        fields["edus"] = len(row.edus)
    logger.info("delivery", extra=fields | ({"error": error} if error else {}))
