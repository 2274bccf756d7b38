"""CPU time and memory of a server's web processes: what they need, whoever else is busy on the machine."""

from contextlib import suppress
from pathlib import Path

KIB = 1024
_PROC = Path("/proc")
_TICKS_PER_SECOND = 100  # USER_HZ, which is the same on every Linux that /proc is read on
_RESET_PEAK = "5"  # proc(5): sets the peak resident size back to the current one
_SESSION, _UTIME, _STIME = 3, 11, 12  # fields of stat, counted from the state that follows the name


def web_seconds(port: int) -> float:
    """CPU seconds so far of the web server on this port, its worker processes included; 0 where there is no /proc.

    Each part of a server leads a session of its own (`linmatrix.stack.processes`).
    """
    ticks = [int(fields[_UTIME]) + int(fields[_STIME]) for fields in _web_processes(port).values()]
    return sum(ticks) / _TICKS_PER_SECOND


def reset_web_peak(port: int) -> None:
    """Let `web_peak_bytes` count from now on."""
    for pid in _web_processes(port):
        with suppress(OSError):
            (_PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)


def web_peak_bytes(port: int) -> int:
    """The most memory that one of the web server's processes has held; 0 where there is no /proc."""
    return max((_peak(pid) for pid in _web_processes(port)), default=0)


def _web_processes(port: int) -> dict[int, list[str]]:
    stats = {int(folder.name): fields for folder in _PROC.glob("[0-9]*") if (fields := _stat(folder))}
    leaders = [pid for pid in stats if pid == int(stats[pid][_SESSION]) and _listens(pid, port)]
    return {pid: fields for pid, fields in stats.items() if int(fields[_SESSION]) in leaders}


def _peak(pid: int) -> int:
    for line in _read(_PROC / str(pid) / "status").decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * KIB
    return 0


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
