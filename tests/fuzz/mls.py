"""`python -m tests.fuzz.mls --count 1000000`: changed MLS messages against the observer, without a server.

Two processes, from a seed. Whatever comes, a value comes back or `InvalidMls`, within `MAX_SECONDS` of processor time
and with less than `MAX_BYTES` more memory. Exits with 1 at the first that does not, and says how to see it again.

The bar is the input's and not the machine's, which on a bad moment makes anything take three times as long. So what
took too long is done again, from cold caches, and counts with the fastest of its runs.
"""

import argparse
import random
import resource
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from linmatrix.protocol.mls import InvalidMls
from linmatrix.protocol.mls.leaves import device_of
from tests.fuzz.mls_inputs import Attempt, Inputs

MAX_SECONDS = 0.1
MAX_BYTES = 50 * 1024 * 1024
RUNS = 5
"""Of an attempt that seems to take too long."""

WARMING = 2000
"""Attempts after which the process holds what it always holds: what it holds more at its peak, some attempt needed."""

PROCESSES = 2
ACCEPTED = "accepted"


class Account(NamedTuple):
    """What became of the attempts of one process; `found` is empty where nothing was."""

    outcomes: Counter[tuple[str, str]]
    slowest: tuple[float, str, int]
    """Seconds of processor time, the kind of the attempt and its bytes."""
    grown: int
    """Bytes by which the peak of memory rose after warming up."""
    found: str = ""


def outcome_of(attempt: Attempt) -> str:
    """The rule that refused it, or that it was accepted. Any other exception goes on."""
    try:
        attempt.run()
    except InvalidMls as refusal:
        return refusal.rule
    return ACCEPTED


def run(seed: int, count: int) -> Account:
    """So many attempts of a seed."""
    inputs, outcomes, slowest = Inputs(seed), Counter[tuple[str, str]](), (0.0, "", 0)
    base = _peak()
    for number in range(count):
        attempt = inputs.attempt()
        begun = time.process_time()
        try:
            outcomes[attempt.kind, outcome_of(attempt)] += 1
        except Exception:  # noqa: BLE001  whatever it is, it should not have been raised
            found = f"attempt {number} of seed {seed}, a {attempt.kind}:\n{traceback.format_exc()}"
            return Account(outcomes, slowest, _peak() - base, found)
        seconds = time.process_time() - begun
        if seconds > MAX_SECONDS:
            seconds = min(seconds, *(_seconds(attempt) for _ in range(1, RUNS)))
        slowest = max(slowest, (seconds, attempt.kind, attempt.size))
        if number == WARMING:
            base = _peak()
    return Account(outcomes, slowest, _peak() - base, _excess(slowest, _peak() - base))


def _seconds(attempt: Attempt) -> float:
    """Processor time of one more run, with no credential remembered."""
    device_of.cache_clear()
    begun = time.process_time()
    outcome_of(attempt)
    return time.process_time() - begun


def _excess(slowest: tuple[float, str, int], grown: int) -> str:
    if slowest[0] > MAX_SECONDS:
        return f"a {slowest[1]} of {slowest[2]} bytes took {slowest[0] * 1000:.0f} ms"
    return f"memory rose by {grown >> 20} MiB" if grown > MAX_BYTES else ""


def _peak() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Run it; 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.mls")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    chosen = parser.parse_args()
    print(f"{chosen.count} attempts in {PROCESSES} processes, seeds {chosen.seed} and on.", flush=True)
    begun = time.monotonic()
    share = -(-chosen.count // PROCESSES)
    with ProcessPoolExecutor(PROCESSES) as pool:
        accounts = list(pool.map(run, range(chosen.seed, chosen.seed + PROCESSES), [share] * PROCESSES))
    seconds = time.monotonic() - begun
    for (kind, outcome), number in sorted(sum((one.outcomes for one in accounts), Counter()).items()):
        print(f"{kind:14}{outcome:32}{number:>10}")
    done = sum(one.outcomes.total() for one in accounts)
    slowest, kind, size = max(one.slowest for one in accounts)
    print(f"{done} attempts in {seconds:.0f} s, {done / seconds:.0f} a second.")
    print(f"The slowest took {slowest * 1000:.0f} ms of processor time: a {kind} of {size} bytes.")
    print(f"Memory rose by at most {max(one.grown for one in accounts) / 2**20:.0f} MiB.")
    found = [one.found for one in accounts if one.found]
    print(*found or ["Nothing found."], sep="\n", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
