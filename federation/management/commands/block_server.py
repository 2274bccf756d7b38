"""`manage.py block_server`: have nothing to do with a server any more."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from federation import blocking
from federation.management.acting import Acting


class Command(Acting):
    """Blocks a server."""

    help = (
        "Block a server, or all that a glob of host names matches: its requests are refused, and it gets none. "
        "Rooms stay as they are."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("server", help="a server name, or a glob such as *.example.org (in quotes)")
        parser.add_argument("--reason", default="", help="for other operators; no server is told")

    def act(self, **options: Any) -> None:
        row = blocking.block(options["server"], reason=options["reason"], by="", now=timezone.now())
        self.screen.print(f"Blocked {row}. All processes know within {blocking.STALE_SECONDS:.0f} seconds.")
