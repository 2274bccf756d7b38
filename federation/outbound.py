"""Having something to send: marking destinations, queueing LPDUs, freezing the next transaction.

Sending itself is `federation.delivery`, whose essay explains how the parts fit.

*Marking without losing anything.* Who appends to a room marks its servers as pending in the same database
transaction, and a worker clears the mark when nothing is left. An append that sees the mark set writes
nothing, so it must make sure that the mark is not cleared before its own events are visible. It holds a KEY
SHARE lock on the destination's row until it commits; a worker that clears takes FOR UPDATE, which has to
wait for that lock, and looks once more for something to send when it has it. KEY SHARE locks do not conflict
with one another, nor with a worker that takes a lease or acknowledges (those are FOR NO KEY UPDATE).

*Lock order*, everywhere: room, then stays (`RoomServer`), then destinations by name.
"""

import secrets
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from federation import paths
from federation.gathering import MAX_EVENTS, gather
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.wake import alarm_clock
from linmatrix import prepared
from linmatrix.protocol import canonical_json
from linmatrix.protocol.events import Lpdu

TXN_ID_BYTES = 16
"""Random bytes in a transaction id, so that none is used twice, whatever was restored from which backup."""

# One statement, since every append runs it. A row that another transaction changed meanwhile is looked at again as it
# is then, and may fall out of both halves.
_MARK_AND_HOLD = """
    WITH idle AS (
        SELECT server FROM federation_destination WHERE server = ANY(%s) AND NOT pending
        ORDER BY server FOR NO KEY UPDATE
    ), marked AS (
        UPDATE federation_destination destination SET pending = true FROM idle
        WHERE destination.server = idle.server RETURNING destination.server
    ), held AS (
        SELECT server FROM federation_destination WHERE server = ANY(%s) AND pending
        ORDER BY server FOR KEY SHARE
    )
    SELECT server, true FROM marked UNION ALL SELECT server, false FROM held
"""


class QueueFull(Exception):
    """A hub has not taken our LPDUs for so long that no more are queued for it."""


def mark_pending(servers: Iterable[str]) -> None:
    """Mark servers as having something to receive, and wake workers for those that had nothing before.

    Called inside the transaction that makes the something, at its end: locks are held until it commits. The
    workers are woken after that.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("mark_pending belongs into the transaction that makes something to send")
    missing = sorted(set(servers))
    marked: list[str] = []
    while missing:
        done = _mark_and_hold(missing)
        marked += [server for server, was_marked in done.items() if was_marked]
        # Without a row yet, or cleared by a worker just then.
        missing = [server for server in missing if server not in done]
        if missing:
            rows = [Destination(server=server) for server in missing]
            Destination.objects.bulk_create(rows, ignore_conflicts=True)
    if marked:
        transaction.on_commit(partial(alarm_clock.wake, marked))


def _mark_and_hold(servers: list[str]) -> dict[str, bool]:
    """Set the marks that are not set and hold those that are; by server, whether it was set now."""
    return dict(prepared.execute(_MARK_AND_HOLD, [servers, servers]))


def queue_lpdu(hub: str, lpdu: Lpdu) -> None:
    """Queue an LPDU of ours for a room's hub. One that is queued or was sent already stays as it is.

    Raises `QueueFull` when the hub has not taken `queued_lpdus` before it (decision 99).
    """
    with transaction.atomic():
        mark_pending([hub])
        queued = OutboundLpdu.objects.filter(destination_id=hub, status=OutboundLpdu.Status.QUEUED).order_by("id")
        most = settings.LIMITS.queued_lpdus
        if queued[most - 1 : most].exists():
            raise QueueFull(f"{most} events wait for {hub} already")
        row = OutboundLpdu(
            destination_id=hub,
            lpdu_id=lpdu.lpdu_id,
            room_id=lpdu.event["room_id"],
            sender=lpdu.event["sender"],
            json=canonical_json.dumps(lpdu.event).decode(),
        )
        OutboundLpdu.objects.bulk_create([row], ignore_conflicts=True)


def next_transaction(destination: Destination) -> OutboundTransaction | None:
    """Freeze what is sent next, for a first attempt; None when there is nothing. The caller holds the destination's
    row, and saves its `turn`.

    From here on the transaction is resent as it is until it is acknowledged (draft, `PUT send`), but for one that
    the peer does not take (`federation.isolation`).
    """
    most = settings.LIMITS.transaction_bytes
    batch = gather(
        destination.server,
        turn=destination.turn,
        max_events=1 if destination.single_events else MAX_EVENTS,
        max_bytes=min(destination.max_body_bytes or most, most),
    )
    if batch is None:
        return None
    destination.turn = batch.turn
    return freeze(
        destination,
        stable=batch.stable,
        body=batch.body(),
        cursors=batch.cursors,
        lpdus=batch.lpdus,
        edus=batch.edus,
        events=len(batch.events),
        attempts=1,
    )


def freeze(
    destination: Destination,
    *,
    stable: bool,
    body: bytes,
    cursors: Mapping[int, int],
    lpdus: list[int],
    events: int,
    edus: list[Any] | None = None,
    **more: Any,
) -> OutboundTransaction:
    """Store a transaction under a new id, with the path that the peer serves, or the one that `stable` says while
    that is not known. `more` are further fields."""
    txn_id = secrets.token_urlsafe(TXN_ID_BYTES)
    known = destination.stable_paths
    return OutboundTransaction.objects.create(
        destination=destination,
        txn_id=txn_id,
        path=paths.send(txn_id).form(stable=stable if known is None else known),
        body=body,
        cursors=[list(cursor) for cursor in cursors.items()],
        lpdus=lpdus,
        edus=edus or [],
        events=events,
        **more,
    )
