"""How many threads of a web process answer requests."""

import os

DEFAULT_THREADS = 16
"""Peers call back while they handle our requests, so too few threads could wait on each other in a circle. Each one may
hold a database connection: web processes times this many must fit PostgreSQL's max_connections."""


def web_threads() -> int:
    """As the environment says, or the default."""
    return int(os.environ.get("LINMATRIX_WEB_THREADS", DEFAULT_THREADS))
