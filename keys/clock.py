"""Time as the protocol counts it, and as the database stores it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Gives the time in milliseconds since the epoch."""


def now_ms() -> int:
    """The time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def at(ms: int) -> datetime:
    """A time in milliseconds since the epoch as a database column holds it."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
