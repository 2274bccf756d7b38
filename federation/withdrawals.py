"""Refusing an invite and taking back a knock: done for the user at once, told to the hub when that can be reached.

Draft section "Rejecting Invites and Leaves"; decision 93. An invited user must be able to say no whatever the hub
does, so the invite goes and a row, `PendingLeave`, remembers what the hub has still to be told. A worker makes the
handshake; a message wakes it, and the sweep finds what was lost or failed. A hub that is away is asked again, less
and less often; one that says no has perhaps forgotten the invite, and is believed after some repetitions.
"""

import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from federation import backoff, paths
from federation.client import one_line
from federation.make_and_send import HandshakeFailed, Template, Wish, lpdu_for, post, template_of
from federation.models import PendingLeave
from federation.wake import alarm_clock
from rooms.models import PendingInvite

logger = logging.getLogger(__name__)

TASK = "federation.tasks.send_leave"

LEASE = timedelta(seconds=120)
"""How long an attempt may take: at most three templates, since hints are followed, and the leave, of 20 s each."""

MAX_DUE = 50
"""Leaves that one sweep wakes."""

RETRYABLE = frozenset((401, 408, 429))
"""Refusals that say nothing about the leave: a key that cannot be fetched, too slow, too many."""


def withdraw(row: PendingInvite, *, reason: str, now: datetime) -> None:
    """End an invite or a knock of a user of ours here and now, and have the hub told.

    Raises `TooLarge` for a `reason` that no event can hold.
    """
    lpdu_for(Template(row.hub_server, row.room_version), Wish("leave", row.room_id, row.user_id), reason=reason)
    with transaction.atomic():
        leave, _ = PendingLeave.objects.update_or_create(
            room_id=row.room_id,
            user_id=row.user_id,
            defaults={
                "hub_server": row.hub_server,
                "room_version": row.room_version,
                "reason": reason,
                "created_at": now,
                "next_attempt": now,
                "failures": 0,
                "refusals": 0,
                "last_error": "",
            },
        )
        PendingInvite.objects.filter(pk=row.pk).delete()
        transaction.on_commit(partial(alarm_clock.publish, TASK, [leave.pk]))


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
    leave = _take(leave_id, clock())
    if leave is None:
        return
    try:
        _tell(leave)
    except HandshakeFailed as failure:
        _note(leave, failure, now=clock(), chance=chance())
    else:
        PendingLeave.objects.filter(pk=leave.pk).delete()


def due_leaves(*, now: datetime | None = None) -> list[int]:
    """Leaves whose time has come, those first that have waited longest."""
    due = PendingLeave.objects.filter(next_attempt__lte=now or timezone.now()).order_by("next_attempt")
    return list(due.values_list("pk", flat=True)[:MAX_DUE])


def _take(leave_id: int, now: datetime) -> PendingLeave | None:
    """The row when it is due and nobody else has it. Its next attempt is set ahead: a worker that dies is replaced."""
    due = PendingLeave.objects.filter(pk=leave_id, next_attempt__lte=now)
    if not due.update(next_attempt=now + LEASE):
        return None
    return PendingLeave.objects.filter(pk=leave_id).first()


def _tell(leave: PendingLeave) -> None:
    """make_leave and send_leave. Raises `HandshakeFailed`."""
    wish = Wish("leave", leave.room_id, leave.user_id, leave.room_version)
    template = template_of(leave.hub_server, wish)
    if not PendingLeave.objects.filter(pk=leave.pk).exists():
        return  # cancelled meanwhile
    lpdu = lpdu_for(template, wish, reason=leave.reason)
    post(template, paths.send_leave(lpdu.lpdu_id), lpdu.event)


def _note(leave: PendingLeave, failure: HandshakeFailed, *, now: datetime, chance: float) -> None:
    refused = 400 <= failure.status < 500 and failure.status not in RETRYABLE
    leave.failures += 1
    leave.refusals += refused
    rows = PendingLeave.objects.filter(pk=leave.pk)
    limits = settings.LIMITS
    if leave.refusals >= limits.leave_refusals or now - leave.created_at > timedelta(days=limits.leave_days):
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
    )
