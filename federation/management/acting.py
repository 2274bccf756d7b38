"""What the commands for people share: naming rooms and users, waiting for a hub's answer, and clear failures.

Every command acts through the verbs of `federation.acting_in_rooms`. Whatever refuses is told in one line with exit
status 1, without a traceback. Output is coloured on a terminal, and plain, with tabs between columns, where piped.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TextIO, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from federation.acting_in_rooms import REFUSALS, reason_of, user_id_of, wait_for_echo
from federation.sending import Sent
from linmatrix.protocol.identifiers import is_room_id
from rooms.models import Event, PendingInvite, Room
from rooms.wording import shown

ECHO_SECONDS = 15.0
"""How long a command waits for the hub by default. What is queued stays queued when it stops waiting."""

STILL_WAITING = 3
"""Exit status when the hub has not answered yet: neither success nor refusal."""

MAX_MATCHES = 5

__all__ = ["Acting", "AsUser", "Failed", "InRoom", "room_id_of", "user_id_of"]


class Failed(CommandError):
    """The reason in one line. Django prints it after the name of this class."""

    def __init__(self, reason: str, *, returncode: int = 1) -> None:
        super().__init__(shown(reason, limit=500), returncode=returncode)


class Acting(BaseCommand):
    """A command whose subclasses implement `act`."""

    requires_system_checks = ()
    suppressed_base_arguments = {"--version", "--verbosity", "--settings", "--pythonpath", "--traceback"}
    screen: Console

    def handle(self, *args: Any, **options: Any) -> None:
        """Run `act`, with everything that can go wrong on the way turned into one line."""
        self.stdout.ending = ""
        # What libraries warn of on the way is in that line, or of no interest here.
        logging.disable(logging.WARNING)
        self.screen = Console(
            file=cast(TextIO, self.stdout),
            force_terminal=True if options["force_color"] else None,
            no_color=options["no_color"] or None,
            highlight=False,
            soft_wrap=True,
            emoji=False,
            markup=False,
        )
        try:
            self.act(**options)
        except Room.DoesNotExist:
            raise Failed("This server does not know that room; `rooms` lists those that it knows.") from None
        except REFUSALS as refusal:
            raise Failed(reason_of(refusal)) from None
        except ImproperlyConfigured as error:
            raise Failed(f"{error} (is DATABASE_URL set?)") from None
        finally:
            logging.disable(logging.NOTSET)

    def act(self, **options: Any) -> None:
        """Do what the command is for. May raise whatever `handle` knows how to tell."""
        raise NotImplementedError

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows: as a table on a terminal, else tab-separated without the columns' names."""
        texts = [[shown(cell, limit=500) for cell in row] for row in rows]
        if not self.screen.is_terminal:
            for row in texts:
                self.stdout.write("\t".join(row), ending="\n")  # a rich console would replace the tabs
            return
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in texts:
            table.add_row(*(Text(cell, overflow="fold") for cell in row))
        self.screen.print(table, soft_wrap=False)


class InRoom(Acting):
    """A command about a room."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "room", help="room id; the beginning is enough where it is unambiguous, and ! may be left out"
        )

    @staticmethod
    def room(text: str) -> Room:
        """The room that an argument names, which this server must know."""
        return Room.objects.get(room_id=room_id_of(text))


class AsUser(InRoom):
    """A command with which a local user does something in a room."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", help="who does it: a user of this server, as localpart or full id")
        parser.add_argument("--no-wait", action="store_true", help="do not wait for the hub of a room hosted elsewhere")
        parser.add_argument(
            "--timeout", type=float, default=ECHO_SECONDS, metavar="SECONDS", help="how long to wait (%(default)g)"
        )

    def report(self, room_id: str, sent: Sent, options: dict[str, Any]) -> None:
        """Print the event's id; for a room hosted elsewhere first wait for the hub's decision.

        Raises `Failed` with the hub's reason when it refused, or when it has not decided in time.
        """
        if sent.event_id or sent.taken or options["no_wait"]:
            self.screen.print(sent.event_id or sent.lpdu_id)
            return
        result = wait_for_echo(room_id, sent.lpdu_id, seconds=options["timeout"])
        if result.refused:
            raise Failed(f"The hub refused it: {result.refused}")
        if not result.settled:
            raise Failed(
                f"The hub has not answered within {options['timeout']:g} s. It will be asked again: {sent.lpdu_id} "
                "stays queued.",
                returncode=STILL_WAITING,
            )
        self.screen.print(result.event_id)
        if result.verdict == Event.Verdict.REJECTED:
            raise Failed("The hub took it, but it does not pass this server's own checks; it takes no effect here.")


def room_id_of(text: str) -> str:
    """A room id from what a person types: in full, or the beginning of one that this server has heard of."""
    start = text if text.startswith("!") else f"!{text}"
    if is_room_id(start):
        return start
    known = Room.objects.filter(room_id__startswith=start).values_list("room_id", flat=True)
    invited = PendingInvite.objects.filter(room_id__startswith=start).values_list("room_id", flat=True)
    matches = sorted({*known[:MAX_MATCHES], *invited[:MAX_MATCHES]})
    if not matches:
        raise Failed(f"No room begins with {start}; `rooms` and `invites` list those that this server knows.")
    if len(matches) > 1:
        raise Failed(f"More than one room begins with {start}: {', '.join(matches)}")
    return matches[0]
