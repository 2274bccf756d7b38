"""What Celery runs for the console."""

from celery import shared_task
from django.utils import timezone

from linmatrix.console import figures


@shared_task
def record_figures() -> None:
    """Write the dashboard's figures of the minutes that are over."""
    figures.record(now=timezone.now())
