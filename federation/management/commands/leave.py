"""`manage.py leave`: leave a room, decline an invite to one, or take back a knock."""

from typing import Any

from django.core.management.base import CommandParser

from federation import acting_in_rooms
from federation.management.acting import AsUser, room_id_of, user_id_of


class Command(AsUser):
    """Takes a user out of a room."""

    help = "Leave a room, decline an invite to one, or take back a knock; the last two work without the hub, too."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", default="", help="shown to the others in the room")

    def act(self, **options: Any) -> None:
        room_id = room_id_of(options["room"])
        sent = acting_in_rooms.leave(room_id=room_id, user_id=user_id_of(options["user"]), reason=options["reason"])
        if sent.lpdu_id or sent.event_id:
            self.report(room_id, sent, options)
        else:
            self.screen.print("Done here; the hub is told as soon as it can be reached.")
