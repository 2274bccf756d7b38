"""Leaves of users whose server is not in the room: done for the user at once, told to the hub when that can be reached.

Draft section "Rejecting Invites and Leaves"; decision 93. An invited user must be able to say no whatever the hub
does, so the invite goes and a row, `PendingLeave`, remembers what the hub has still to be told. A worker makes the
handshake; a message wakes it, and the sweep finds what was lost or failed. A hub that is away is asked again, less
and less often; one that says no has perhaps forgotten the invite, and is believed after some repetitions.

A join may end without our knowing whether the hub has it: no answer, or one that does not hold, or our process dies.
The hub would go on to think that the user is in the room. So the leave is remembered before the join is asked for, and
forgotten when the user is in, or the hub has said no to the first that asked. A leave that waits already waits on until
then: trying again does not lose it. None is told while a join is asked for, nor is a join while one is told.
"""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from federation import backoff, paths
from federation.blocking import block_list
from federation.client import one_line
from federation.make_and_send import HandshakeFailed, Template, Wish, lpdu_for, post, template_of
from federation.models import PendingLeave
from federation.wake import alarm_clock
from linmatrix.protocol.identifiers import domain_of
from rooms import joining
from rooms.audience import takes_part
from rooms.models import PendingInvite
from rooms.state import current_state

logger = logging.getLogger(__name__)

TASK = "federation.tasks.send_leave"

LEASE = timedelta(seconds=120)
"""How long an attempt may take: at most three templates, since hints are followed, and the leave, of 20 s each."""

UNDO_AFTER = timedelta(seconds=30)
"""When a join of which we do not know is undone: the hub may still be at it, and the user may try again."""

MAX_DUE = 50
"""Leaves that one sweep wakes."""

MIN_FAILURES = 10
"""Before a leave is given up for its age: it may have waited for as long because its hub was blocked."""

RETRYABLE = frozenset((401, 408, 429))
"""Refusals that say nothing about the leave: a key that cannot be fetched, too slow, too many."""


def withdraw(row: PendingInvite, *, reason: str, now: datetime) -> None:
    """End an invite or a knock of a user of ours here and now, and have the hub told.

    Raises `TooLarge` for a `reason` that no event can hold.
    """
    lpdu_for(Template(row.hub_server, row.room_version), Wish("leave", row.room_id, row.user_id), reason=reason)
    with transaction.atomic():
        leave = _remember(row.room_id, row.user_id, row.hub_server, row.room_version, reason=reason, created_at=now)
        PendingInvite.objects.filter(pk=row.pk).delete()
        transaction.on_commit(partial(alarm_clock.publish, TASK, [leave.pk]))


@contextmanager
def undone_unless_known(template: Template, wish: Wish, *, now: datetime) -> Iterator[None]:
    """Ask for a join in the block: should it not end with an answer that holds, the hub is told of a leave.

    A `HandshakeFailed` with the hub's own no says that there is nothing to undo, unless there was something before.
    Raises `HandshakeFailed` while a worker tells the hub of an earlier leave, which might come after the join.
    """
    later = now + timedelta(seconds=joining.LONGEST_SECONDS)
    with transaction.atomic():
        before = PendingLeave.objects.select_for_update().filter(room_id=wish.room_id, user_id=wish.user_id).first()
        if before is not None and before.lease_until is not None and now < before.lease_until <= now + 2 * LEASE:
            raise HandshakeFailed(f"{template.hub} is being told that {wish.user_id} left: try again in a minute")
        leave = _remember(
            wish.room_id, wish.user_id, template.hub, template.version, created_at=now, next_attempt=later
        )
    ours = PendingLeave.objects.filter(pk=leave.pk, next_attempt=later)
    try:
        yield
    except HandshakeFailed as failure:
        if before is None and 400 <= failure.status < 500:
            ours.delete()
        else:
            ours.update(next_attempt=timezone.now() + UNDO_AFTER)
        raise
    cancel(wish.room_id, wish.user_id)


def _remember(
    room_id: str,
    user_id: str,
    hub: str,
    version: str,
    *,
    created_at: datetime,
    reason: str = "",
    next_attempt: datetime | None = None,
) -> PendingLeave:
    leave, _ = PendingLeave.objects.update_or_create(
        room_id=room_id,
        user_id=user_id,
        defaults={
            "hub_server": hub,
            "room_version": version,
            "reason": reason,
            "created_at": created_at,
            "next_attempt": next_attempt or created_at,
            "failures": 0,
            "refusals": 0,
            "last_error": "",
            "lease_until": None,
        },
    )
    return leave


def cancel(room_id: str, user_id: str) -> None:
    """Forget a leave that the hub has not been told: the user wants in again, or was invited anew."""
    PendingLeave.objects.filter(room_id=room_id, user_id=user_id).delete()


def hub_of(leave_id: int) -> str:
    """The server that is told of a leave; empty when that has been done."""
    return PendingLeave.objects.filter(pk=leave_id).values_list("hub_server", flat=True).first() or ""


def attempt(
    leave_id: int, *, clock: Callable[[], datetime] = timezone.now, chance: Callable[[], float] = random.random
) -> None:
    """Tell the hub of a leave, once. What fails is noted with the time of the next attempt, which the sweep finds."""
    if block_list.blocks(hub_of(leave_id)):
        return
    leave = _take(leave_id, clock())
    if leave is None:
        return
    if _is_in(leave):
        cancel(leave.room_id, leave.user_id)
        return
    try:
        _tell(leave)
    except HandshakeFailed as failure:
        _note(leave, failure, now=clock(), chance=chance())
    else:
        _held(leave).delete()


def due_leaves(*, now: datetime | None = None) -> list[int]:
    """Leaves whose time has come, those first that have waited longest. Those for a blocked hub wait until it is
    none."""
    due = PendingLeave.objects.filter(_is_due(now or timezone.now())).exclude(block_list.among("hub_server"))
    due = due.order_by("next_attempt")
    return list(due.values_list("pk", flat=True)[:MAX_DUE])


def _is_due(now: datetime) -> Q:
    """Due, and nobody is at it."""
    return backoff.is_due(now) & (
        Q(lease_until__isnull=True) | Q(lease_until__lte=now) | Q(lease_until__gt=now + 2 * LEASE)
    )


def _take(leave_id: int, now: datetime) -> PendingLeave | None:
    """The row when it is due and nobody else has it. The lease runs out: a worker that dies is replaced."""
    due = PendingLeave.objects.filter(_is_due(now), pk=leave_id)
    if not due.update(lease_until=now + LEASE):
        return None
    return PendingLeave.objects.filter(pk=leave_id, lease_until=now + LEASE).first()


def _held(leave: PendingLeave) -> QuerySet[PendingLeave]:
    """The row while it is as it was taken: not cancelled, nor remembered anew for something else."""
    return PendingLeave.objects.filter(pk=leave.pk, lease_until=leave.lease_until)


def _is_in(leave: PendingLeave) -> bool:
    """Whether the user has come in after all: the process that joined died before it could say so."""
    if not takes_part(leave.room_id, domain_of(leave.user_id)):
        return False
    key = ("m.room.member", leave.user_id)
    member = current_state(leave.room_id, [key]).get(key)
    return member is not None and member.content.get("membership") == "join"


def _tell(leave: PendingLeave) -> None:
    """make_leave and send_leave. Raises `HandshakeFailed`."""
    wish = Wish("leave", leave.room_id, leave.user_id, leave.room_version)
    template = template_of(leave.hub_server, wish)
    if not _held(leave).exists():
        return  # cancelled meanwhile
    lpdu = lpdu_for(template, wish, reason=leave.reason)
    post(template, paths.send_leave(lpdu.lpdu_id), lpdu.event)


def _note(leave: PendingLeave, failure: HandshakeFailed, *, now: datetime, chance: float) -> None:
    refused = 400 <= failure.status < 500 and failure.status not in RETRYABLE
    leave.failures += 1
    leave.refusals += refused
    rows = _held(leave)
    limits = settings.LIMITS
    too_old = now - leave.created_at > timedelta(days=limits.leave_days) and leave.failures >= MIN_FAILURES
    if leave.refusals >= limits.leave_refusals or too_old:
        rows.delete()
        logger.warning(
            "gave up telling %s that %s left %s: %s", leave.hub_server, leave.user_id, leave.room_id, failure
        )
        return
    wait = backoff.seconds_to_wait(leave.failures, chance=chance)
    rows.update(
        next_attempt=now + timedelta(seconds=wait),
        failures=leave.failures,
        refusals=leave.refusals,
        last_error=one_line(str(failure)),
        lease_until=None,
    )
