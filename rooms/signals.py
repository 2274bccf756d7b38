"""The messages that go up from `rooms`, inside the transaction that appends to a room's line, so that what listeners
write is committed with the events.

`events_appended`: `room` (rooms.models.Room, its row locked), `first_position` and `last_position` (int).

`audience_changed`, before it and only where there is something to say: `room`, `since_position` (int), `users` (the
local users who joined or left at that position or after it), `servers` (those whose stay began or ended there).
"""

from django.dispatch import Signal

events_appended = Signal()
"""Listened to by `federation.receivers`, which marks the room's audience as having something to fetch."""

audience_changed = Signal()
"""Listened to by the same, since servers are told of the devices of those with whom they share a room."""
