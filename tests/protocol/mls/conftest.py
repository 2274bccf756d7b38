"""A group of five, and its devices."""

import pytest

from linmatrix.protocol.mls import first_group, read_commit, read_group_info
from tests.protocol.mls.devices import ALICE, BOB, CAROL, DAVE, ERIN, GROUP_ID
from tests.support.mls_writer import WrittenGroup


@pytest.fixture(scope="session")
def _five():
    """The group of all five: alice at leaf 0 up to erin at 4; each has committed once, so the tree has parents."""
    written = WrittenGroup.of(GROUP_ID, ALICE, BOB, CAROL, DAVE, ERIN)
    for device in (BOB, CAROL, DAVE, ERIN, ALICE):
        info = written.commit(device).group_info
    return written, first_group(read_group_info(info), group_id=GROUP_ID)


@pytest.fixture
def written(_five):
    """The group as its members know it; a test's own, which it may take further."""
    return _five[0].copy()


@pytest.fixture
def group(_five):
    """The same group as an observer knows it."""
    return _five[1]


@pytest.fixture
def apply(group):
    """What a written commit does to the group, by the observer."""

    def applied(commit):
        return group.apply(read_commit(commit.message), read_group_info(commit.group_info))

    return applied
