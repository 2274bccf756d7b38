"""Holding back what is sent to a server, and going on with it: for a peer that asked for it, or one to look at first.

Only transactions are held back, and only ours: the server may send and read as ever, and what somebody wants of it at
once (a join, an invite, history) is still asked for. Nothing is lost, since what waits stands where it always does:
rooms go on behind the server's cursors, LPDUs are queued, and a frozen transaction stays the same.
"""

from datetime import datetime
from functools import partial

from django.db import transaction

from federation.models import Destination
from federation.wake import alarm_clock


def pause(server: str, *, reason: str, now: datetime) -> bool:
    """Send the server nothing from its next transaction on; False when it is paused already.

    Raises `Destination.DoesNotExist`.
    """
    Destination.objects.only("server").get(server=server)
    running = Destination.objects.filter(server=server, paused_at__isnull=True)
    return running.update(paused_at=now, paused_reason=reason) == 1


def resume(server: str) -> bool:
    """Go on where it was left, at once unless the server is being backed off from; False when it is not paused."""
    paused = Destination.objects.filter(server=server, paused_at__isnull=False)
    with transaction.atomic():
        resumed = paused.update(paused_at=None, paused_reason="") == 1
        if resumed:
            transaction.on_commit(partial(alarm_clock.wake, [server]))
    return resumed
