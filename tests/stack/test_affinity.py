"""Web processes share the cores out among themselves."""

import os
import secrets
import subprocess
import sys

import pytest

from linmatrix.stack.server import PROJECT

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to a core")

TAKE = """
import os, sys
from linmatrix.affinity import keep_to_one_core
os.sched_setaffinity(0, {int(core) for core in sys.argv[2].split(",")})
print(keep_to_one_core(sys.argv[1]), sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""


class Taker:
    """A process of a group that may use some cores, takes one of them and keeps it until it is ended."""

    def __init__(self, group: str, cores: list[int]) -> None:
        command = [sys.executable, "-c", TAKE, group, ",".join(map(str, cores))]
        self._process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate()


def test_a_core_is_taken_once_and_is_free_again_when_its_process_has_ended() -> None:
    group, core = secrets.token_hex(8), max(os.sched_getaffinity(0))
    first, second = Taker(group, [core]), Taker(group, [core])
    first.end()
    third = Taker(group, [core])
    for taker in (second, third):
        taker.end()
    assert [first.said, second.said, third.said] == [f"{core} [{core}]", f"None [{core}]", f"{core} [{core}]"]


@pytest.mark.skipif(os.cpu_count() == 1, reason="there is one core only")
def test_processes_of_a_group_get_different_cores_and_another_group_does_not_count() -> None:
    group, (first_core, second_core) = secrets.token_hex(8), sorted(os.sched_getaffinity(0))[:2]
    takers = [Taker(name, [first_core, second_core]) for name in (group, group, secrets.token_hex(8))]
    for taker in takers:
        taker.end()
    expected = [f"{first_core} [{first_core}]", f"{second_core} [{second_core}]", f"{first_core} [{first_core}]"]
    assert [taker.said for taker in takers] == expected
