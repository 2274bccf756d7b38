"""Finding the destinations that are due: what makes losing every message harmless."""

from datetime import datetime

from django.db.models import Q
from django.utils import timezone

from federation.backoff import is_due
from federation.blocking import block_list
from federation.delivery import LONGEST_LEASE
from federation.models import Destination

SWEEP_SECONDS = 5.0
"""How often the sweep comes (beat schedule in the settings); its messages are worth nothing after that."""

MAX_DUE = 500
"""Destinations that one sweep wakes, drawn by lot where there are more: by any order, so many that are tried in vain
again and again could keep out all others."""


def due_destinations(*, now: datetime | None = None) -> list[str]:
    """Servers that something waits for, that are not backed off from, paused or blocked, and that no worker has."""
    now = now or timezone.now()
    due = Destination.objects.filter(
        Q(next_attempt__isnull=True) | is_due(now),
        Q(lease_until__isnull=True) | Q(lease_until__lte=now) | Q(lease_until__gt=now + LONGEST_LEASE),
        pending=True,
        paused_at__isnull=True,
    )
    due = due.exclude(block_list.among("server"))
    return list(due.order_by("?").values_list("server", flat=True)[:MAX_DUE])
