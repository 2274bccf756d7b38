"""Finding the destinations that are due: what makes losing every message harmless."""

from datetime import datetime

from django.db.models import F, Q
from django.utils import timezone

from federation.models import Destination

SWEEP_SECONDS = 5.0
"""How often the sweep comes (beat schedule in the settings); its messages are worth nothing after that."""

MAX_DUE = 500
"""Destinations that one sweep wakes, those first that have waited longest."""


def due_destinations(*, now: datetime | None = None) -> list[str]:
    """Servers that something waits for, that are not backed off from and that no worker has."""
    now = now or timezone.now()
    due = Destination.objects.filter(
        Q(next_attempt__isnull=True) | Q(next_attempt__lte=now),
        Q(lease_until__isnull=True) | Q(lease_until__lte=now),
        pending=True,
    )
    return list(due.order_by(F("next_attempt").asc(nulls_last=True)).values_list("server", flat=True)[:MAX_DUE])
