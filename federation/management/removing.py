"""Ending the membership of somebody else: what `kick` and `ban` share."""

from typing import Any, ClassVar

from django.core.management.base import CommandParser

from federation.acting_in_rooms import change_membership
from federation.management.acting import AsUser, user_id_of


class Removing(AsUser):
    """Sends a membership event about another user than its sender."""

    membership: ClassVar[str]

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("target", help="whom: a full user id, or the localpart of a user of this server")
        parser.add_argument("--reason", default="", help="shown to everybody in the room")

    def act(self, **options: Any) -> None:
        room = self.room(options["room"])
        sent = change_membership(
            room_id=room.room_id,
            sender=user_id_of(options["user"]),
            user_id=user_id_of(options["target"]),
            membership=self.membership,
            reason=options["reason"],
        )
        self.report(room.room_id, sent, options)
