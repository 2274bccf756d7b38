"""`manage.py members`: who is in a room."""

from typing import Any

from django.core.management.base import CommandParser

from federation.management.acting import InRoom
from rooms.state import members

_WORDS = {"join": "joined", "invite": "invited", "knock": "asks to be let in", "ban": "banned", "leave": "left"}
_ORDER = tuple(_WORDS)


class Command(InRoom):
    """Lists a room's members."""

    help = "List who is in a room, invited to it or banned from it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all", action="store_true", help="also those who have left")

    def act(self, **options: Any) -> None:
        memberships = members(self.room(options["room"]).room_id)
        wanted = _ORDER if options["all"] else _ORDER[:-1]
        rows = [(wanted.index(value), user_id) for user_id, value in memberships.items() if value in wanted]
        self.table(("user", "membership"), [(user_id, _WORDS[wanted[rank]]) for rank, user_id in sorted(rows)])
