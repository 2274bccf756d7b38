"""Isolating what a peer does not take, so that one event does not hold up all that come after it.

The draft has a transaction sent again until a 200 comes, and that is what happens as long as a retry can help: the
peer is away, slow, limits us, or has a bad minute. But there are peers that answer a whole transaction with an error
because of one event in it, and will do so for ever. docs/decisions/0005-isolating-a-poisoned-batch.md says why such
a transaction is given up in favour of its parts, and what that costs.

*Which answers count* (`fault_of`). Only those that can be about the content. No answer, 401, 429, a gateway's 502 to
504, an unknown path and M_BAD_STATE are about the peer or the moment: they never lead to anything but a retry.

*Splitting.* A transaction of several events that was refused `MIN_REFUSALS` times over `SPLIT_AFTER` is replaced by
its two halves, which are transactions of their own, with new ids, sent one after the other, each until a 200. A half
that is refused, too, is split at once, since its parent has shown that this does not pass. Order stays: a part is
sent when those before it have ended, and nothing new is frozen before the last one has. A body that is too large is
split at the first such answer, and its half becomes the peer's limit.

*Setting aside.* A single event that is still refused is recorded as not delivered, and the queue goes on. How long
that takes depends on whether the peer has acknowledged anything meanwhile. If it has, it is the event that it does
not take. If not, it may be a peer that answers everything with an error: then it takes `SET_ASIDE_ALONE_AFTER` for
every event, so that an outage costs a few and not all. An operator may have it sent again (`send_again`).

Locks: as `federation.outbound` says, stays before the destination.
"""

import enum
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max

from federation import paths
from federation.client import Answer
from federation.gathering import Stretch, body_of, read
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.outbound import freeze, mark_pending
from linmatrix import prepared
from rooms.models import RoomServer

logger = logging.getLogger(__name__)

MIN_REFUSALS = 3
"""One refusal may be a peer's restart, two its slow start; after three the next would be the same."""

SPLIT_AFTER = timedelta(seconds=10)
"""From the first refusal. Long enough for a peer's lost database connection, and short enough for a conversation: the
halves that are taken get there with this delay. Splitting an innocent transaction costs a few more requests."""

SET_ASIDE_AFTER = timedelta(minutes=1)
"""From the first refusal or the last event that was set aside, for a single event of a peer that has acknowledged
something since. Retries come after 1, 2, 4 seconds and so on, so that it is refused six times by then."""

SET_ASIDE_ALONE_AFTER = timedelta(hours=1)
"""The same for a peer that has acknowledged nothing since: mostly an outage, and few outages last longer. It bounds
what a longer one leaves undelivered to an event an hour."""

PAGE_BODY_BYTES = 64 * 1024
"""From this size of a body on, a page for people instead of an error is taken for a refusal of the size, as proxies
and web frameworks answer. The largest event has as much, so a smaller body has to fit everywhere."""

MIN_LIMIT_BYTES = 4 * 1024
"""No smaller limit is learnt: four ordinary events. An event that is larger is sent alone."""

_NOT_ABOUT_CONTENT = frozenset({401, 408, 425, 429, 502, 503, 504})
_AGAIN = "r"  # sorts after the digits of parts

# `federation.models.outbound.OPEN`, as a statement.
_FIRST_OPEN = """
    WHERE destination_id = %s AND acked_at IS NULL AND split_at IS NULL AND set_aside_at IS NULL
    ORDER BY branch LIMIT 1
"""

# A cursor never goes back.
_ADVANCE = """
    UPDATE rooms_roomserver stay SET sent_position = GREATEST(stay.sent_position, new.position)
    FROM unnest(%s::bigint[], %s::bigint[]) AS new (stay_id, position) WHERE stay.id = new.stay_id
"""


class Fault(enum.Enum):
    """What a failed attempt says about the transaction."""

    NONE = "nothing: it should be sent again"
    REFUSED = "the peer does not take its content"
    TOO_LARGE = "the peer does not take bodies of its size"


class Verdict(enum.Enum):
    """What is done about it."""

    SEND_AGAIN = "the same again"
    SPLIT = "its parts instead"
    SET_ASIDE = "what comes after it"


def fault_of(answer: Answer, *, size: int) -> Fault:
    """What an answer other than 200 says about a transaction with a body of `size` bytes."""
    about_content = 400 <= answer.status < 600 and answer.status not in _NOT_ABOUT_CONTENT
    if not about_content or answer.unrecognized or answer.errcode == "M_BAD_STATE":
        return Fault.NONE
    is_page = answer.status < 500 and answer.content is None
    if answer.status == 413 or (is_page and size >= PAGE_BODY_BYTES):
        return Fault.TOO_LARGE
    return Fault.REFUSED


def judge(row: OutboundTransaction, fault: Fault, *, now: datetime) -> Verdict:
    """Count a fault on the row, which the caller saves, and say what follows."""
    if fault is Fault.NONE:
        return Verdict.SEND_AGAIN
    if fault is Fault.TOO_LARGE and row.events > 1:
        return Verdict.SPLIT
    row.refusals += 1
    row.first_refused_at = row.first_refused_at or now
    if row.branch.startswith(_AGAIN):
        return Verdict.SET_ASIDE
    if row.refusals < MIN_REFUSALS:
        return Verdict.SEND_AGAIN
    if row.events > 1:
        gives_up = row.first_refused_at + SPLIT_AFTER
        return Verdict.SPLIT if now >= gives_up else Verdict.SEND_AGAIN
    gives_up = _sets_aside_at(row.destination_id, row.first_refused_at)
    return Verdict.SET_ASIDE if now >= gives_up else Verdict.SEND_AGAIN


def _sets_aside_at(server: str, first_refused_at: datetime) -> datetime:
    """When a single event is given up that has been refused since then, also as part of more.

    The wait begins anew with every event that is set aside, and so does the question whether the peer takes others:
    during an outage the parts of one transaction must not follow each other.
    """
    last_success = Destination.objects.values_list("last_success_at", flat=True).get(server=server)
    rows = OutboundTransaction.objects.filter(destination=server, set_aside_at__isnull=False)
    last_set_aside = rows.aggregate(last=Max("set_aside_at"))["last"]
    since = max(first_refused_at, last_set_aside or first_refused_at)
    takes_others = last_success is not None and last_success >= since
    return since + (SET_ASIDE_AFTER if takes_others else SET_ASIDE_ALONE_AFTER)


def advance(row: OutboundTransaction) -> None:
    """Move the cursors past what a transaction holds. The destination is not locked yet."""
    if row.cursors:
        prepared.execute(_ADVANCE, [list(column) for column in zip(*row.cursors, strict=True)])


def set_aside(row: OutboundTransaction, *, reason: str, now: datetime) -> None:
    """Give up a transaction of one event; the caller has moved the cursors and locked the destination."""
    row.set_aside_at, row.last_error = now, reason
    lpdus = OutboundLpdu.objects.filter(pk__in=row.lpdus)
    lpdus.update(status=OutboundLpdu.Status.SET_ASIDE, reason=reason)
    logger.error("%s does not take the event of transaction %s, set aside: %s", row.destination_id, row.txn_id, reason)


@dataclass(frozen=True, slots=True)
class _Piece:
    """An event of a transaction, and what is done when the receiver has it."""

    json: bytes
    cursor: tuple[int, int] | None = None
    lpdu: int | None = None


def split(row: OutboundTransaction, destination: Destination, fault: Fault, *, now: datetime) -> None:
    """Replace a transaction by its two halves; the caller has locked the destination.

    For a body that is too large they are halves by bytes, and the peer's limit is learnt.
    """
    pieces = _pieces(row)
    too_large = fault is Fault.TOO_LARGE
    if too_large:
        destination.max_body_bytes = max(len(bytes(row.body)) // 2, MIN_LIMIT_BYTES)
        destination.save(update_fields=["max_body_bytes"])
    cut = _middle_by_bytes(pieces) if too_large else (len(pieces) + 1) // 2
    # Closed first: of a destination and a branch there is one open row.
    row.split_at, row.lineage = now, row.lineage or row.txn_id
    row.save(update_fields=["split_at", "lineage"])
    for digit, half in (("0", pieces[:cut]), ("1", pieces[cut:])):
        if half:
            _freeze_part(row, destination, half, branch=row.branch + digit)
    logger.warning(
        "%s does not take transaction %s of %d events, split: %s",
        row.destination_id,
        row.txn_id,
        row.events,
        fault.value,
    )


def _freeze_part(row: OutboundTransaction, destination: Destination, half: Sequence[_Piece], *, branch: str) -> None:
    freeze(
        destination,
        stable=row.path == paths.send(row.txn_id).stable,
        body=body_of([piece.json for piece in half]),
        cursors=dict(piece.cursor for piece in half if piece.cursor),
        lpdus=[piece.lpdu for piece in half if piece.lpdu is not None],
        events=len(half),
        # A part of several is split at its first refusal; a single event has to be refused as often as any.
        refusals=row.refusals if len(half) > 1 else 0,
        first_refused_at=row.first_refused_at,
        lineage=row.lineage,
        branch=branch,
    )


def _pieces(row: OutboundTransaction) -> list[_Piece]:
    """The events of a transaction in their order, from where they are stored. The last one of a stay takes along
    what of the line is not sent after it."""
    stays = RoomServer.objects.in_bulk([stay_id for stay_id, _ in row.cursors])
    stretches = [
        Stretch(stay_id, stays[stay_id].room_id, stays[stay_id].sent_position, until)
        for stay_id, until in row.cursors
        if stay_id in stays
    ]
    events = read(stretches)
    pieces = []
    for stretch in stretches:
        lines = [line for line in events.get(stretch.room_id, []) if stretch.after < line[0] <= stretch.until]
        for position, json in lines:
            reached = stretch.until if position == lines[-1][0] else position
            pieces.append(_Piece(json.encode(), cursor=(stretch.stay_id, reached)))
    lpdus = OutboundLpdu.objects.filter(pk__in=row.lpdus, status=OutboundLpdu.Status.QUEUED).order_by("id")
    return pieces + [_Piece(lpdu.json.encode(), lpdu=lpdu.pk) for lpdu in lpdus]


def _middle_by_bytes(pieces: Sequence[_Piece]) -> int:
    """Where to cut so that the halves have about as many bytes each, and none is empty if it need not be."""
    half, before = sum(len(piece.json) for piece in pieces) / 2, 0
    for index, piece in enumerate(pieces):
        if before + len(piece.json) / 2 > half:
            return max(index, 1)
        before += len(piece.json)
    return len(pieces)


def takes_single_events_only(row: OutboundTransaction) -> bool:
    """Whether an acknowledged part shows that its receiver takes no more than one event at a time.

    It does when it and its other half were taken and both together were refused, after the peer had taken another
    single event, and no part of several was taken: a peer that was away for a while does not answer like that.
    """
    if row.events != 1 or not row.branch or row.branch.startswith(_AGAIN):
        return False
    parts = OutboundTransaction.objects.filter(lineage=row.lineage, destination=row.destination_id)
    pair = parts.filter(branch=row.branch[:-1], events=2).values_list("split_at", flat=True).first()
    taken = parts.filter(acked_at__isnull=False)
    return (
        pair is not None
        and taken.filter(branch__in=[row.branch[:-1] + "0", row.branch[:-1] + "1"]).count() == 2
        and taken.filter(acked_at__lt=pair).exists()
        and not taken.filter(events__gt=1).exists()
    )


def send_again(transactions: Iterable[OutboundTransaction]) -> int:
    """Queue what was set aside once more, as the same transactions, behind what is under way; how many there were.

    Each is tried until it is taken or refused once.
    """
    rows = {row.pk: row for row in transactions}
    done = 0
    with transaction.atomic():
        mark_pending({row.destination_id for row in rows.values()})
        for pk in sorted(rows):
            done += OutboundTransaction.objects.filter(pk=pk, set_aside_at__isnull=False).update(
                set_aside_at=None, refusals=0, first_refused_at=None, branch=f"{_AGAIN}{pk:019}"
            )
    return done


def open_transaction(destination: Destination) -> OutboundTransaction | None:
    """The transaction of a destination that is under way, or is next among parts; None when none is open."""
    return prepared.first(OutboundTransaction, _FIRST_OPEN, [destination.server])
