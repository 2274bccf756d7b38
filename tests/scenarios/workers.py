"""Workers beside, or in place of, the one that a server has."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linmatrix.stack import commands
from linmatrix.stack.processes import Process
from linmatrix.stack.server import PROJECT, Server


@contextmanager
def one_more_worker(server: Server, *, threads: int, log: Path, **environment: str) -> Iterator[Process]:
    """A further worker of a server until the block ends, with changes to its environment."""
    worker = Process(
        "one more worker",
        [sys.executable, *commands.worker(threads=threads), "--hostname", f"{log.stem}@{server.hostname}"],
        log=log,
        env={**server.environment(), **environment},
        cwd=PROJECT,
    )
    worker.start()
    try:
        yield worker
    finally:
        worker.kill()
