"""`manage.py import_room`: a room out of a file."""

from pathlib import Path
from typing import Any, TextIO, cast

from django.core.management.base import CommandParser
from django.utils import timezone

from federation.management.acting import Acting, Failed
from federation.management.progress import shown_progress
from rooms.importing import Imported, NeedsConsent, NotARoom, Refused, import_room
from rooms.models import Room
from rooms.wording import shown

MAX_RISK = 3000
"""Characters: some names of servers with their keys."""


class Command(Acting):
    """Takes a room in from its file."""

    help = (
        "Verify a room's file and take it in: hosted here again, taken part in again, or as a blocked room to look at. "
        "A room that is known gets what its line lacks."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--i-know", action="store_true", help="take the risks that the command has told of")

    def act(self, **options: Any) -> None:
        try:
            with shown_progress(cast(TextIO, self.stderr)) as progress:
                imported = import_room(
                    options["file"], now=timezone.now(), consent=options["i_know"], progress=progress
                )
        except NeedsConsent as refusal:
            for risk in refusal.risks:
                self.screen.print(shown(risk, limit=MAX_RISK))
            raise Failed("Not taken in. If that is known and wanted, repeat the command with --i-know.") from None
        except (Refused, NotARoom) as refusal:
            raise Failed(str(refusal)) from None
        except OSError as error:
            raise Failed(f"{options['file']} cannot be read: {error.strerror}") from None
        self.screen.print(_told(imported))


def _told(imported: Imported) -> str:
    room = imported.room
    if not imported.new_events:
        return f"{room.room_id}: all of it is here already."
    if room.role == Room.Role.HUB:
        place = "hosted here"
    elif room.blocked:
        place = "an archive, blocked: to be looked at"
    else:
        place = f"this server takes part; its hub is {room.hub_server}"
    return f"{room.room_id}: {imported.new_events} events, {place}."
