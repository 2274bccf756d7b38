"""How often a server may ask: one bucket per origin and endpoint, shared by all web processes.

Draft section "Rate Limiting", for the endpoints that it marks; `send` and the key endpoints are not among them
(decision 71). Asked after authentication (decision 69), so an origin spends nobody's tokens but its own.

A bucket holds `burst` requests and is refilled with `per_second`. It is kept as one time, at which the bucket will be
full again (the generic cell rate algorithm), in Redis, by Redis's own clock, and disappears when it is full: docs/
decisions/0006-rate-limits-in-redis.md says why there. Without Redis requests pass, because a limit is there to keep
the service up.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from federation.errors import ApiError

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 0.25
"""Patience with Redis, which answers in a fraction of a millisecond: a request should not notice that it is away."""

QUIET_SECONDS = 5.0
"""After a failure Redis is not asked for as long, or every request would wait for it in vain."""

LOG_SECONDS = 60.0
"""That limits are not applied is said at most this often by each process."""

MAX_RETRY_MS = 3_600_000
"""The longest wait that is asked for, whatever a setting makes of it: an hour, as long as our own longest back-off."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a second in the long run, and so many at once after a rest."""

    per_second: float
    burst: int


DEFAULT_RATES: Mapping[str, Rate] = {
    # A page is 100 events, of which a hub that catches up takes one after the other: 2,000 events a second.
    "backfill": Rate(20, 200),
    # Single events are asked for when something is missing, some dozens together.
    "event": Rate(50, 500),
    # The largest answers there are, each megabytes for a room of ten thousand members; needed once in a join that
    # went wrong, and then for each room of a server that comes back.
    "state": Rate(2, 50),
    "state_ids": Rate(2, 50),
    # People's doings, each of them a request or two: a company that moves its staff in should not notice a limit,
    # and somebody who invites everybody should. An invite makes the invited user's device ring.
    "invite": Rate(5, 100),
    "make_join": Rate(20, 500),
    "send_join": Rate(20, 500),
    "make_knock": Rate(5, 100),
    "send_knock": Rate(5, 100),
    "make_leave": Rate(20, 500),
    "send_leave": Rate(20, 500),
    # Asked for a user at a time, when one of theirs is written to first or has changed: a server that joins a large
    # room asks about all of its members.
    "user_device": Rate(50, 500),
    "user_devices": Rate(20, 500),
    # The same for a hundred users at once.
    "user_keys_query": Rate(5, 100),
    # Keys for a whole room at once, or for one device at a time by clients that start anew. What a claim may take of
    # a device is counted beside this (`keys.devices.claiming`).
    "user_keys_claim": Rate(10, 200),
}
"""By endpoint: those served here that the draft marks as rate-limited, and the extensions beside them (decision 111).
An origin is a whole server with all of its users."""

# KEYS: the bucket. ARGV: microseconds that one request takes to refill, and those that the whole bucket takes.
# Answers the milliseconds to wait, 0 when the request may pass. Numbers are written in full: Lua would round them.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + tonumber(ARGV[1])
local wait = full_at - now - tonumber(ARGV[2])
if wait > 0 then return math.ceil(wait / 1000) end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0
"""


class RateLimiter:
    """The buckets at one Redis. Safe for any number of threads and after a fork. `clock` gives seconds."""

    def __init__(
        self, url: str, rates: Mapping[str, Rate], *, ours: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        client = redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._take = client.register_script(_TAKE)
        self._rates = rates
        self._prefix = f"linmatrix:rate:{ours}"
        self._clock = clock
        self._quiet_until = self._logged_at = float("-inf")

    def check(self, origin: str, endpoint: str) -> None:
        """Count a request of `origin`. Raises `ApiError` 429 M_LIMIT_EXCEEDED, with the time to wait, when it is one
        too many; such a request costs nothing. Endpoints without a rate are not limited."""
        rate = self._rates.get(endpoint)
        if rate is None:
            return
        wait = self._wait(f"{self._prefix}:{endpoint}:{origin}", rate)
        if wait > 0:
            raise ApiError(
                429,
                "M_LIMIT_EXCEEDED",
                f"Too many requests to {endpoint}: {rate.burst} at once, {rate.per_second:g} a second after that.",
                retry_after_ms=min(wait, MAX_RETRY_MS),
            )

    def _wait(self, key: str, rate: Rate) -> int:
        """Milliseconds until the request may pass; 0 to let it pass, as all are while Redis is away."""
        now = self._clock()
        if now < self._quiet_until:
            return 0
        refill = round(1_000_000 / rate.per_second)
        try:
            return cast(int, self._take(keys=[key], args=[refill, refill * rate.burst]))
        except (redis.RedisError, OSError) as error:
            self._quiet_until = now + QUIET_SECONDS
            if now - self._logged_at >= LOG_SECONDS:
                self._logged_at = now
                logger.warning("rate limits are not applied, Redis does not answer: %s", error)
            return 0


def configured_rates(changes: Mapping[str, Any]) -> dict[str, Rate]:
    """The rates of a server whose settings name `changes`: by endpoint `[per_second, burst]`, or null for none.

    Raises ValueError for an endpoint that has no limit by the draft and for what is no rate.
    """
    rates: dict[str, Rate] = dict(DEFAULT_RATES)
    for endpoint, change in changes.items():
        if endpoint not in DEFAULT_RATES:
            raise ValueError(f"{endpoint} is not rate-limited; these are: {', '.join(sorted(DEFAULT_RATES))}")
        if change is None:
            del rates[endpoint]
            continue
        per_second, burst = change
        if not (0 < per_second <= 1_000_000 and 1 <= burst <= 1_000_000):
            raise ValueError(f"{endpoint}: requests a second and at once must be numbers above 0, up to a million")
        rates[endpoint] = Rate(float(per_second), int(burst))
    return rates


@cache
def rate_limiter() -> RateLimiter:
    """The process's own, with the rates of the settings."""
    rates = configured_rates(settings.RATE_LIMITS)
    return RateLimiter(settings.REDIS_URL, rates, ours=settings.SERVER_NAME)


def check_rate(origin: str, endpoint: str) -> None:
    """Count an authenticated request of `origin` to an endpoint by the name of its route.

    Raises `ApiError` 429 M_LIMIT_EXCEEDED when it is one too many.
    """
    rate_limiter().check(origin, endpoint)
