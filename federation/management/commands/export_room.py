"""`manage.py export_room`: a room as a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from django.core.management.base import CommandParser
from django.utils import timezone

from federation.management.acting import Failed, InRoom
from federation.management.progress import shown_progress
from rooms.export.writing import export_room


class Command(InRoom):
    """Writes a room's file."""

    help = "Write a room as JSON lines that `verify_export` can verify and `import_room` take in."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--output", type=Path, metavar="FILE", help="a new file; without it, standard output")

    def act(self, **options: Any) -> None:
        room = self.room(options["room"])
        path: Path | None = options["output"]
        try:
            with (
                shown_progress(cast(TextIO, self.stderr)) as progress,
                _new_file(path) if path else self._stdout() as out,
            ):
                digest = export_room(room.room_id, out, now=timezone.now(), progress=progress)
        except FileExistsError:
            raise Failed(f"{path} exists already; it is not overwritten.") from None
        except OSError as error:
            raise Failed(f"{path or 'standard output'} cannot be written: {error.strerror}") from None
        if path:
            self.table(("file", "sha-256"), [(path, digest)])

    @contextmanager
    def _stdout(self) -> Iterator[BinaryIO]:
        buffer = getattr(self.stdout, "buffer", None)
        if buffer is None:
            raise Failed("Standard output takes no bytes here: give a file with --output.")
        yield buffer
        buffer.flush()


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete, readable by its owner only: it has all messages."""
    if path.exists():
        raise FileExistsError(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a renaming, never over another file
    finally:
        draft.unlink(missing_ok=True)
