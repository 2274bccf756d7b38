"""How long to wait before a destination is tried again.

Exponential, so that a peer that is away for long costs little; jittered, so that peers that went away
together (a network of ours, say) do not come back together; capped, so that one that has returned without
sending us anything is found again. The result is stored: a restart neither forgets nor repeats it.
"""

FIRST_SECONDS = 1.0
"""A restarting peer is back within seconds: the first retries come after about 1, 2 and 4."""

MAX_SECONDS = 3600.0
"""A peer that is away for weeks gets a request an hour. One that returns and sends us anything is tried at once."""

JITTER = 0.25
"""The part of a wait that chance may take away."""

_MAX_DOUBLINGS = 12  # 2^12 s are above MAX_SECONDS; further powers would only grow the number


def seconds_to_wait(failures: int, *, chance: float) -> float:
    """The wait after `failures` (at least 1) failed attempts in a row; `chance` is a random number of [0, 1)."""
    doubled = FIRST_SECONDS * 2 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(doubled, MAX_SECONDS) * (1 - JITTER * chance)
