"""When a server has stopped, nothing of it is left: no process, and no port that is still taken.

However it was stopped: by its owner, by Ctrl-C at `make run`, or because the command that runs it was killed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from linmatrix.stack.ports import free_port, is_free
from linmatrix.stack.server import PROCESSES, PROJECT
from tests.scenarios.conftest import make_server
from tests.scenarios.family import Family
from tests.scenarios.waiting import SECONDS, eventually

SERVICES = ("postgres", "valkey")


def ports_of(folder: Path) -> list[int]:
    """Where the services of the server in a folder listen, as it has noted."""
    return [int((folder / service / "port").read_text()) for service in SERVICES]


@pytest.fixture
def running(tmp_path):
    """`python -m linmatrix.stack run` in a process group of its own, as a shell starts it; its port and folder."""
    folder, port = tmp_path / "data", free_port()
    own = ("DATABASE_URL", "REDIS_URL", "LINMATRIX_HOST", "LINMATRIX_WEB_WORKERS")
    environment = {name: value for name, value in os.environ.items() if name not in own} | {
        "LINMATRIX_DATA_DIR": str(folder),
        "LINMATRIX_SERVER_NAME": f"run.localhost:{port}",
        "PYTHONUNBUFFERED": "1",
    }
    with (tmp_path / "output").open("wb") as output:
        command = subprocess.Popen(
            [sys.executable, "-m", "linmatrix.stack", "run"],
            env=environment,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Running(command, folder, port, tmp_path / "output")
    finally:
        if command.poll() is None:
            command.send_signal(signal.SIGTERM)
        command.wait(SECONDS)


class Running:
    """The command, what it prints, and what it has started."""

    def __init__(self, command, folder, port, output):
        self.command, self.folder, self.port, self._output = command, folder, port, output

    def wait_for(self, text):
        """Wait until it has printed something, and give its family then."""
        eventually(lambda: text in self.printed or self.command.poll() is not None, f"{text!r} was printed")
        assert text in self.printed
        return Family(self.command.pid)

    @property
    def printed(self):
        return self._output.read_text()


def test_a_stopped_server_leaves_no_process_and_no_port_taken(tmp_path, authority):
    before = Family().members
    server = make_server("brief", tmp_path / "brief", authority)
    with server:
        family = Family(but_for=before)
        assert all(server.alive(part) for part in (*SERVICES, *PROCESSES))
        assert not is_free(server.port)
        ports = [server.port, *ports_of(server.folder)]
    assert len(family.members) >= len(SERVICES) + len(PROCESSES)
    assert family.left() == []
    assert all(is_free(port) for port in ports)


def test_ctrl_c_stops_all_that_make_run_has_started(running):
    family = running.wait_for("Ctrl-C stops it.")
    ports = [running.port, *ports_of(running.folder)]
    assert not any(is_free(port) for port in ports)
    os.killpg(running.command.pid, signal.SIGINT)
    assert running.command.wait(SECONDS) == 0
    assert "Stopped. The data is kept in" in running.printed
    assert family.left() == []
    assert all(is_free(port) for port in ports)


def test_ctrl_c_while_it_starts_stops_what_was_started_so_far(running):
    eventually(lambda: Family(running.command.pid).members, "it started something")
    family = Family(running.command.pid)
    os.killpg(running.command.pid, signal.SIGINT)
    assert running.command.wait(SECONDS) == 0
    assert family.left() == []
    commands = psutil.process_iter(["cmdline"])
    assert not [process for process in commands if str(running.folder) in str(process.info["cmdline"])]


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel ends the children of a killed process")
def test_the_kernel_ends_all_of_it_when_the_command_is_killed(running):
    family = running.wait_for("Ctrl-C stops it.")
    running.command.kill()
    running.command.wait(SECONDS)
    eventually(lambda: family.left() == [], "all processes have ended")
