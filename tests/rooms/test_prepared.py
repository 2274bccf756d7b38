"""Statements past Django's cursor behave as those through it where it matters."""

from collections.abc import Callable

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from federation.models import Destination, OutboundTransaction
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


def test_execute_wrappers_see_a_statement_and_may_stop_it() -> None:
    seen: list[object] = []

    def note(execute: Callable[..., object], statement: str, parameters: object, *rest: object) -> object:
        seen.append((statement, parameters))
        return execute(statement, parameters, *rest)

    with connection.execute_wrapper(note):
        assert prepared.execute("SELECT %s::int", [1]) == [(1,)]
    assert seen == [("SELECT %s::int", [1])]
    with connection.execute_wrapper(connection_blocker), pytest.raises(RuntimeError):
        prepared.execute("SELECT 1")


def connection_blocker(*_arguments: object) -> object:
    raise RuntimeError("no statements here")


def test_a_models_row_comes_as_the_model_gives_it() -> None:
    destination = Destination.objects.create(server="part.example.org", last_success_at=timezone.now())
    row = OutboundTransaction.objects.create(
        destination=destination, txn_id="1", path="/", body=b"\x00", cursors=[[1, 2]], lpdus=[], events=1
    )
    for model, key in ((Destination, "part.example.org"), (OutboundTransaction, row.pk)):
        found = prepared.first(model, f"WHERE {model._meta.pk.column} = %s", [key])
        expected = model.objects.get(pk=key)
        assert found == expected
        assert [getattr(found, field.attname) for field in model._meta.fields] == [
            getattr(expected, field.attname) for field in model._meta.fields
        ]


def test_no_row_is_none() -> None:
    assert prepared.first(Destination, "WHERE server = %s", ["other.example.org"]) is None
