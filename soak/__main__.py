"""`python -m soak`: what `make soak` calls."""

import argparse
import secrets
import sys

from rich.console import Console

from soak import run
from soak.company import LABELS
from soak.report import DEFAULT_SERVERS, Plan

MAX_SEED = 10**6


def main() -> int:
    """Run a soak; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description="Random traffic and faults, then a verdict.")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long there are faults (%(default)g)")
    parser.add_argument("--seed", type=int, default=None, help="repeats the plan of an earlier soak")
    parser.add_argument(
        "--servers", type=int, choices=range(2, len(LABELS) + 1), default=DEFAULT_SERVERS, help="%(default)s"
    )
    options = parser.parse_args()
    seed = secrets.randbelow(MAX_SEED) if options.seed is None else options.seed
    console = Console(highlight=False, emoji=False)
    return run.main(console, Plan(options.minutes, seed, options.servers))


if __name__ == "__main__":
    sys.exit(main())
