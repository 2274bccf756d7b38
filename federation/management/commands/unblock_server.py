"""`manage.py unblock_server`: take up again with a server that was blocked."""

from typing import Any

from django.core.management.base import CommandParser

from federation import blocking
from federation.management.acting import Acting


class Command(Acting):
    """Unblocks a server."""

    help = "Take up again with a server that was blocked. What waited for it is sent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("server", help="as it was blocked: a server name or a glob (in quotes)")

    def act(self, **options: Any) -> None:
        blocking.unblock(options["server"])
        self.screen.print(f"Unblocked {options['server']}.")
