"""`make soak`, the shortest that breaks something: servers, traffic, faults, verdict, and nothing left behind."""

import os
import re
import subprocess
import sys

from linmatrix.stack.scratch import SCRATCH
from linmatrix.stack.server import PROJECT

MINUTES = "0.1"
SEED = "5"
# Far beyond what it takes: other tests run at the same time.
SECONDS = 400


def soaks():
    """The data folders of soaks."""
    return set(SCRATCH.glob("soak-*"))


def test_two_servers_survive_what_a_short_plan_breaks():
    before = soaks()
    soak = subprocess.run(
        [sys.executable, "-m", "soak", "--minutes", MINUTES, "--seed", SEED, "--servers", "2"],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert soak.stdout.startswith(f"Soaking 2 servers for 0.1 minutes with seed {SEED}.")
    figures = re.fullmatch(
        r"(\d+) faults survived, (\d+) events sent, 0 lost, 0 duplicated\.", soak.stdout.splitlines()[-1]
    )
    assert figures
    assert all(int(figure) > 0 for figure in figures.groups())
    assert soaks() <= before, "its data is removed"
