"""How things stand in the database and at the broker, for a scrape: queues, lag, what fails.

Any process can say it, and where several are scraped all say the same: take the maximum, not the sum. What an operator
holds back, from a server that is paused or blocked, does not lag. Every question is
bounded: by an index, by a limit on what is counted (`COUNTED_AT_MOST`), by the time a statement may take. The answer is
kept for `FRESH_SECONDS`, whoever scrapes how often.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import redis
from django.conf import settings
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.backoff import NoBackoff
from redis.retry import Retry

from federation.condition import HELD_BACK_SQL
from federation.wake import QUEUES
from linmatrix.bounded import Bounded
from linmatrix.database.probe import STATEMENT_SECONDS, probe

logger = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
ANSWER_SECONDS = 4.0
"""A scrape waits no longer; it then has everything but the state."""

COUNTED_AT_MOST = 100_000
"""Of a queue. A longer one is shown as this long, and is a fault in any case."""

DESTINATIONS_LOOKED_INTO = 1_000
"""Of those that nobody has begun to send to. Only without workers there are more."""

LAGS = (("under_1s", 1.0), ("under_10s", 10.0), ("under_1m", 60.0), ("under_10m", 600.0), ("under_1h", 3600.0))
"""Upper ends of the buckets of lag, in seconds. Before them is "none", after them "over_1h"."""

_DESTINATIONS = f"""
    SELECT count(*), count(*) FILTER (WHERE pending), count(*) FILTER (WHERE failures > 0),
        count(*) FILTER (WHERE pending AND next_attempt > now()), count(*) FILTER (WHERE {HELD_BACK_SQL}),
        count(*) FILTER (WHERE pending AND coalesce(next_attempt, now()) <= now() AND NOT {HELD_BACK_SQL})
    FROM federation_destination destination
"""  # noqa: S608  texts of ours

DESTINATION_STATES = ("known", "pending", "failing", "backed_off", "held_back", "due")
"""What `_DESTINATIONS` counts, in its order."""

# A transaction under way holds what waited longest, and is as old as its first attempt; parts are as old as what they
# were split from. Where none is under way, the rooms and the queue say since when something waits.
_OPEN = "acked_at IS NULL AND split_at IS NULL AND set_aside_at IS NULL"
_LAG = f"""
    WITH under_way AS (
        SELECT open.destination_id AS server, min(coalesce(whole.created_at, open.created_at)) AS since
        FROM federation_outboundtransaction open
        LEFT JOIN federation_outboundtransaction whole ON open.lineage <> '' AND whole.txn_id = open.lineage
        JOIN federation_destination destination ON destination.server = open.destination_id AND NOT {HELD_BACK_SQL}
        WHERE open.acked_at IS NULL AND open.split_at IS NULL AND open.set_aside_at IS NULL
        GROUP BY open.destination_id
    ), untouched AS (
        SELECT server FROM federation_destination destination
        WHERE pending AND NOT {HELD_BACK_SQL} AND NOT EXISTS (
            SELECT FROM federation_outboundtransaction
            WHERE destination_id = destination.server AND {_OPEN}
        ) LIMIT {DESTINATIONS_LOOKED_INTO}
    ), waiting AS (
        SELECT server, since FROM under_way
        UNION ALL
        SELECT untouched.server, least(
            (SELECT created_at FROM federation_outboundlpdu
                WHERE destination_id = untouched.server AND status = 'queued' ORDER BY id LIMIT 1),
            (SELECT created_at FROM federation_outboundedu
                WHERE destination_id = untouched.server ORDER BY id LIMIT 1),
            (SELECT min(event.received_at) FROM rooms_roomserver stay
                JOIN rooms_room room ON room.room_id = stay.room_id AND room.role = 'hub'
                CROSS JOIN LATERAL (
                    SELECT received_at FROM rooms_event
                    WHERE room_id = stay.room_id AND position > stay.sent_position
                    ORDER BY position LIMIT 1
                ) event
                WHERE stay.server = untouched.server AND room.head_position > stay.sent_position
                AND (stay.left_position IS NULL OR stay.sent_position < stay.left_position))
        ) FROM untouched
    )
    SELECT width_bucket(extract(epoch FROM now() - since), %(ends)s::float8[]), count(*),
        max(extract(epoch FROM now() - since))
    FROM waiting WHERE since IS NOT NULL GROUP BY 1
"""  # noqa: S608  texts of ours


def _count(what: str) -> str:
    return f"SELECT count(*) FROM (SELECT 1 FROM {what} LIMIT {COUNTED_AT_MOST}) counted"  # noqa: S608  texts of ours


_QUEUES: Mapping[str, str] = {
    "lpdus": _count("federation_outboundlpdu WHERE status = 'queued'"),
    "edus": _count("federation_outboundedu"),
    "device_lists": _count("federation_devicelistcursor WHERE told < wanted"),
    "device_notices": _count("federation_devicelistnotice"),
    "to_device": _count("federation_todevicemessage WHERE acknowledged_at IS NULL"),
    "transactions": _count(f"federation_outboundtransaction WHERE {_OPEN}"),
    "set_aside": _count("federation_outboundtransaction WHERE set_aside_at IS NOT NULL"),
    "gaps": _count("rooms_gap"),
    "leaves": _count("federation_pendingleave"),
    "received": _count("federation_inboundtransaction WHERE endpoint = 'send' AND status IS NULL"),
}
_CONNECTIONS = "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity WHERE datid IS NOT NULL"
_SIZES = """
    SELECT relname, greatest(reltuples, 0) FROM pg_class
    WHERE oid IN ('rooms_event'::regclass, 'rooms_room'::regclass)
"""


@dataclass
class State:
    """What was found; a part is missing where it could not be asked."""

    destinations: dict[str, int] = field(default_factory=dict)
    lags: dict[str, int] = field(default_factory=dict)
    oldest_seconds: float = 0.0
    queues: dict[str, int] = field(default_factory=dict)
    connections: tuple[int, int] | None = None
    sizes: dict[str, float] = field(default_factory=dict)
    messages: int | None = None


def look(*, statement_seconds: float = STATEMENT_SECONDS) -> State:
    """Ask the database. What takes longest is asked last: where that is not answered in time, the rest is known."""
    state = State()
    try:
        with probe(statement_seconds=statement_seconds) as cursor:
            cursor.execute(_SIZES)
            state.sizes = {name.removeprefix("rooms_"): size for name, size in cursor.fetchall()}
            state.connections = _row(cursor, _CONNECTIONS)[:2]
            for name, statement in _QUEUES.items():
                state.queues[name] = _row(cursor, statement)[0]
            _look_at_destinations(cursor, state)
    except psycopg.Error as error:
        logger.warning("not all of the database's state can be measured: %s", error)
    return state


def _look_at_destinations(cursor: psycopg.Cursor[Any], state: State) -> None:
    parameters = {"ends": [upper for _, upper in LAGS]}
    total, *others = _row(cursor, _DESTINATIONS)
    state.destinations = dict(zip(DESTINATION_STATES, [total, *others], strict=True))
    cursor.execute(_LAG.encode(), parameters)
    names = [*(name for name, _ in LAGS), "over_1h"]
    state.lags = dict.fromkeys(["none", *names], 0)
    for bucket, count, oldest in cursor.fetchall():
        state.lags[names[bucket]] += count
        state.oldest_seconds = max(state.oldest_seconds, float(oldest), 0.0)
    state.lags["none"] = max(0, total - sum(state.lags.values()))


def _row(cursor: psycopg.Cursor[Any], statement: str) -> tuple[Any, ...]:
    row = cursor.execute(statement.encode()).fetchone()
    assert row is not None
    return tuple(row)


def messages() -> int | None:
    """Messages that no worker has taken yet; None when the broker does not say."""
    timeout = 1.0
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        ) as client:
            return sum(int(client.llen(queue)) for queue in QUEUES)
    except (redis.RedisError, OSError) as error:
        logger.warning("the broker's state cannot be measured: %s", error)
        return None


class StateCollector(Collector):
    """The state as metrics, asked at most once in `FRESH_SECONDS`. A database that hangs says nothing of the broker."""

    def __init__(
        self,
        *,
        look: Callable[[], State] = look,
        messages: Callable[[], int | None] = messages,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._look = Bounded(look, fresh_seconds=FRESH_SECONDS)
        self._messages = Bounded(messages, fresh_seconds=FRESH_SECONDS)
        self._answer_seconds = answer_seconds

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing to ask about when it is registered."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        asked, waiting = self._look.ask(), self._messages.ask()
        try:
            state = asked.result(timeout=self._answer_seconds)
        except NotInTime:
            logger.warning("the database's state could not be measured within %s seconds", self._answer_seconds)
            state = State()
        try:
            number = waiting.result(timeout=self._answer_seconds)
        except NotInTime:
            number = None
        yield from _gauges(replace(state, messages=number))


def _gauges(state: State) -> Iterator[GaugeMetricFamily]:
    known = 1.0 if state.sizes else 0.0
    yield _plain("linmatrix_database_up", "Whether the database answers.", known)
    yield _plain("linmatrix_broker_up", "Whether the broker answers.", float(state.messages is not None))
    if state.messages is not None:
        yield _plain("linmatrix_broker_messages", "Messages that no worker has taken yet.", state.messages)
    yield _labelled("linmatrix_destinations", "Servers that we send to.", "state", state.destinations)
    yield _labelled(
        "linmatrix_destinations_by_lag",
        "Servers that we send to, by how long what waits for them longest has waited.",
        "lag",
        state.lags,
    )
    if state.lags:
        text = "How long the event has waited that waits longest for its server."
        yield _plain("linmatrix_oldest_waiting_seconds", text, state.oldest_seconds)
    yield _labelled("linmatrix_queue", f"What waits, counted up to {COUNTED_AT_MOST}.", "queue", state.queues)
    yield _labelled("linmatrix_rows", "Rows as PostgreSQL estimates them.", "table", state.sizes)
    if state.connections is not None:
        used, most = state.connections
        yield _labelled(
            "linmatrix_postgres_connections", "PostgreSQL's connections.", "state", {"used": used, "most": most}
        )


def _plain(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], float(number))
    return family
