"""Where the processes of one machine or container put their numbers together: prometheus_client's multiprocess mode.

A web container has several processes, and a scrape reaches any one of them. So each keeps its numbers in files of a
common folder, mapped into memory, and whoever is scraped adds up the files of all. The folder is named by
PROMETHEUS_MULTIPROC_DIR, as prometheus_client knows it; without that name a process counts in its own memory, as
commands of manage.py do. What it costs stands in docs/metrics.md.

Files are named by process ids, so a folder belongs to one machine or container and never on a shared volume. What a
process counted before it ended stays, or sums would go down; its gauges go. When the first process of a new start finds
nobody alive, what is there is of an earlier start, and goes too.
"""

import os
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_LIVE = ("gauge_live",)
"""How the files of gauges begin that mean something only while their process lives."""


def shared_folder() -> Path | None:
    """The common folder, made if it is missing; None when this process counts for itself."""
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def tidy(folder: Path, *, starting: bool = False) -> None:
    """Delete what ended processes have left and nobody needs: their gauges, or all of it when none is alive. And what
    one has left empty that was killed as it made it, which nobody could read.

    `starting`: this process has no files yet, and what is there under its id is of an earlier one.
    """
    files = {file: _process_of(file) for file in folder.glob("*.db")}
    alive = {pid for pid in set(files.values()) if _is_alive(pid) and not (starting and pid == os.getpid())}
    for file, pid in files.items():
        if pid not in alive and (not alive or file.name.startswith(_LIVE) or _is_empty(file)):
            file.unlink(missing_ok=True)


def _is_empty(file: Path) -> bool:
    try:
        return file.stat().st_size == 0
    except FileNotFoundError:  # another process was faster
        return False


def _process_of(file: Path) -> int:
    """The process that a file is of, 0 for a name that tells none."""
    number = file.stem.rpartition("_")[2]
    return int(number) if number.isdigit() else 0


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: it exists
        return True
    return True
