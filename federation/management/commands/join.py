"""`manage.py join`: enter a room, wherever it is hosted."""

from typing import Any

from django.core.management.base import CommandParser

from federation import handshakes
from federation.management.acting import AsUser, room_id_of, user_id_of


class Command(AsUser):
    """Joins a user to a room."""

    help = "Join a user of this server to a room, wherever it is hosted."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--via", default="", metavar="SERVER", help="a server to ask first for the room's hub")

    def act(self, **options: Any) -> None:
        room_id = room_id_of(options["room"])
        sent = handshakes.join(room_id=room_id, user_id=user_id_of(options["user"]), via=options["via"])
        self.report(room_id, sent, options)
