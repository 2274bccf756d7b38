"""Signs of life of workers and beat, kept in Redis, where any process can see them.

A worker gives one with every sweep, beat with every message that asks for one: every five seconds. They are keys that
expire; how old one is follows from how long it has still to live, by Redis's clock alone.
"""

import logging
from functools import cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

WORKER, BEAT = "worker", "beat"
LATE_SECONDS = 30.0
"""Six sweeps. A worker whose threads are all busy for as long is as good as none, too."""

KEPT_SECONDS = 3600
ANSWER_SECONDS = 0.5
"""Redis answers in a fraction of a millisecond; a sweep should not wait for one that is away."""


def give(who: str) -> None:
    """Give a sign of life. Without Redis there is none, and nothing else happens."""
    try:
        _client().set(_key(who), 1, ex=KEPT_SECONDS)
    except (redis.RedisError, OSError) as error:
        logger.debug("no sign of life of %s: %s", who, error)


def ages() -> dict[str, float | None]:
    """How many seconds ago the last sign of each came; None for an hour or never.

    Raises `redis.RedisError`, OSError.
    """
    ages: dict[str, float | None] = {}
    for who in (WORKER, BEAT):
        left = _client().pttl(_key(who))
        assert isinstance(left, int)
        ages[who] = KEPT_SECONDS - left / 1000 if left >= 0 else None
    return ages


def _key(who: str) -> str:
    return f"linmatrix:pulse:{settings.SERVER_NAME}:{who}"


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
