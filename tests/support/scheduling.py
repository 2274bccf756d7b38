"""How `make test` shares the tests out among processes: one by one, but for the scenarios, which stay together.

They share servers that take long to start. pytest-xdist's own `--dist loadgroup` would be for that, but pytest-xdist
3.8 does not find the groups with pytest 9.2: it writes them where that no longer looks for a test's name.
"""

from xdist.scheduler import LoadScopeScheduling

TOGETHER = "tests/scenarios/"

ALONE = ("test_backup", "test_demo", "test_nothing_left_running", "test_scaling")
"""Scenarios with servers of their own: a group for each module, so that no process has all that takes minutes."""


class ScenariosTogether(LoadScopeScheduling):
    """Gives the largest group, which takes longest, to a process first."""

    def _split_scope(self, nodeid: str) -> str:
        """The name of the group that a test belongs to: one of its own, for most."""
        if not nodeid.startswith(TOGETHER):
            return nodeid
        module = nodeid.removeprefix(TOGETHER).partition(".py")[0]
        return module if module in ALONE else TOGETHER
