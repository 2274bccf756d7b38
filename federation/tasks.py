"""What Celery runs: deliver to one server, and find the servers that nobody was woken for.

What waits for another server takes a place first (`federation.places`). Without one it is left for the sweep.
"""

from typing import Any

from celery import shared_task
from celery.signals import worker_init
from django.utils import timezone

from federation import delivery, devices, gaps, housekeeping, withdrawals
from federation.client import federation_client
from federation.edus import spreading
from federation.places import places
from federation.sweeping import SWEEP_SECONDS, due_destinations
from federation.wake import BEHIND, FIRST, alarm_clock
from linmatrix.health import pulse
from linmatrix.protocol.identifiers import domain_of

WAKE_TOGETHER = 50
"""Servers of a large audience that are woken one after the other: some tenths of a second for a worker."""


@worker_init.connect
def _share_out_threads(sender: Any, **_: object) -> None:
    """Learn from the worker that starts how many threads it has."""
    places.share_out(sender.concurrency)


@shared_task
def deliver(server: str) -> None:
    """Deliver to a server, and come back to it when that is due soon."""
    with places.take(server) as place:
        if place is None:
            return
        again = delivery.deliver(server, send=place.timed(delivery.over_http(federation_client())))
    if again is not None:
        alarm_clock.wake([server], after=again, priority=BEHIND if again == delivery.TURN_OVER else FIRST)


@shared_task
def wake_all(servers: list[str]) -> None:
    """Wake a worker for each of many servers: for some of them, and then in turn with what else there is to do.

    Messages are taken in their order. All at once, those of one enormous room would be before those of all others.
    """
    for server in servers[:WAKE_TOGETHER]:
        alarm_clock.wake([server])
    if rest := servers[WAKE_TOGETHER:]:
        alarm_clock.publish("federation.tasks.wake_all", [rest])


@shared_task
def sweep() -> None:
    """Wake workers for destinations, gaps and leaves that are due, whatever was lost; a sign of life, too.

    Slow servers, as far as this process knows them, are only woken for as many as it has places for. Where other
    workers have more, the sweep comes to them, too.
    """
    pulse.give(pulse.WORKER)
    for server in places.admit(due_destinations()):
        alarm_clock.wake([server], expires=SWEEP_SECONDS)
    for gap_id in gaps.due_gaps():
        alarm_clock.publish("federation.tasks.fill_gap", [gap_id], expires=SWEEP_SECONDS)
    for leave_id in withdrawals.due_leaves():
        alarm_clock.publish(withdrawals.TASK, [leave_id], expires=SWEEP_SECONDS)
    if spreading.notices_wait():
        spreading.wake(expires=SWEEP_SECONDS)
    for user_id in devices.due_lists(now=timezone.now()):
        alarm_clock.publish("federation.tasks.fetch_devices", [user_id], expires=SWEEP_SECONDS)


@shared_task
def keep_house() -> None:
    """Delete what nothing needs any more."""
    housekeeping.keep_house(now=timezone.now())


@shared_task
def fill_gap(gap_id: int) -> None:
    """Fetch history into a gap of a room's line, and go on with it where one turn was not enough."""
    with places.take(gaps.hub_of(gap_id)) as place:
        if place is None:
            return
        progress = gaps.fill_gap(gap_id, fetch=place.timed(gaps.fetch_page))
    if progress is gaps.Progress.MORE:
        alarm_clock.publish("federation.tasks.fill_gap", [gap_id])


@shared_task
def fetch_devices(user_id: str) -> None:
    """Fetch what is known of another server's user and is not to be relied on."""
    with places.take(domain_of(user_id)) as place:
        if place is not None:
            place.timed(devices.refetch)(user_id, now=timezone.now())


@shared_task
def send_leave(leave_id: int) -> None:
    """Tell a hub of a user who refused its invite or took a knock back."""
    with places.take(withdrawals.hub_of(leave_id)) as place:
        if place is not None:
            place.timed(withdrawals.attempt)(leave_id)


@shared_task
def spread_device_lists(seconds: float) -> None:
    """Work out for about so long whom to tell of which devices."""
    if spreading.spread(seconds=seconds):
        spreading.wake()
