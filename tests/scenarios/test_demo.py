"""`make demo`, as its first reader runs it."""

import os
import subprocess
import sys
from pathlib import Path

from linmatrix.stack.scratch import SCRATCH
from linmatrix.stack.server import PROJECT

# Far beyond what it takes: other tests run at the same time.
SECONDS = 240


def demos() -> set[Path]:
    """The data folders of demos."""
    return set(SCRATCH.glob("demo-*"))


def command_lines() -> list[str]:
    """Of all processes on this machine."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_text(errors="replace"))
        except OSError:  # it has ended
            continue
    return lines


def test_three_servers_end_with_one_line_and_leave_nothing_behind() -> None:
    before = demos()
    environment = {name: value for name, value in os.environ.items() if name != "KEEP"}
    demo = subprocess.run(
        [sys.executable, "-m", "linmatrix.stack", "demo"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.splitlines()[-1].startswith("28 events, 3 servers: one line, the same everywhere, after ")
    assert "rule 7: sending m.room.topic needs 50, has 0" in demo.stdout
    assert "3 events that waited for it arrived after" in demo.stdout
    assert demo.stderr == ""
    assert demos() == before
    assert not [line for line in command_lines() if "/demo-" in line]
