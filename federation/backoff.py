"""How long to wait before a destination is tried again.

Exponential, so that a peer that is away for long costs little; jittered, so that peers that went away
together (a network of ours, say) do not come back together; capped, so that one that has returned without
sending us anything is found again. The result is stored: a restart neither forgets nor repeats it.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q

FIRST_SECONDS = 1.0
"""A restarting peer is back within seconds: the first retries come after about 1, 2 and 4."""

JITTER = 0.25
"""The part of a wait that chance may take away."""

CLOCK_ERROR_SECONDS = 300.0
"""How far the clocks of our machines may be apart."""

_MAX_DOUBLINGS = 17  # 2^17 s are above what `backoff_seconds` may be; further powers would only grow the number


def seconds_to_wait(failures: int, *, chance: float) -> float:
    """The wait after `failures` (at least 1) failed attempts in a row; `chance` is a random number of [0, 1).

    A peer that is away for weeks gets a request every `backoff_seconds`, an hour; one that returns and sends us
    anything is tried at once.
    """
    doubled = FIRST_SECONDS * 2 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(doubled, settings.LIMITS.backoff_seconds) * (1 - JITTER * chance)


def is_due(now: datetime) -> Q:
    """Of rows with a `next_attempt`, those that may be tried. Times that only a wrong clock can have set are over."""
    return Q(next_attempt__lte=now) | Q(next_attempt__gt=now + longest())


def longest() -> timedelta:
    """No attempt is put off for longer, clocks that differ included.

    A time further ahead comes of a clock that was wrong, and does not count: a server whose clock went a day ahead for
    a moment must not be silent for a day.
    """
    return timedelta(seconds=settings.LIMITS.backoff_seconds + CLOCK_ERROR_SECONDS)
