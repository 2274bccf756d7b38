"""Django's PostgreSQL backend, whose pool hands out no connection that PostgreSQL has closed.

A PostgreSQL that was restarted leaves the pool of every process full of dead connections, and each of them would fail
the request that gets it. Django's own remedy, `CONN_HEALTH_CHECKS`, asks PostgreSQL before each use: 75 us of this
processor's time and a round trip. But a closed connection needs not be asked. Nothing is ever to be read from one that
is idle, except for its end; that costs 2 us to see.
"""

import select
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection


class DatabaseWrapper(base.DatabaseWrapper):
    """As Django's, with a look at each connection before its use."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection[Any]:
        """A connection from the pool, or without a pool a new one. Raises `OperationalError` when none is to be had in
        time."""
        connection: Connection[Any] = super().get_new_connection(conn_params)
        if not self.pool:
            return connection
        for _ in range(self.pool.max_size):
            if not _has_something_to_read(connection):
                break
            connection.close()
            self.pool.putconn(connection)  # which makes another in its place
            connection = super().get_new_connection(conn_params)
        return connection


def _has_something_to_read(connection: Connection[Any]) -> bool:
    """Whether PostgreSQL has sent something that nobody asked for: a farewell, or the end of the connection.

    A changed setting of a server that was told to read its configuration again comes the same way; that such a
    connection is replaced, too, harms nobody.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
