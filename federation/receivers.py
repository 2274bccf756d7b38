"""Listening to rooms and to devices: what happened there has to be told to other servers."""

from typing import Any

from django.conf import settings
from django.dispatch import receiver

from federation.edus import inbox, spreading
from federation.outbound import mark_pending
from keys.signals import device_list_changed
from rooms.audience import audience
from rooms.models import Room
from rooms.signals import audience_changed, events_appended


@receiver(events_appended)
def mark_audience(sender: object, *, room: Room, first_position: int, last_position: int, **kwargs: Any) -> None:
    """Mark the servers of a room whose hub we are, in the transaction that appends to it."""
    if room.role == Room.Role.HUB:
        servers = audience(room.room_id, since_position=first_position)
        mark_pending(server for server in servers if server != settings.SERVER_NAME)


@receiver(audience_changed)
def note_moves(
    sender: object, *, room: Room, since_position: int, users: set[str], servers: set[str], **kwargs: Any
) -> None:
    """Note who joined or left, in the transaction that appends it: servers are told of devices by it."""
    spreading.note_moves(room.room_id, since_position=since_position, users=users, servers=servers)


@receiver(device_list_changed)
def note_change(sender: object, *, user_id: str, **kwargs: Any) -> None:
    """Note that a user's devices changed, and empty the inboxes of those that are gone, in the same transaction."""
    inbox.discard_gone(user_id)
    spreading.note_change(user_id)
