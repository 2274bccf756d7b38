"""`manage.py knock`: ask to be let into a room, wherever it is hosted."""

from typing import Any

from django.core.management.base import CommandParser

from federation import acting_in_rooms
from federation.management.acting import AsUser, room_id_of, user_id_of


class Command(AsUser):
    """Has a user ask for an invite."""

    help = "Ask for an invite to a room whose join rule is knock. Inviting the user says yes, `kick` says no."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("via", nargs="?", default="", help="a server to ask first for the room's hub")
        parser.add_argument("--reason", default="", help="shown to those in the room, who decide")

    def act(self, **options: Any) -> None:
        room_id = room_id_of(options["room"])
        user_id = user_id_of(options["user"])
        sent = acting_in_rooms.knock(room_id=room_id, user_id=user_id, via=options["via"], reason=options["reason"])
        self.report(room_id, sent, options)
