"""`python -m linmatrix.stack manage ...`: Django's command line against the server that `make run` runs now."""

import os
import subprocess
import sys
from collections.abc import Sequence

from linmatrix.stack import commands
from linmatrix.stack.errors import StackError
from linmatrix.stack.lock import FolderLock
from linmatrix.stack.run import server_from
from linmatrix.stack.server import PROJECT


def main(arguments: Sequence[str]) -> int:
    """Run the command at our terminal; its exit status."""
    server = server_from(os.environ)
    if not FolderLock(server.folder).held():
        raise StackError(f"No server runs on {server.folder}: start one with make run.")
    argv = [sys.executable, *commands.manage(*arguments)]
    return subprocess.run(argv, env=server.environment(), cwd=PROJECT, check=False).returncode
