"""Listening to rooms: what was appended has to be sent to the servers that were there."""

from typing import Any

from django.conf import settings
from django.dispatch import receiver

from federation.outbound import mark_pending
from rooms.audience import audience
from rooms.models import Room
from rooms.signals import events_appended


@receiver(events_appended)
def mark_audience(sender: object, *, room: Room, first_position: int, last_position: int, **kwargs: Any) -> None:
    """Mark the servers of a room whose hub we are, in the transaction that appends to it."""
    if room.role == Room.Role.HUB:
        servers = audience(room.room_id, since_position=first_position)
        mark_pending(server for server in servers if server != settings.SERVER_NAME)
