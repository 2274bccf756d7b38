"""`python -m rooms.export verify FILE`: verify a room's file where there is no server and no database."""

import argparse
import sys
from pathlib import Path

from rooms.export.problems import Problem
from rooms.export.telling import harmless, told
from rooms.export.verifying import NotARoom, verify

MAX_TOLD = 100
"""Problems printed one by one; all of them are counted."""


def main() -> int:
    """Exit status 0 for a file that holds, 1 for one that does not, 2 for one that is none."""
    parser = argparse.ArgumentParser(prog="python -m rooms.export", description="Rooms as files.")
    verb = parser.add_subparsers(dest="verb", required=True)
    verify_ = verb.add_parser("verify", help="check every hash, signature, id, the chain and the rules")
    verify_.add_argument("file", type=Path)
    path: Path = parser.parse_args().file
    printed = 0

    def tell(problem: Problem) -> None:
        nonlocal printed
        printed += 1
        if printed <= MAX_TOLD:
            print(harmless(problem))

    try:
        report = verify(path, tell=tell)
    except (NotARoom, OSError) as error:
        print(harmless(error), file=sys.stderr)
        return 2
    print("\n".join(map(harmless, told(report))))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
