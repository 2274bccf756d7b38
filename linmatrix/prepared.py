"""The statements that every request runs: bound by PostgreSQL, prepared after a few executions.

Django's cursor writes parameters into the text of a statement, which PostgreSQL then parses and plans each time.
Where a dozen statements make up a request that is a third of what they cost.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Model
from psycopg import Cursor

Row = TypeVar("Row", bound=Model)


def execute(statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement on the thread's connection and give its rows; `%b` takes a parameter in binary form.

    Parameters have no type but the one that the statement gives them: cast them where it leaves that open. Raises
    Django's database errors. Django's execute wrappers see it, its query log does not.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        run = _run
        for wrapper in reversed(connection.execute_wrappers):
            run = partial(wrapper, run)
        run(statement, parameters, False, {"connection": connection, "cursor": cursor})
        return cursor.fetchall() if cursor.description else []


def _run(statement: str, parameters: Sequence[Any] | Mapping[str, Any], many: bool, context: dict[str, Any]) -> None:
    context["cursor"].execute(statement, parameters)


def first(model: type[Row], tail: str, parameters: Sequence[Any]) -> Row | None:
    """The first row of a model's table that a statement finds; `tail` is what follows the table's name."""
    statement, names, converters = _columns_of(model)
    rows = execute(f"{statement} {tail}", parameters)
    if not rows:
        return None
    values = list(rows[0])
    for index, convert in converters:
        values[index] = convert(values[index], None, connection)
    return model.from_db(connection.alias, names, values)


@cache
def _columns_of(model: type[Model]) -> tuple[str, list[str], list[tuple[int, Callable[..., Any]]]]:
    """The start of a statement that gives a model's rows, its fields' names, and how to convert values, by index."""
    fields = model._meta.concrete_fields
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.column or "") for field in fields)  # a concrete field has one
    converters = [(index, field.from_db_value) for index, field in enumerate(fields) if hasattr(field, "from_db_value")]
    statement = f"SELECT {columns} FROM {quote(model._meta.db_table)}"  # noqa: S608  names of ours
    return statement, [field.attname for field in fields], converters
