"""`make test`: pytest over tests/ with services of its own."""

import sys
from collections.abc import Sequence

from linmatrix.stack.scratch import run_with_services

# As many as the smallest machine we build on has cores.
WORKERS = "2"


def main(arguments: Sequence[str]) -> int:
    """Run the tests; pytest's exit status. Arguments go to pytest and win over ours."""
    command = [sys.executable, "-m", "pytest", "-n", WORKERS, *arguments]
    return run_with_services(command, name="test", durable=False)
