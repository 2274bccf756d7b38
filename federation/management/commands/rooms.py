"""`manage.py rooms`: the rooms that this server hosts or takes part in."""

from typing import Any

from federation.management.acting import Acting
from rooms.models import Room
from rooms.overview import members_of, name_of, with_overview


class Command(Acting):
    """Lists rooms."""

    help = "List the rooms that this server hosts or takes part in."

    def act(self, **options: Any) -> None:
        rooms = with_overview(Room.objects.order_by("-created_at", "room_id"))
        self.table(
            ("room", "name", "role", "hub", "members"),
            [(room.room_id, name_of(room), room.role, room.hub_server, members_of(room)) for room in rooms],
        )
