"""A command with a PostgreSQL and a Valkey that last as long as it does: for the tests and the benchmarks.

Where DATABASE_URL or REDIS_URL is set, that one is used instead. What is embedded lives in a folder below .scratch and
is removed at the end, together with the temporary files of the command.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from linmatrix.stack.postgres import Postgres
from linmatrix.stack.processes import STOP_SECONDS
from linmatrix.stack.server import PROJECT
from linmatrix.stack.signals import StopRequested, stop_signals
from linmatrix.stack.valkey import Valkey

SCRATCH = PROJECT / ".scratch"
# As a shell reports a command that SIGTERM ended.
STOPPED = 143


def run_with_services(command: Sequence[str], *, name: str, durable: bool) -> int:
    """Run the command and return its exit status.

    `durable=False` is for data that ends with the command anyway: PostgreSQL then does not wait for the disk.
    """
    SCRATCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=SCRATCH))
    temporary = folder / "tmp"
    temporary.mkdir()
    postgres = Postgres(folder / "postgres", durable=durable)
    valkey = Valkey(folder / "valkey")
    with stop_signals() as signals:
        try:
            environment = {
                **os.environ,
                "DATABASE_URL": os.environ.get("DATABASE_URL") or postgres.start(),
                "REDIS_URL": os.environ.get("REDIS_URL") or valkey.start(),
                "LINMATRIX_DATA_DIR": str(folder / "data"),
                "TMPDIR": str(temporary),
                "PYTHONPATH": str(PROJECT),
            }
            return _run([*command], environment)
        except StopRequested:
            return STOPPED
        finally:
            signals.ignore()
            postgres.stop()
            valkey.stop()
            shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run it at our terminal: it gets Ctrl-C by itself, and SIGTERM from us."""
    child = subprocess.Popen(command, env=environment, cwd=PROJECT)
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
