"""A keyring with its own clock and network."""

import pytest

from keys.keyring import Keyring
from tests.support.keys import Clock, Network


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def keyring(network: Network, clock: Clock) -> Keyring:
    return Keyring(fetch=network, clock=clock)
