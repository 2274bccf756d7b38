"""Waiting for what several processes bring about together."""

import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 90.0
"""Far longer than anything here takes on a busy machine: it only ends what will never happen."""

POLL_SECONDS = 0.05

Result = TypeVar("Result")


def eventually(look: Callable[[], Result], what: str, *, seconds: float = SECONDS) -> Result:
    """Look until something true is seen, and return it."""
    end = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_SECONDS)
    return result
