"""What Celery runs: deliver to one server, and find the servers that nobody was woken for."""

from celery import shared_task

from federation import delivery, gaps, withdrawals
from federation.client import federation_client
from federation.sweeping import SWEEP_SECONDS, due_destinations
from federation.wake import alarm_clock


@shared_task
def deliver(server: str) -> None:
    """Deliver to a server, and come back to it when that is due soon."""
    again = delivery.deliver(server, send=delivery.over_http(federation_client()))
    if again is not None:
        alarm_clock.wake([server], after=again)


@shared_task
def wake_all(servers: list[str]) -> None:
    """Wake a worker for each of many servers."""
    for server in servers:
        alarm_clock.wake([server])


@shared_task
def sweep() -> None:
    """Wake workers for destinations, gaps and leaves that are due, whatever was lost."""
    for server in due_destinations():
        alarm_clock.wake([server], expires=SWEEP_SECONDS)
    for gap_id in gaps.due_gaps():
        alarm_clock.publish("federation.tasks.fill_gap", [gap_id], expires=SWEEP_SECONDS)
    for leave_id in withdrawals.due_leaves():
        alarm_clock.publish(withdrawals.TASK, [leave_id], expires=SWEEP_SECONDS)


@shared_task
def fill_gap(gap_id: int) -> None:
    """Fetch history into a gap of a room's line, and go on with it where one turn was not enough."""
    if gaps.fill_gap(gap_id) is gaps.Progress.MORE:
        alarm_clock.publish("federation.tasks.fill_gap", [gap_id])


@shared_task
def send_leave(leave_id: int) -> None:
    """Tell a hub of a user who refused its invite or took a knock back."""
    withdrawals.attempt(leave_id)
