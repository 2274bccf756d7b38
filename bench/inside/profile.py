"""On the hub: the same ingest without web server and network, so that a profiler sees all of it.

The requests go through the bridge's WSGI environ into Django as granian's do, against the same PostgreSQL.
"""

import cProfile
import io
import pstats
import time
from collections import defaultdict
from typing import Any

from django.conf import settings

from bench.participants import Participant, SignedRequest
from linmatrix.bridge import build_environ, call_wsgi
from linmatrix.wsgi import application

LINES = 25
WARM_UP = 4
WAITING = "waiting for PostgreSQL"
LAYERS = (
    (("connection.py", "wait"), WAITING),
    (("/nacl/", ""), "signatures"),
    (("/linmatrix/protocol/", ""), "the protocol in Python"),
    (("/psycopg", ""), "database driver"),
    (("/django/", ""), "Django"),
    (("/rest_framework/", ""), "REST framework"),
    (("/rooms/", ""), "rooms"),
    (("/federation/", ""), "federation"),
    (("/keys/", ""), "keys"),
)
"""What a function belongs to: by a part of its file's path, and the end of its name."""

Function = tuple[str, int, str]


def run(room_id: str, participant: str, transactions: int, lpdus: int) -> dict[str, Any]:
    """Take in transactions twice: for the time that an event takes, and under the profiler, which slows it down.

    The answer has microseconds by the clock (`wall_us`) and of the processor (`cpu_us`) for an event, the share of
    the profiled time by layer (`layers`), and the functions in which most of it was spent (`table`).
    """
    requests = Participant(participant).transactions(
        room_id, hub=settings.SERVER_NAME, count=WARM_UP + 2 * transactions, lpdus=lpdus
    )
    _take_in(requests[:WARM_UP])
    wall, cpu = time.perf_counter(), time.process_time()
    _take_in(requests[WARM_UP : WARM_UP + transactions])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    profiler = cProfile.Profile()
    profiler.runcall(_take_in, requests[WARM_UP + transactions :])
    table = io.StringIO()
    stats = pstats.Stats(profiler, stream=table)
    layers = _layers(stats)
    stats.strip_dirs().sort_stats("tottime").print_stats(LINES)
    microseconds = 1e6 / (transactions * lpdus)
    return {
        "wall_us": wall * microseconds,
        "cpu_us": cpu * microseconds,
        "layers": layers,
        "table": table.getvalue(),
    }


def _layers(stats: pstats.Stats) -> dict[str, float]:
    """The share of all time that each layer's own functions took, with the built-in ones that they called."""
    times: dict[str, float] = defaultdict(float)
    entries: dict[Function, tuple[int, int, float, float, dict[Function, tuple[int, int, float, float]]]]
    entries = stats.stats  # type: ignore[attr-defined]
    for function, (_, _, own, _, callers) in entries.items():
        if function[0] != "~":
            times[_layer(function)] += own
            continue
        for caller, (_, _, own_for_caller, _) in callers.items():
            times[_layer(caller)] += own_for_caller
    total = sum(times.values())
    return {layer: seconds / total for layer, seconds in sorted(times.items(), key=lambda item: -item[1])}


def _layer(function: Function) -> str:
    file, _, name = function
    return next((layer for (path, end), layer in LAYERS if path in file and name.endswith(end)), "other")


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
