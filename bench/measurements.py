"""The measurements, one function each: what they do with a lab, and the figures that come of it."""

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from bench import floor
from bench.cpu import reset_web_peak, web_peak_bytes, web_seconds
from bench.lab import Lab
from bench.report import Figure
from bench.sizes import Sizes
from linmatrix.stack.errors import StackError

TRANSACTION = 50
"""LPDUs of a full transaction (draft, `PUT send`)."""

ESTIMATE = 10
"""Transactions of each participant from which the speed is estimated; they warm the hub up, too."""

DRAIN_SECONDS = 300.0

FIRST_PAGE = 110
"""A position with a full page of events before it, at the beginning of a long room."""

MB = 1_000_000


def measure_floor(sizes: Sizes) -> list[Figure]:
    """The floor by itself."""
    return _floor_figures([floor.measure(sizes.floor_seconds) for _ in range(sizes.ingest_rounds)])


def _floor_figures(floors: Sequence[floor.Floor]) -> list[Figure]:
    primitives = statistics.median(item.primitives for item in floors)
    protocol = statistics.median(item.protocol for item in floors)
    return [
        Figure("floor_events_per_s", "Crypto floor of one core", primitives),
        Figure("protocol_events_per_s", "  in the protocol's functions", protocol),
    ]


def measure_ingest(lab: Lab, sizes: Sizes) -> list[Figure]:
    """A hub's web process taking in full transactions into one room, no worker beside it.

    Floor and ingest take turns, and each round of ingest is compared with the floors before and after it, since a
    machine's speed drifts; the median round counts.
    """
    room_id = lab.new_room()
    transactions = _enough(lab, room_id, sizes.ingest_seconds)
    floors, rounds = [floor.measure(sizes.floor_seconds)], []
    for _ in range(sizes.ingest_rounds):
        cpu = web_seconds(lab.hub.port)
        measured = lab.send(room_id, transactions=transactions, lpdus=TRANSACTION, warm_up=0)
        measured["cpu"] = (web_seconds(lab.hub.port) - cpu) / measured["sent"]
        rounds.append(measured)
        floors.append(floor.measure(sizes.floor_seconds))
    ratio = statistics.median(
        _rate(measured) / before.mean(after).primitives
        for measured, before, after in zip(rounds, floors, floors[1:], strict=False)
    )
    cpu = statistics.median(measured["cpu"] for measured in rounds)
    latencies = [latency for measured in rounds for latency in measured["latencies"]]
    return [
        *_floor_figures(floors),
        Figure("ingest_events_per_s", "Ingest by one web process", statistics.median(map(_rate, rounds))),
        Figure("ingest_ratio", "  as a share of the floor", ratio, "ratio", at_least=0.30, aim=0.50),
        Figure("ingest_cpu_us", "  CPU time of an event", cpu * 1e6, "us"),
        Figure("ingest_p50_ms", "  a transaction of 50, p50", percentile(latencies, 50), "ms"),
        Figure("ingest_p99_ms", "  a transaction of 50, p99", percentile(latencies, 99), "ms"),
    ]


def measure_single(lab: Lab, sizes: Sizes) -> list[Figure]:
    """One participant sending transactions of a single LPDU, one after the other."""
    measured = lab.send(lab.new_room(), transactions=sizes.single_requests, lpdus=1, participants=1, warm_up=20)
    return [
        Figure("single_p50_ms", "Transaction of one LPDU, p50", percentile(measured["latencies"], 50), "ms"),
        Figure("single_p99_ms", "Transaction of one LPDU, p99", percentile(measured["latencies"], 99), "ms"),
    ]


def measure_delivery(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Ingest with a worker beside it that sends every event back to all participants, until they have them."""
    lab.start_answering()
    lab.hub.start_part("worker")
    lab.hub.start_part("beat")
    room_id = lab.new_room()
    transactions = _enough(lab, room_id, sizes.delivery_seconds)
    settled(lab)
    measured = lab.send(room_id, transactions=transactions, lpdus=TRANSACTION, warm_up=0)
    settled(lab)
    seconds = time.monotonic() - measured["begun"]
    lab.hub.stop_part("beat")
    lab.hub.stop_part("worker")
    echoes = measured["sent"] * len(lab.participants) / seconds
    return [
        Figure("ingest_with_worker_events_per_s", "Ingest beside a worker", _rate(measured)),
        Figure("delivered_events_per_s", "  its deliveries to 4 servers", echoes),
    ]


def settled(lab: Lab) -> None:
    """Return when every server has everything."""
    end = time.monotonic() + DRAIN_SECONDS
    while lab.inside.call("bench.inside.hosting:pending"):
        if time.monotonic() > end:
            raise StackError(f"deliveries did not come to an end: see {lab.hub.log('worker')}")
        time.sleep(0.02)


def measure_echo(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Two complete servers: a message of a participant's user goes to the hub and comes back."""
    participant = lab.server("participant")
    for server in (lab.hub, participant):
        server.start_part("worker")
        server.start_part("beat")
    inside = lab.inside_of(participant)
    room_id = lab.new_room([])
    inside.call("bench.inside.echoes:enter", room_id=room_id, via=lab.hub.server_name)
    echoes = inside.call("bench.inside.echoes:measure", room_id=room_id, messages=sizes.echoes)
    inside.close()
    participant.stop()
    lab.hub.stop_part("beat")
    lab.hub.stop_part("worker")
    return [
        Figure("echo_p50_ms", "Message to echo, p50", percentile(echoes, 50), "ms", at_most=100),
        Figure("echo_p99_ms", "Message to echo, p99", percentile(echoes, 99), "ms"),
    ]


def measure_growth(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Ingest into a room with a long history and into one with many members, each beside a new room.

    Rounds of all three in changing order, each compared within its round; the median round counts.
    """
    long_room, crowded = lab.new_room(), _crowded_room(lab, sizes)
    lab.inside.call("bench.inside.hosting:fill", room_id=long_room, events=sizes.long_room_events)
    lab.inside.call("bench.inside.hosting:settle")
    rounds = []
    for number in range(sizes.rounds):
        rooms = [("new", lab.new_room()), ("long", long_room), ("crowded", crowded)]
        order = rooms[number % 3 :] + rooms[: number % 3]
        rounds.append(
            {
                name: _rate(lab.send(room_id, transactions=sizes.round_transactions, lpdus=TRANSACTION))
                for name, room_id in order
            }
        )
    return [
        Figure("new_room_events_per_s", "Ingest into a new room", statistics.median(item["new"] for item in rounds)),
        _growth(rounds, "long", f"  with {sizes.long_room_events:,} events, its share"),
        _growth(rounds, "crowded", f"  with {sizes.crowd_members:,} members, its share"),
    ]


def measure_reading(lab: Lab, sizes: Sizes) -> list[Figure]:
    """Joining a room with many members, and reading the far end of a long one."""
    crowded = _crowded_room(lab, sizes)
    lab.inside.call("bench.inside.hosting:settle")
    localparts = [f"guest{number}" for number in range(sizes.reads + 1)]
    lab.ask("join", room_id=crowded, localparts=localparts[:1])
    reset_web_peak(lab.hub.port)
    before = web_peak_bytes(lab.hub.port)
    joins = lab.ask("join", room_id=crowded, localparts=localparts[1:])
    peak = web_peak_bytes(lab.hub.port)
    long_room = lab.new_room()
    lab.inside.call("bench.inside.hosting:fill", room_id=long_room, events=sizes.long_room_events)
    lab.inside.call("bench.inside.hosting:settle")
    positions = [FIRST_PAGE + number for number in range(sizes.reads)]
    event_ids = lab.inside.call("bench.inside.hosting:event_ids_at", room_id=long_room, positions=positions)
    pages = lab.ask("backfill", room_id=long_room, event_ids=event_ids)
    join_bytes = statistics.median(answer["bytes"] for answer in joins)
    return [
        Figure("join_s", f"send_join with {sizes.crowd_members:,} members", _median_seconds(joins), "s"),
        Figure("join_mb", "  its answer", join_bytes / MB, "MB"),
        Figure("join_peak_mb", "  memory of the web process at its peak", peak / MB, "MB"),
        Figure("join_added_mb", "  more than before", (peak - before) / MB, "MB"),
        Figure(
            "backfill_ms",
            f"100 events at the far end of {sizes.long_room_events:,}",
            _median_seconds(pages) * 1000,
            "ms",
        ),
    ]


def _median_seconds(answers: Sequence[dict[str, Any]]) -> float:
    return statistics.median(answer["seconds"] for answer in answers)


def _crowded_room(lab: Lab, sizes: Sizes) -> str:
    names = [f"s{number}.localhost:{lab.port}" for number in range(sizes.crowd_servers - len(lab.participants))]
    return lab.new_room([*lab.participants, *names], users=sizes.crowd_members // sizes.crowd_servers)


def _growth(rounds: Sequence[dict[str, float]], name: str, text: str) -> Figure:
    ratio = statistics.median(item[name] / item["new"] for item in rounds)
    return Figure(f"{name}_room_ratio", text, ratio, "ratio", at_least=0.90)


def _enough(lab: Lab, room_id: str, seconds: float) -> int:
    """Transactions of each participant that take about so long, estimated from some."""
    estimate = _rate(lab.send(room_id, transactions=ESTIMATE, lpdus=TRANSACTION))
    return max(ESTIMATE, math.ceil(estimate * seconds / TRANSACTION / len(lab.participants)))


def _rate(measured: dict[str, Any]) -> float:
    """Events a second."""
    return float(measured["events"] / measured["seconds"])


def percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds; the smallest value that so many percent do not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] * 1000
