"""How the time of one request is shared out among the steps that come before it."""

import time


def share(deadline: float, *, most: float) -> float:
    """Seconds that the next step may take: `most`, but no more than half of what is left until `deadline`.

    `deadline` is a value of `time.monotonic`. By halves no step, a silent name server for instance, can leave those
    after it without time. Zero when the deadline has passed.
    """
    return min(most, max(deadline - time.monotonic(), 0.0) / 2)
