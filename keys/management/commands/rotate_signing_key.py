"""`manage.py rotate_signing_key`: let a new key sign for this server."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from keys import local
from keys.clock import now_ms
from keys.key_file import NotTheSigningKey


class Command(BaseCommand):
    """Rotates, and prints the id of the new key. Running processes take it up by themselves."""

    help = (
        "Let a new key sign for this server. The one before is published as old, so that what it signed stays valid; "
        "its private half is deleted. Running processes take the new key up by themselves."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--replace",
            metavar="KEY_ID",
            help="rotate only if this key signs now, so that a script which runs twice rotates once",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Rotate. CommandError if the key file cannot be read or replaced, or another key signs than the one given."""
        try:
            replaced = options["replace"] or local.signing_key().key_id
            keys = local.rotate(replaced=replaced, now_ms=now_ms())
        except NotTheSigningKey as error:
            raise CommandError(f"Nothing was changed: {error}.") from None
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        self.stdout.write(keys.signing.key_id)
