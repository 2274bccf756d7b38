"""A setting that cannot be used ends every process with one line that names it, whatever it was started with."""

import subprocess
import sys
from pathlib import Path

import pytest

from linmatrix.stack import commands
from linmatrix.stack.ports import free_port
from linmatrix.stack.server import PROJECT
from linmatrix.startup import SAID

LINE = f"{SAID}LINMATRIX_SEND_TIMEOUT: '0' is no number from 1 to 600"


def web(folder: Path) -> list[str]:
    return commands.web(host="127.0.0.1", port=free_port(), workers=1, static=folder, stop_seconds=1)


ENTRIES = {
    "manage.py": lambda _folder: commands.manage("check"),
    "migrations": lambda _folder: list(commands.PREPARE),
    "web": web,
    "worker": lambda _folder: commands.worker(threads=1),
    "beat": lambda folder: commands.beat(schedule=folder / "schedule"),
    "make run": lambda _folder: ["-m", "linmatrix.stack", "run"],
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_setting_that_cannot_be_used_ends_it_with_one_line(entry: str, tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "LINMATRIX_DATA_DIR": str(tmp_path / "data"),
        "LINMATRIX_SEND_TIMEOUT": "0",
    }
    result = subprocess.run(
        [sys.executable, *ENTRIES[entry](tmp_path)],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert LINE in said.splitlines()
    assert "Traceback" not in said
    if entry not in ("web", "worker", "beat"):  # whose programs have lines of their own
        assert said.strip() == LINE


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = {"PATH": "/usr/bin:/bin", "LINMATRIX_DATA_DIR": str(tmp_path / "file" / "data")}
    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"{SAID}LINMATRIX_DATA_DIR: ")
    assert "let this user write to the folder" in result.stderr
