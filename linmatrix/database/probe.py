"""A connection for looking at the database from outside of what serves requests: metrics and health.

Not from the pool: when that is exhausted, the look is wanted most. It gives up soon, and writes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connections

CONNECT_SECONDS = 2
STATEMENT_SECONDS = 2
UNHEARD_SECONDS = 5
"""Without a sign of the database's machine, after which a TCP connection to it is given up."""


@contextmanager
def probe(*, statement_seconds: float = STATEMENT_SECONDS) -> Iterator[psycopg.Cursor[Any]]:
    """A cursor on a read-only connection of its own, each statement of which takes so long at most.

    Raises `psycopg.Error`. A database that is frozen while a statement runs is waited for without end: call it in a
    thread that may hang. A machine that is gone is not, or who looks would not see the one that took its place.
    """
    options = connections["default"].get_connection_params()
    options.pop("context", None)
    options.pop("cursor_factory", None)
    milliseconds = int(1000 * statement_seconds)
    options |= {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": 1000 * UNHEARD_SECONDS,
        "keepalives_idle": 1,
        "keepalives_interval": 1,
        "keepalives_count": UNHEARD_SECONDS,
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        " -c default_transaction_read_only=on",
        "prepare_threshold": None,
    }
    with psycopg.connect(**options, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor
