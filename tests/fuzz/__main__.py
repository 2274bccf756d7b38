"""`make fuzz`: minutes of requests to a real server, over TLS, from a seed.

    make fuzz MINUTES=10 SEED=1

The server has one web process, its own database and Valkey, and no rate limits. Hypothesis makes the requests; those
of a seed are always the same, though what they meet depends on those before. Exits with 1, and shows the request, at
the first answer that is a fault.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import django

from linmatrix.stack.certificates import Authority
from linmatrix.stack.ports import free_port
from linmatrix.stack.scratch import SCRATCH
from linmatrix.stack.server import Server
from linmatrix.stack.signals import StopRequested, stop_signals
from tests.fuzz.unlimited import UNLIMITED


def main() -> int:
    """Run it; 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    chosen = parser.parse_args()
    print(f"Fuzzing for {chosen.minutes:g} minutes from seed {chosen.seed}.", flush=True)
    SCRATCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=SCRATCH))
    with stop_signals() as signals:
        try:
            return _run(folder, minutes=chosen.minutes, seed=chosen.seed)
        except (StopRequested, KeyboardInterrupt):
            return 1
        finally:
            signals.ignore()
            shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, *, minutes: float, seed: int) -> int:
    authority = Authority(folder / "authority")
    with Server(
        folder / "server",
        server_name="hub.example.org",
        port=free_port(),
        authority=authority,
        extra_environment={"LINMATRIX_RATE_LIMITS": UNLIMITED, "LINMATRIX_API_DOCUMENT": "1"},
    ) as server:
        # The same settings here: what is asked about rooms is asked of the server's own database.
        os.environ.update(server.environment())
        django.setup()
        from tests.fuzz.campaign import Campaign  # noqa: PLC0415  models can be imported only now

        return Campaign(server, authority, folder, seed=seed).run(minutes=minutes)


if __name__ == "__main__":
    sys.exit(main())
