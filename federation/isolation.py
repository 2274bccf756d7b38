"""Isolating what a peer does not take, so that one event does not hold up all that come after it.

The draft has a transaction sent again until a 200 comes, and that is what happens as long as a retry can help: the
peer is away, slow, limits us, or has a bad minute. But there are peers that answer a whole transaction with an error
because of one event in it, and will do so for ever. docs/decisions/0005-isolating-a-poisoned-batch.md says why such
a transaction is given up in favour of its parts, and what that costs.

*Which answers count* (`fault_of`). Only those that can be about the content. No answer, 401, 429, a gateway's 502 to
504, an unknown path and M_BAD_STATE are about the peer or the moment: they never lead to anything but a retry.

*Splitting.* A transaction of several entries that was refused `MIN_REFUSALS` times over `SPLIT_AFTER` is replaced by
its two halves, which are transactions of their own, with new ids, sent one after the other, each until a 200. A half
that is refused, too, is split at once, since its parent has shown that this does not pass. Order stays: a part is
sent when those before it have ended, and nothing new is frozen before the last one has. A body that is too large is
split at the first such answer, and its half becomes the peer's limit.

*EDUs* part from events first, as a peer may take none at all: the events are not to wait for what becomes of them.
EDUs alone that are refused, while the peer has acknowledged nothing since, are sent again behind an empty transaction.
Only a peer that takes that shows that it is the EDUs which it does not take. They are then given up a minute after the
first refusal, each alone, one after the other, so that many hold up the events after them for no longer than one does.

*Setting aside.* A single entry that is still refused is recorded as not delivered, and the queue goes on. How long
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
from typing import Any

from django.db import transaction
from django.db.models import F, Func, IntegerField, Max

from federation import paths
from federation.client import Answer
from federation.edus.outgoing import settle
from federation.gathering import Stretch, body_of, read
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.outbound import freeze, mark_pending
from linmatrix import prepared
from linmatrix.protocol import canonical_json
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
    if fault is Fault.TOO_LARGE and row.entries > 1:
        return Verdict.SPLIT
    if not row.entries:
        return Verdict.SEND_AGAIN  # what waits behind it needs no refusal of its own
    row.refusals += 1
    row.first_refused_at = row.first_refused_at or now
    if is_sent_again(row):
        return Verdict.SET_ASIDE
    if row.refusals < MIN_REFUSALS:
        return Verdict.SEND_AGAIN
    takes_others = _has_taken_since(row.destination_id, row.first_refused_at)
    if row.entries > 1 or not (row.events or takes_others):
        gives_up = row.first_refused_at + SPLIT_AFTER
        return Verdict.SPLIT if now >= gives_up else Verdict.SEND_AGAIN
    if not row.events:
        gives_up = row.first_refused_at + SET_ASIDE_AFTER
    else:
        gives_up = _sets_aside_at(row.destination_id, row.first_refused_at)
    return Verdict.SET_ASIDE if now >= gives_up else Verdict.SEND_AGAIN


def _has_taken_since(server: str, since: datetime) -> bool:
    return Destination.objects.filter(server=server, last_success_at__gte=since).exists()


def _sets_aside_at(server: str, first_refused_at: datetime) -> datetime:
    """When a single event is given up that has been refused since then, also as part of more.

    The wait begins anew with every event that is set aside, and so does the question whether the peer takes others:
    during an outage the parts of one transaction must not follow each other.
    """
    rows = OutboundTransaction.objects.filter(destination=server, set_aside_at__isnull=False)
    last_set_aside = rows.aggregate(last=Max("set_aside_at"))["last"]
    since = max(first_refused_at, last_set_aside or first_refused_at)
    return since + (SET_ASIDE_AFTER if _has_taken_since(server, since) else SET_ASIDE_ALONE_AFTER)


def advance(row: OutboundTransaction) -> None:
    """Move the cursors past what a transaction holds. The destination is not locked yet."""
    if row.cursors:
        prepared.execute(_ADVANCE, [list(column) for column in zip(*row.cursors, strict=True)])


def set_aside(row: OutboundTransaction, *, reason: str, now: datetime) -> None:
    """Give up a transaction of one event or EDU; the caller has moved the cursors and locked the destination."""
    row.set_aside_at, row.last_error = now, reason
    lpdus = OutboundLpdu.objects.filter(pk__in=row.lpdus)
    lpdus.update(status=OutboundLpdu.Status.SET_ASIDE, reason=reason)
    settle(row.edus)
    what = "event" if row.events else "EDU"
    logger.error(
        "%s does not take the %s of transaction %s, set aside: %s", row.destination_id, what, row.txn_id, reason
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """An event or EDU of a transaction, and what is done when the receiver has it; `edu` is an EDU's mark."""

    json: bytes
    cursor: tuple[int, int] | None = None
    lpdu: int | None = None
    edu: Any = None


def split(row: OutboundTransaction, destination: Destination, fault: Fault, *, now: datetime) -> None:
    """Replace a transaction by its two halves; the caller has locked the destination.

    For a body that is too large they are halves by bytes, and the peer's limit is learnt.
    """
    pieces = _pieces(row)
    too_large = fault is Fault.TOO_LARGE and len(pieces) > 1
    if too_large:
        destination.max_body_bytes = max(len(bytes(row.body)) // 2, MIN_LIMIT_BYTES)
        destination.save(update_fields=["max_body_bytes"])
    cut = _middle_by_bytes(pieces) if too_large else _middle(row, pieces)
    # Closed first: of a destination and a branch there is one open row.
    row.split_at, row.lineage = now, row.lineage or row.txn_id
    row.save(update_fields=["split_at", "lineage"])
    for digit, half in (("0", pieces[:cut]), ("1", pieces[cut:])):
        if half or (pieces and not cut):
            _freeze_part(row, destination, half, branch=row.branch + digit)
    logger.warning(
        "%s does not take transaction %s of %d events and %d EDUs, split: %s",
        row.destination_id,
        row.txn_id,
        row.events,
        len(row.edus),
        fault.value,
    )


def _middle(row: OutboundTransaction, pieces: Sequence[_Piece]) -> int:
    """Where to cut what is refused: between events and EDUs, before EDUs of which it is not known whether they are what
    is refused, else in the middle."""
    events = sum(piece.edu is None for piece in pieces)
    if events and events < len(pieces):
        return events
    if not events and not (row.first_refused_at and _has_taken_since(row.destination_id, row.first_refused_at)):
        return 0
    return (len(pieces) + 1) // 2


def _freeze_part(row: OutboundTransaction, destination: Destination, half: Sequence[_Piece], *, branch: str) -> None:
    freeze(
        destination,
        stable=row.path == paths.send(row.txn_id).stable,
        body=body_of([piece.json for piece in half if not piece.edu], [piece.json for piece in half if piece.edu]),
        cursors=dict(piece.cursor for piece in half if piece.cursor),
        lpdus=[piece.lpdu for piece in half if piece.lpdu is not None],
        edus=[piece.edu for piece in half if piece.edu],
        events=sum(not piece.edu for piece in half),
        # A part of several is split at its first refusal; a single event has to be refused as often as any.
        refusals=row.refusals if len(half) > 1 or row.events == 0 else 0,
        first_refused_at=row.first_refused_at,
        lineage=row.lineage,
        branch=branch,
    )


def _pieces(row: OutboundTransaction) -> list[_Piece]:
    """The events of a transaction in their order, from where they are stored, then its EDUs. The last event of a stay
    takes along what of the line is not sent after it."""
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
    pieces += [_Piece(lpdu.json.encode(), lpdu=lpdu.pk) for lpdu in lpdus]
    if not row.edus:
        return pieces
    # Canonical as they are in the body, so that writing them again gives the same bytes.
    edus = canonical_json.loads(bytes(row.body))["edus"]
    return pieces + [_Piece(canonical_json.dumps(edu), edu=mark) for edu, mark in zip(edus, row.edus, strict=True)]


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
    if row.entries != 1 or not row.branch or is_sent_again(row):
        return False
    entries = F("events") + Func(F("edus"), function="jsonb_array_length", output_field=IntegerField())
    parts = OutboundTransaction.objects.filter(lineage=row.lineage, destination=row.destination_id)
    parts = parts.annotate(number=entries)
    pair = parts.filter(branch=row.branch[:-1], number=2).values_list("split_at", flat=True).first()
    taken = parts.filter(acked_at__isnull=False)
    return (
        pair is not None
        and taken.filter(branch__in=[row.branch[:-1] + "0", row.branch[:-1] + "1"]).count() == 2
        and taken.filter(acked_at__lt=pair, number=1).exists()
        and not taken.filter(number__gt=1).exists()
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


def is_sent_again(row: OutboundTransaction) -> bool:
    """Whether a transaction was set aside before, and an operator had it sent again."""
    return row.branch.startswith(_AGAIN)


def open_transaction(destination: Destination) -> OutboundTransaction | None:
    """The transaction of a destination that is under way, or is next among parts; None when none is open."""
    return prepared.first(OutboundTransaction, _FIRST_OPEN, [destination.server])
