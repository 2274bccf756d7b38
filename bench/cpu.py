"""CPU time of a server's web processes: what an event costs whoever else is busy on the machine."""

from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_SECOND = 100  # USER_HZ, which is the same on every Linux that /proc is read on
_SESSION, _UTIME, _STIME = 3, 11, 12  # fields of stat, counted from the state that follows the name


def web_seconds(port: int) -> float:
    """CPU seconds so far of the web server on this port, its worker processes included; 0 where there is no /proc.

    Each part of a server leads a session of its own (`linmatrix.stack.processes`).
    """
    stats = {int(folder.name): fields for folder in _PROC.glob("[0-9]*") if (fields := _stat(folder))}
    leaders = [pid for pid in stats if pid == int(stats[pid][_SESSION]) and _listens(pid, port)]
    ticks = [int(fields[_UTIME]) + int(fields[_STIME]) for fields in stats.values() if int(fields[_SESSION]) in leaders]
    return sum(ticks) / _TICKS_PER_SECOND


def _listens(pid: int, port: int) -> bool:
    return b"granian\0" in (line := _read(_PROC / str(pid) / "cmdline")) and f"--port\0{port}\0".encode() in line


def _stat(folder: Path) -> list[str]:
    """The fields after the name, which may hold anything; none for a process that has just ended."""
    return _read(folder / "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
