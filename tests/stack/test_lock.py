"""One owner per data folder, for as long as the owner lives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linmatrix.stack.errors import StackError
from linmatrix.stack.lock import FolderLock


def test_a_second_owner_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    FolderLock(tmp_path).acquire()
    with pytest.raises(StackError, match=f"in use by another linmatrix .process {os.getpid()}."):
        FolderLock(tmp_path).acquire()


def test_it_can_be_taken_when_released(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()
    FolderLock(tmp_path).acquire()


def test_an_owner_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from linmatrix.stack.lock import FolderLock; "
        f"lock = FolderLock(Path({str(tmp_path)!r})); lock.acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode < 0
    assert (tmp_path / "stack.lock").read_text()
    assert not FolderLock(tmp_path).held()
