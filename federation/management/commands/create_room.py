"""`manage.py create_room`: a new room, hosted here."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from federation.management.acting import Acting, user_id_of
from linmatrix.protocol.devices import MLS_ALGORITHM
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from rooms.creation import HISTORY_VISIBILITIES, JOIN_RULES, create_room


class Command(Acting):
    """Creates a room and prints its id."""

    help = "Create a room that this server hosts, and print its id."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--creator", required=True, help="a user of this server, as localpart or full id")
        parser.add_argument("--name", default="", help="what the room is called")
        parser.add_argument("--topic", default="", help="what it is about")
        parser.add_argument("--join-rule", choices=JOIN_RULES, default="invite", help="who may join (%(default)s)")
        parser.add_argument(
            "--history-visibility", choices=HISTORY_VISIBILITIES, default="shared",
            help="who may read what was said before they came (%(default)s)",
        )  # fmt: skip
        parser.add_argument("--encryption", default="", metavar="ALGORITHM", help=f"for good, e.g. {MLS_ALGORITHM}")
        parser.add_argument("--room-version", choices=tuple(ROOM_VERSIONS), default="", help="the server's default")

    def act(self, **options: Any) -> None:
        room = create_room(
            creator=user_id_of(options["creator"]),
            now=timezone.now(),
            name=options["name"],
            topic=options["topic"],
            join_rule=options["join_rule"],
            history_visibility=options["history_visibility"],
            version=options["room_version"],
            encryption=options["encryption"],
        )
        self.screen.print(room.room_id)
