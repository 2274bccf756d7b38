"""The statements that every request runs: bound by PostgreSQL, prepared after a few executions.

Django's cursor writes parameters into the text of a statement, which PostgreSQL then parses and plans each time.
Where a dozen statements make up a request that is a third of what they cost.
"""

from collections.abc import Sequence
from typing import Any

from django.db import connection
from psycopg import Cursor


def execute(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement on the thread's connection and give its rows; `%b` takes a parameter in binary form.

    Parameters have no type but the one that the statement gives them: cast them where it leaves that open. Raises
    Django's database errors. Query logs of Django do not show it.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []
