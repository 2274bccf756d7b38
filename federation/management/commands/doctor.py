"""`manage.py doctor [PEER]`: what is wrong with this server, in plain words."""

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from federation.doctor.examination import examine
from federation.doctor.finding import Finding
from linmatrix.protocol.identifiers import is_server_name


class Command(BaseCommand):
    """Looks at this server from inside, from outside as a peer does, and at a peer. It changes nothing."""

    help = (
        "Say what is wrong with this server: from inside, from outside as another server comes to it, and, where one "
        "is named, with a peer. Exit status 1 if anything is wrong."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("peer", nargs="?", help="another server, whose keys are fetched and who is asked something")
        parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")

    def handle(self, *, peer: str | None, json: bool, **_options: Any) -> None:
        if peer is not None and not is_server_name(peer):
            self.stderr.write(f"{peer!r} cannot be a server's name.")
            sys.exit(1)
        if peer == settings.SERVER_NAME:
            self.stderr.write(f"{peer} is this server: it is looked at in any case. Name another one.")
            sys.exit(1)
        show = self._line if json else self._row
        self._console = Console(file=self.stdout, highlight=False, markup=False, soft_wrap=False)  # type: ignore[arg-type]
        wrong = 0
        for about, finding in examine(peer):
            show(about, finding)
            wrong += not finding.ok
        if not json:
            self._console.print(f"{wrong} to be put right." if wrong else "All is well.")
        if wrong:
            sys.exit(1)

    def _line(self, about: str, finding: Finding) -> None:
        self.stdout.write(json.dumps({"about": about, **finding.as_json()}))

    def _row(self, about: str, finding: Finding) -> None:
        table = Table(show_header=False, box=None, padding=(0, 1), expand=False)
        table.add_column(width=2)
        table.add_column(width=8)
        table.add_column(overflow="fold")
        mark = ("✔", "green") if finding.ok else ("✘", "bold red")
        table.add_row(mark[0], about, f"{finding.subject}: {finding.says}", style=mark[1] if not finding.ok else "")
        if finding.advice:
            table.add_row("", "", finding.advice, style="yellow")
        self._console.print(table)
