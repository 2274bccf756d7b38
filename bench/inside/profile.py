"""On the hub: the same ingest without web server and network, so that a profiler sees all of it.

The requests go through the bridge's WSGI environ into Django as granian's do, against the same PostgreSQL.
"""

import cProfile
import io
import pstats
import time
from typing import Any

from django.conf import settings

from bench.participants import Participant, SignedRequest
from linmatrix.bridge import build_environ, call_wsgi
from linmatrix.wsgi import application

LINES = 25
WARM_UP = 4


def run(room_id: str, participant: str, transactions: int, lpdus: int) -> dict[str, Any]:
    """Take in transactions twice: for the events per second, and under the profiler, which slows it down.

    The answer has `rate` and `table`, the functions in which most time was spent.
    """
    requests = Participant(participant).transactions(
        room_id, hub=settings.SERVER_NAME, count=WARM_UP + 2 * transactions, lpdus=lpdus
    )
    _take_in(requests[:WARM_UP])
    begun = time.perf_counter()
    _take_in(requests[WARM_UP : WARM_UP + transactions])
    rate = transactions * lpdus / (time.perf_counter() - begun)
    profiler = cProfile.Profile()
    profiler.runcall(_take_in, requests[WARM_UP + transactions :])
    table = io.StringIO()
    pstats.Stats(profiler, stream=table).strip_dirs().sort_stats("tottime").print_stats(LINES)
    return {"rate": rate, "table": table.getvalue()}


def _take_in(requests: list[SignedRequest]) -> None:
    for request in requests:
        headers = [(b"authorization", request.authorization.encode()), (b"content-type", b"application/json")]
        scope = {
            "method": "PUT",
            "path": request.target,
            "raw_path": request.target.encode(),
            "query_string": b"",
            "http_version": "2",
            "scheme": "https",
            "headers": headers,
        }
        response = call_wsgi(application, build_environ(scope, request.body))
        if response.status != 200:
            raise RuntimeError(f"answered {response.status}: {response.body[:1000]!r}")
