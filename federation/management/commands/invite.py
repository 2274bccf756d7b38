"""`manage.py invite`: let someone into a room, on whatever server they are."""

from typing import Any

from django.core.management.base import CommandParser

from federation import acting_in_rooms
from federation.management.acting import AsUser, user_id_of


class Command(AsUser):
    """Invites a user."""

    help = "Invite somebody, of this or of another server, to a room."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("invitee", help="who is invited: a full user id, or the localpart of a user of this server")

    def act(self, **options: Any) -> None:
        room = self.room(options["room"])
        invitee = user_id_of(options["invitee"])
        sent = acting_in_rooms.invite(room_id=room.room_id, sender=user_id_of(options["user"]), user_id=invitee)
        self.report(room.room_id, sent, options)
