"""More processes: what 1, 2 and 4 web processes take in, what 1, 2 and 4 workers deliver, and how long they wait for
locks meanwhile.

In the hot room all participants write into one room, which is one row's lock; otherwise each has a room of its own, and
there is no lock that two of them share. Rounds of all numbers take turns; the median counts. PostgreSQL and the
participants run on the same cores, so on a small machine figures stop growing before locks have a part in it.
"""

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.lab import Lab
from bench.measurements import TRANSACTION, settled
from bench.report import Figure
from bench.sizes import Sizes

PROCESSES = (1, 2, 4)
LOOK_SECONDS = 0.02

_BUSY = """
    SELECT count(*) FILTER (WHERE wait_event_type = 'Lock'), count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND state <> 'idle'
    AND pid <> pg_backend_pid()
"""


@dataclass
class Waits:
    """What was seen of the database's busy connections in samples: how many there were, and how many of those waited
    for a lock."""

    busy: int = 0
    waiting: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def share(self) -> float:
        """The part of the time of busy connections that was spent waiting for locks."""
        return self.waiting / self.busy if self.busy else 0.0

    def _watch(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not self._over.wait(LOOK_SECONDS):
                waiting, busy = connection.execute(_BUSY).fetchone() or (0, 0)
                self.waiting += waiting
                self.busy += busy


@contextmanager
def _watched(url: str, waits: Waits) -> Iterator[None]:
    """Look at the database's connections until the block ends."""
    waits._over.clear()
    thread = threading.Thread(target=waits._watch, args=(url,))
    thread.start()
    try:
        yield
    finally:
        waits._over.set()
        thread.join()


@dataclass
class _Shape:
    """What was measured with so many processes."""

    rates: list[float] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)


def measure(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Ingest by web processes, then deliveries by workers."""
    return [*_measure_ingest(lab, sizes), *_measure_delivery(lab, sizes)]


def _measure_ingest(lab: Lab, sizes: Sizes) -> list[Figure]:
    hot = {count: _Shape() for count in PROCESSES}
    many = {count: _Shape() for count in PROCESSES}
    for _ in range(sizes.scaling_rounds):
        for count in PROCESSES:
            lab.set_web_processes(count)
            room_id = lab.new_room()
            _ingest(lab, sizes, hot[count], [room_id] * len(lab.participants))
            _ingest(lab, sizes, many[count], [lab.new_room() for _ in lab.participants])
    lab.set_web_processes(1)
    return [
        *_figures("hot", "Ingest into one hot room by {} web", hot),
        *_figures("many", "Ingest into a room for each participant by {} web", many),
    ]


def _ingest(lab: Lab, sizes: Sizes, shape: _Shape, rooms: list[str]) -> None:
    lab.send(rooms, transactions=sizes.round_transactions, lpdus=TRANSACTION)  # every process has seen the rooms
    with _watched(lab.hub.database_url, shape.waits):
        measured: dict[str, Any] = lab.send(
            rooms, transactions=sizes.scaling_transactions, lpdus=TRANSACTION, warm_up=0
        )
    shape.rates.append(measured["events"] / measured["seconds"])


def _measure_delivery(lab: Lab, sizes: Sizes) -> list[Figure]:
    good = lab.named("good")
    lab.start_answering()
    lab.inside.call("bench.inside.hosting:publish", names=good)
    shapes = {count: _Shape() for count in PROCESSES}
    lab.hub.start_part("beat")
    room_id = lab.new_room(good)
    for _ in range(sizes.scaling_rounds):
        for count in PROCESSES:
            with lab.workers(count):
                settled(lab)
                _deliver(lab, room_id, good, sizes.isolation_messages)  # so that all have connections
                with _watched(lab.hub.database_url, shapes[count].waits):
                    seconds = _deliver(lab, room_id, good, sizes.isolation_messages)
                shapes[count].rates.append(sizes.isolation_messages * len(good) / seconds)
                settled(lab)
    lab.hub.stop_part("beat")
    return _figures("delivery", "Deliveries to 49 servers by {} worker", shapes)


def _deliver(lab: Lab, room_id: str, servers: list[str], messages: int) -> float:
    seconds: float = lab.inside.call(
        "bench.inside.arrivals:measure", room_id=room_id, servers=servers, messages=messages
    )
    return seconds


def _figures(key: str, text: str, shapes: dict[int, _Shape]) -> list[Figure]:
    one = statistics.median(shapes[1].rates)
    figures = []
    for count, shape in shapes.items():
        name, rate = text.format(count), statistics.median(shape.rates)
        figures.append(Figure(f"scaling_{key}_{count}_events_per_s", name, rate))
        if count > 1:
            figures.append(Figure(f"scaling_{key}_{count}_ratio", "  times that of 1", rate / one, "ratio"))
        figures.append(Figure(f"scaling_{key}_{count}_lock_share", "  waiting for locks", shape.waits.share, "ratio"))
    return figures
