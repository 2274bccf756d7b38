"""What another server may see of a room's events (decisions 59 to 61).

A server's relation to a room is its stays in it. Without one, nothing exists (404). Within one, and in what
came before it, events exist; their contents show where the room's history visibility at that event lets
them, and else the redacted copy is served. While a server is in the room, state is shown in full: names and
authorization need it.
"""

from dataclasses import dataclass

from linmatrix.protocol.state import HISTORY_VISIBILITY
from rooms.models import Event, Room, RoomServer
from rooms.state import entries_before
from rooms.state_events import state_events

OPEN = ("world_readable", "shared")
"""Visibilities under which whoever is in the room reads all of its past."""


@dataclass(frozen=True, slots=True)
class View:
    """What one server may see of one room: its stays, as (joined, left or None) positions."""

    room: Room
    stays: tuple[tuple[int, int | None], ...]

    @classmethod
    def of(cls, room: Room, server: str) -> "View":
        """The view of `server`; of a server that never was in the room it is empty."""
        stays = RoomServer.objects.filter(room=room, server=server).order_by("joined_position")
        return cls(room, tuple(stays.values_list("joined_position", "left_position")))

    @property
    def takes_part(self) -> bool:
        """Whether the server is in the room now."""
        return bool(self.stays) and self.stays[-1][1] is None

    def shows(self, position: int) -> bool:
        """Whether the server may know that there is an event at `position`: up to the end of its last stay."""
        if not self.stays:
            return False
        left = self.stays[-1][1]
        return left is None or position <= left

    def shows_content(self, event: Event) -> bool:
        """Whether the server may read the event at its position in full."""
        position = event.position
        if position is None or not self.shows(position):
            return False
        if self.takes_part and event.state_key is not None:
            return True
        if any(joined <= position and (left is None or position <= left) for joined, left in self.stays):
            return True
        return self._visibility_before(position) in OPEN or event.type == "m.mls.commit"

    def _visibility_before(self, position: int) -> str:
        type_, state_key = HISTORY_VISIBILITY
        entry = entries_before(self.room, position).filter(type=type_, state_key=state_key).first()
        if entry is None:
            return "shared"
        value = state_events.get_many([entry.event_id])[entry.event_id].content.get("history_visibility")
        return value if value in (*OPEN, "invited", "joined") else "shared"
