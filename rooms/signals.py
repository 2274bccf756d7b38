"""The one message that goes up from `rooms`: events were appended to a room's line.

Sent inside the transaction that appends, so that what listeners write is committed with the events.
Arguments: `room` (rooms.models.Room, its row locked), `first_position` and `last_position` (int).
"""

from django.dispatch import Signal

events_appended = Signal()
"""Listened to by `federation.receivers`, which marks the room's audience as having something to fetch."""
