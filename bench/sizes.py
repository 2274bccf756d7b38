"""How much is measured: enough for figures that repeat, or a quick look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of each measurement; seconds are aims, the counts of a run follow from the speed of its warm-up."""

    floor_seconds: float
    ingest_rounds: int
    ingest_seconds: float
    """Of each round."""
    delivery_seconds: float
    single_requests: int
    echoes: int
    long_room_events: int
    crowd_members: int
    crowd_servers: int
    rounds: int
    round_transactions: int
    """Transactions of each participant in one round of the comparison of rooms."""
    reads: int
    """Joins into the crowded room, and pages of the long one."""
    profile_transactions: int
    isolation_rounds: int
    isolation_messages: int
    isolation_singles: int
    """Messages sent one at a time in a round."""
    isolation_backlog: int
    """Events of the enormous room that its servers catch up with."""
    scaling_rounds: int
    scaling_transactions: int
    """Of each participant, in a round."""
    commits: int
    """To each room of those whose commits are measured."""
    claims: int
    """Of each server; below what it may claim at once before it is told to slow down."""
    to_device_singles: int
    to_device_rounds: int
    console_events: int
    """Rows of the largest tables that the console lists."""


FULL = Sizes(
    floor_seconds=1.0,
    ingest_rounds=7,
    ingest_seconds=2.5,
    delivery_seconds=10.0,
    single_requests=500,
    echoes=100,
    long_room_events=100_000,
    crowd_members=10_000,
    crowd_servers=100,
    rounds=9,
    round_transactions=12,
    reads=9,
    profile_transactions=100,
    isolation_rounds=7,
    isolation_messages=500,
    isolation_singles=10,
    isolation_backlog=1500,
    scaling_rounds=3,
    scaling_transactions=40,
    commits=50,
    claims=150,
    to_device_singles=20,
    to_device_rounds=100,
    console_events=1_000_000,
)

QUICK = Sizes(
    floor_seconds=0.5,
    ingest_rounds=3,
    ingest_seconds=1.5,
    delivery_seconds=3.0,
    single_requests=100,
    echoes=20,
    long_room_events=10_000,
    crowd_members=1_000,
    crowd_servers=50,
    rounds=3,
    round_transactions=8,
    reads=3,
    profile_transactions=40,
    isolation_rounds=3,
    isolation_messages=200,
    isolation_singles=5,
    isolation_backlog=500,
    scaling_rounds=1,
    scaling_transactions=15,
    commits=10,
    claims=40,
    to_device_singles=5,
    to_device_rounds=20,
    console_events=50_000,
)
