"""What Celery does for the app, on the schedule in the settings."""

from celery import shared_task

from keys import leases
from keys.clock import now_ms


@shared_task
def prune_key_fetches() -> None:
    """Forget about servers that nobody needed keys of for a day."""
    leases.prune(now_ms=now_ms())
