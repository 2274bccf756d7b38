"""`manage.py join`: enter a room, wherever it is hosted."""

from typing import Any, TextIO, cast

from django.core.management.base import CommandParser

from federation import acting_in_rooms
from federation.management.acting import AsUser, room_id_of, user_id_of
from federation.management.progress import shown_progress


class Command(AsUser):
    """Joins a user to a room."""

    help = "Join a user of this server to a room, wherever it is hosted."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--via", default="", metavar="SERVER", help="a server to ask first for the room's hub")

    def act(self, **options: Any) -> None:
        room_id = room_id_of(options["room"])
        user_id = user_id_of(options["user"])
        with shown_progress(cast(TextIO, self.stderr)) as progress:
            sent = acting_in_rooms.join(room_id=room_id, user_id=user_id, via=options["via"], progress=progress)
        self.report(room_id, sent, options)
