"""`python -m bench`, which `make bench` calls with a DATABASE_URL (ARGS= are its arguments)."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import console as console_pages
from bench import encryption, isolation, measurements, report, scaling
from bench.lab import Lab
from bench.report import Figure
from bench.sizes import FULL, QUICK, Sizes
from linmatrix.stack.errors import StackError
from linmatrix.stack.signals import StopRequested, stop_signals

STOPPED = 130
STDOUT = "-"

# In this order: the first five need the hub's deliveries to be through, the others leave some that nobody makes.
MEASUREMENTS: dict[str, tuple[str, Callable[[Lab, Sizes], list[Figure]]]] = {
    "echo": ("Messages and their echoes ...", measurements.measure_echo),
    "delivery": ("Ingest with deliveries ...", measurements.measure_delivery),
    "to_device": ("Messages to devices ...", encryption.measure_to_device),
    "isolation": ("Deliveries beside bad servers ...", isolation.measure),
    "scaling": ("More processes ...", scaling.measure),
    "console": ("The console's pages on a large database ...", console_pages.measure),
    "ingest": ("Ingest ...", measurements.measure_ingest),
    "single": ("Transactions of one LPDU ...", measurements.measure_single),
    "commits": ("Commits to encrypted rooms ...", encryption.measure_commits),
    "claims": ("Claims of one-time keys ...", encryption.measure_claims),
    "growth": ("Ingest into rooms that have grown ...", measurements.measure_growth),
    "reading": ("Joining and reading large rooms ...", measurements.measure_reading),
}
PARTS = ("floor", *MEASUREMENTS)
LONG = ("isolation", "scaling", "console")
"""Take longer than all others together: measured when they are named."""

SHOWN = (
    "floor", "ingest", "delivery", "single", "echo", "growth", "reading", "commits", "claims", "to_device", "isolation",
    "scaling", "console",
)  # fmt: skip
"""The order in which people read them."""


def main() -> int:
    """Measure and show; 0 when everything could be measured, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="make bench", description="Benchmarks of a linmatrix server.")
    parser.add_argument("--quick", action="store_true", help="smaller, within a minute or so; figures vary more")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"some of {', '.join(PARTS)}; {' and '.join(LONG)} only so",
    )
    parser.add_argument("--profile", action="store_true", help="where a web process spends its time, and nothing else")
    parser.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help="the figures as JSON, too")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    # Figures for programs stand alone on standard output.
    console = Console(highlight=False, stderr=options.json == STDOUT)
    with stop_signals() as signals:
        try:
            if options.profile:
                _profile(console, sizes)
                return 0
            begun = time.monotonic()
            figures = _measure(console, options.only or [part for part in PARTS if part not in LONG], sizes)
        except StopRequested:
            return STOPPED
        except StackError as error:
            console.print(str(error), style="red", markup=False)
            return 1
        finally:
            signals.ignore()
    report.show(console, figures, seconds=time.monotonic() - begun)
    if options.json == STDOUT:
        print(report.as_json(figures))
    elif options.json:
        Path(options.json).write_text(report.as_json(figures) + "\n")
    return 0


def _measure(console: Console, parts: Sequence[str], sizes: Sizes) -> list[Figure]:
    figures: dict[str, list[Figure]] = {}
    if "floor" in parts and "ingest" not in parts:  # which measures it on the way
        figures["floor"] = measurements.measure_floor(sizes)
    wanted = [part for part in MEASUREMENTS if part in parts]
    if wanted:
        console.print("Starting a hub ...", style="dim")
        with Lab() as lab:
            for part in wanted:
                said, measure = MEASUREMENTS[part]
                console.print(said, style="dim")
                figures[part] = measure(lab, sizes)
            console.print("Clearing up ...", style="dim")
    return [figure for part in SHOWN for figure in figures.get(part, ())]


def _profile(console: Console, sizes: Sizes) -> None:
    with Lab() as lab:
        result = lab.inside.call(
            "bench.inside.profile:run",
            room_id=lab.new_room(),
            participant=lab.participants[0],
            transactions=sizes.profile_transactions,
            lpdus=measurements.TRANSACTION,
        )
    report.show_profile(console, result)


if __name__ == "__main__":
    sys.exit(main())
