"""`manage.py verify_export`: whether a room's file holds."""

from pathlib import Path
from typing import Any, TextIO, cast

from django.core.management.base import CommandParser

from federation.management.acting import Acting, Failed
from federation.management.progress import shown_progress
from rooms.export.problems import Problem
from rooms.export.telling import told
from rooms.export.verifying import NotARoom, verify
from rooms.wording import shown


class Command(Acting):
    """Verifies a room's file, without asking anybody. The database is not needed."""

    help = "Check every hash, signature and id in a room's file, its chain and the rules; nobody is asked."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--limit", type=int, default=100, help="problems told one by one (%(default)s)")

    def act(self, **options: Any) -> None:
        problems: list[Problem] = []

        def tell(problem: Problem) -> None:
            if len(problems) < options["limit"]:
                problems.append(problem)

        try:
            with shown_progress(cast(TextIO, self.stderr)) as progress:
                report = verify(options["file"], tell=tell, progress=progress)
        except NotARoom as error:
            raise Failed(str(error)) from None
        except OSError as error:
            raise Failed(f"{options['file']} cannot be read: {error.strerror}") from None
        for line in (*map(str, problems), *told(report)):
            self.screen.print(shown(line, limit=500))
        if report.problems:
            raise Failed(f"The file does not hold: {report.problems.total()} problems.")
