"""What a process that runs for long does for its metrics: look after its own gauges, and listen where it is told to.

`begin` is called once by each web process, worker and beat. Gauges of the connection pool are taken every few seconds,
since a scrape may reach another process, which sees only what this one has written down.
"""

import logging
import os
import threading
import time

from django.db import connections

from linmatrix.metrics import listener
from linmatrix.metrics.instruments import database_connections, database_waiting, threads

logger = logging.getLogger(__name__)

EVERY_SECONDS = 2.0


def begin(kind: str, *, number_of_threads: int) -> None:
    """Take part in the metrics, as a process of this kind with so many threads for its work."""
    if number_of_threads:
        threads.labels(kind).set(number_of_threads)
    threading.Thread(target=_keep_gauges, name="gauges", daemon=True).start()
    where = listener.begin()
    logger.info("%s process %s has begun%s", kind, os.getpid(), f", metrics are on port {where}" if where else "")


def _keep_gauges() -> None:
    while True:
        note_pool()
        time.sleep(EVERY_SECONDS)


def note_pool() -> None:
    """Take the gauges of the connection pool, if there is one that has been used."""
    pools = getattr(connections["default"], "_connection_pools", {})
    pool = pools.get("default")
    if pool is None:
        return
    stats = pool.get_stats()
    idle = stats.get("pool_available", 0)
    database_connections.labels("used").set(max(0, stats.get("pool_size", 0) - idle))
    database_connections.labels("idle").set(idle)
    database_connections.labels("most").set(stats.get("pool_max", 0))
    database_waiting.set(stats.get("requests_waiting", 0))
