"""How many threads of a web process answer requests."""

from django.conf import settings


def web_threads() -> int:
    """As the settings say; 16 by default. Peers call back while they handle our requests, so too few threads could wait
    on each other in a circle. Each one may hold a database connection: web processes times this many must fit
    PostgreSQL's max_connections."""
    threads: int = settings.WEB_THREADS
    return threads
