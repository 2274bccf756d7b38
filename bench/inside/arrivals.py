"""On the hub: how long until what is said in a room has arrived at some of its servers."""

import time

from django.conf import settings
from django.utils import timezone

from bench.inside.hosting import TEXT
from bench.participants import now_ms
from federation import pausing
from federation.models import Destination
from linmatrix.protocol.completion import new_event
from rooms.hub import append_own
from rooms.models import Room, RoomServer

ARRIVAL_SECONDS = 300.0
POLL_SECONDS = 0.005
BATCH = 50


def measure(room_id: str, servers: list[str], messages: int) -> float:
    """Seconds from the first of so many messages until these servers have acknowledged all of them."""
    begun = time.monotonic()
    for first in range(0, messages, BATCH):
        append_own(room_id, [_message(room_id, n) for n in range(min(BATCH, messages - first))], now=timezone.now())
    head = Room.objects.values_list("head_position", flat=True).get(room_id=room_id)
    missing = RoomServer.objects.filter(room_id=room_id, server__in=servers, sent_position__lt=head)
    while missing.exists():
        if time.monotonic() - begun > ARRIVAL_SECONDS:
            raise RuntimeError(f"{missing.count()} servers do not have everything after {ARRIVAL_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - begun


def _message(room_id: str, number: int) -> dict[str, object]:
    return new_event(
        room_id=room_id,
        sender=f"@host:{settings.SERVER_NAME}",
        type="m.room.message",
        content={"msgtype": "m.text", "body": f"{number:08} {TEXT}"},
        origin_server_ts=now_ms(),
    )


def behind(room_id: str) -> int:
    """How many servers of a room have not everything yet."""
    head = Room.objects.values_list("head_position", flat=True).get(room_id=room_id)
    return (
        RoomServer.objects.filter(room_id=room_id, sent_position__lt=head).exclude(server=settings.SERVER_NAME).count()
    )


def hold(servers: list[str]) -> None:
    """Send these servers nothing until they are let go."""
    for server in servers:
        pausing.pause(server, reason="the benchmark compares with this", now=timezone.now())


def let_go(servers: list[str]) -> None:
    """Go on sending to them, and to all of them now."""
    Destination.objects.filter(server__in=servers).update(next_attempt=None)
    for server in servers:
        pausing.resume(server)


def sending() -> int:
    """Servers that something is being sent to, or that a worker has not given back yet."""
    return Destination.objects.filter(lease_until__gt=timezone.now()).count()


def failing() -> int:
    """Servers of which the last attempt failed."""
    return Destination.objects.filter(failures__gt=0).count()


def forgive() -> int:
    """Have those be tried again by the next sweep; how many there were."""
    return Destination.objects.filter(failures__gt=0).update(failures=0, next_attempt=None)
