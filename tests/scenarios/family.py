"""A family of processes, to ask later whether all of them have ended."""

import os
from collections.abc import Container

import psutil


class Family:
    """What a process (by default this one) has started by now, and what that has started in turn."""

    def __init__(self, ancestor: int | None = None, *, but_for: Container[psutil.Process] = ()) -> None:
        children = psutil.Process(ancestor).children(recursive=True)
        self.members = {process for process in children if process not in but_for}
        self._groups = {_group(process) for process in self.members} - {0}

    def left(self) -> list[psutil.Process]:
        """Those who still run, and whoever else runs in their process groups by now."""
        joined = {process for process in psutil.process_iter() if _group(process) in self._groups}
        return [process for process in self.members | joined if _runs(process)]


def _group(process: psutil.Process) -> int:
    """The process group; 0, which is none, of a process that has ended."""
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0


def _runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that only waits for its parent to look has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
