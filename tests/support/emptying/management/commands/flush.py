"""`flush`, which Django runs after each test that commits: delete the rows there are, and keep what migrations made.

Django's truncates every table, each of which PostgreSQL then makes anew with its indexes, and writes all permissions
again: some 100 ms for a handful of rows, and most of what a short test takes.
"""

from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.commands.flush import Command as FlushCommand
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder

MADE_BY_MIGRATIONS = (Permission, ContentType, MigrationRecorder.Migration)


class Command(FlushCommand):
    """With the options of Django's, of which only the database counts."""

    def handle(self, **options: Any) -> None:
        """Delete all rows of a database. Foreign keys are checked at the commit, when all are gone."""
        connection = connections[options["database"]]
        kept = {model._meta.db_table for model in MADE_BY_MIGRATIONS}
        tables = [connection.ops.quote_name(name) for name in set(connection.introspection.table_names()) - kept]
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(";".join(f"DELETE FROM {table}" for table in tables))  # noqa: S608  names of tables
