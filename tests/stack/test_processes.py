"""Children end when they are asked to, when they will not, and when we are gone."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from linmatrix.stack.errors import StackError
from linmatrix.stack.processes import Deadline, Process

# Tells what it did, then waits for ever.
WAIT = "import signal, sys; print('ready', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAIT}"
# Starts a child of its own, names it, and waits.
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
{WAIT}
"""


def python(tmp_path: Path, code: str) -> Process:
    return Process("child", [sys.executable, "-c", code], log=tmp_path / "child.log")


def wait_until_ready(process: Process) -> list[str]:
    """The lines it printed before it was ready."""
    deadline = Deadline(30)
    while "ready" not in process.last_lines():
        assert deadline.pause(), process.last_lines()
    return process.last_lines().splitlines()


def wait_until_gone(pid: int) -> None:
    deadline = Deadline(30)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert deadline.pause(), f"process {pid} is still there"


def test_it_stops_when_asked(tmp_path: Path) -> None:
    process = python(tmp_path, WAIT)
    process.start()
    wait_until_ready(process)
    pid = process.pid
    process.stop()
    assert not process.alive
    wait_until_gone(pid)


def test_it_is_ended_when_it_will_not_stop(tmp_path: Path) -> None:
    process = python(tmp_path, STUBBORN)
    process.start()
    wait_until_ready(process)
    pid = process.pid
    process.stop(seconds=0.1)
    wait_until_gone(pid)


@pytest.mark.parametrize("end", [Process.stop, Process.kill], ids=["stop", "kill"])
def test_what_it_started_ends_with_it(tmp_path: Path, end) -> None:
    process = python(tmp_path, PARENT)
    process.start()
    grandchild = int(wait_until_ready(process)[0])
    assert psutil.pid_exists(grandchild)
    end(process)
    wait_until_gone(grandchild)


def test_an_unexpected_end_is_told_with_the_log(tmp_path: Path) -> None:
    process = python(tmp_path, "import sys; print('out of luck'); sys.exit(3)")
    process.start()
    wait_until_gone(process.pid)
    with pytest.raises(StackError, match=r"(?s)child ended with status 3.*out of luck"):
        process.require_alive()


def test_an_end_that_was_asked_for_is_not_unexpected(tmp_path: Path) -> None:
    process = python(tmp_path, WAIT)
    process.start()
    process.kill()
    process.require_alive()


def test_it_can_be_started_again(tmp_path: Path) -> None:
    process = python(tmp_path, WAIT)
    process.start()
    first = process.pid
    process.kill()
    process.start()
    assert process.alive
    assert process.pid != first
    process.stop()


def test_it_is_not_started_twice(tmp_path: Path) -> None:
    process = python(tmp_path, WAIT)
    process.start()
    with pytest.raises(StackError, match="running already"):
        process.start()
    process.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_it_ends_when_we_are_killed(tmp_path: Path) -> None:
    """Our own process is played by one that starts a child and is then killed outright."""
    code = f"""
import signal, sys
from pathlib import Path
from linmatrix.stack.processes import Process
process = Process("child", [sys.executable, "-c", {WAIT!r}], log=Path({str(tmp_path / "child.log")!r}))
process.start()
print(process.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until_gone(pid)


# Says goodbye when it is asked to stop.
POLITE = f"""
import signal, sys
def leave(number, frame):
    print("goodbye", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, leave)
{WAIT}
"""


def test_it_does_nothing_while_paused_and_goes_on_after_that(tmp_path: Path) -> None:
    process = python(tmp_path, POLITE)
    process.start()
    wait_until_ready(process)
    process.pause()
    deadline = Deadline(30)
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert deadline.pause()
    process.resume()
    while psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
        assert deadline.pause()
    process.kill()


def test_it_hears_that_it_is_to_stop_though_it_is_paused(tmp_path: Path) -> None:
    process = python(tmp_path, POLITE)
    process.start()
    wait_until_ready(process)
    process.pause()
    process.stop()
    assert "goodbye" in process.last_lines()
