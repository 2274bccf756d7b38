"""The machine's processes as /proc tells them, for tests about what is running and what no longer is."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Running:
    """A process; `started` (clock ticks since boot) keeps it apart from a later one with the same number."""

    pid: int
    parent: int
    group: int
    started: int
    command: str


def processes() -> dict[int, Running]:
    """Every process but those that have ended and only wait for their parent to look."""
    found = {}
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # After the name in parentheses, which may hold anything: state, parent, group, ..., start time.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if fields[0] not in "ZX":
            pid = int(folder.name)
            found[pid] = Running(pid, int(fields[1]), int(fields[2]), int(fields[19]), command)
    return found


def descendants(ancestor: int | None = None) -> set[Running]:
    """What a process (by default this one) has started, and what that has started in turn."""
    table = processes()
    family = {ancestor or os.getpid()}
    while more := {process.pid for process in table.values() if process.parent in family} - family:
        family |= more
    return {table[pid] for pid in family - {ancestor or os.getpid()} if pid in table}


def still_there(before: set[Running]) -> set[Running]:
    """Which of these processes still run, with whatever runs in their process groups."""
    groups = {process.group for process in before}
    return {process for process in processes().values() if process in before or process.group in groups}
