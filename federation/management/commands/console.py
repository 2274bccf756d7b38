"""`manage.py console`: the other commands, line by line in one process.

Starting Python and Django takes a second or so, more than most commands need. Here that is paid once: by a person who
does several things in a row, and by programs that drive a server (`--status` tells them where each answer ends), as
the demo does.
"""

import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import close_old_connections

VERBS = (
    "ban", "create_room", "invite", "invites", "join", "kick", "knock", "knocks", "leave", "members", "rooms", "send",
    "timeline",
)  # fmt: skip


class Command(BaseCommand):
    """Reads commands from standard input until its end."""

    help = "Run commands line by line, as in: send ROOM alice 'Good morning'. `help` lists them; Ctrl-D ends."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--status", action="store_true", help='end each answer with a line "--- STATUS REASON"')

    def handle(self, *args: Any, **options: Any) -> None:
        for line in _lines():
            status, reason = self._run(line)
            close_old_connections()
            if options["status"]:
                self.stdout.write(f"--- {status} {reason}".rstrip())
            elif reason:
                self.stderr.write(reason)
            self.stdout.flush()

    def _run(self, line: str) -> tuple[int, str]:
        """Run one line; its exit status and, when it failed, why."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            return 1, f"{error}."
        if not words:
            return 0, ""
        if words[0] == "help":
            self.stdout.write(f"{', '.join(VERBS)}; each explains itself with --help.")
            return 0, ""
        if words[0] not in VERBS:
            return 1, f"There is no command {words[0]!r}; `help` lists them."
        try:
            call_command(words[0], *words[1:], stdout=self.stdout, stderr=self.stderr)
        except CommandError as error:
            return error.returncode, str(error)
        except SystemExit as end:
            return int(end.code or 0), ""
        return 0, ""


def _lines() -> Iterator[str]:
    """Lines of standard input; at a terminal with a prompt and editing."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415  gives input() its editing, where Python has it
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            yield input(f"{settings.SERVER_NAME}> ")
