"""Statements past Django's cursor behave as those through it where it matters."""

import pytest
from django.db import DatabaseError, connection, transaction

from linmatrix import prepared

pytestmark = pytest.mark.django_db


def test_rows_come_back_and_a_statement_without_rows_gives_none() -> None:
    assert prepared.execute("SELECT number, %s::text FROM unnest(%s::int[]) AS number", ["x", [1, 2]]) == [
        (1, "x"),
        (2, "x"),
    ]
    assert prepared.execute("SET LOCAL lock_timeout = '9s'") == []


def test_errors_are_djangos() -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        prepared.execute("SELECT 1 / %s::int", [0])


def test_a_transaction_that_has_failed_takes_no_more_statements() -> None:
    with transaction.atomic():
        connection.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            prepared.execute("SELECT 1")


def test_a_statement_is_prepared_after_some_executions() -> None:
    statement = "SELECT %s::int + 4711"
    for number in range(10):
        assert prepared.execute(statement, [number]) == [(number + 4711,)]
    names = prepared.execute("SELECT name FROM pg_prepared_statements WHERE statement LIKE '%%4711%%'")
    assert len(names) == 1
