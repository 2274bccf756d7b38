"""Our server, servers of one kind (the fixture `kind` of a test's module) and a room of ours that they may join."""

import pytest
from django.utils import timezone

from rooms.creation import create_room
from tests.support.hosted import CREATOR
from tests.support.plain_peer import FrontDoor, forget_clients, reach


@pytest.fixture
def door(transactional_db):
    """Our server, on loopback."""
    with FrontDoor() as front:
        yield front


@pytest.fixture
def other(kind, door, settings):
    """The other server."""
    with kind(door) as server:
        reach(settings, server)
        yield server
    forget_clients()


@pytest.fixture
def third(kind, door, other, settings):
    """A third server, which behaves in the same way."""
    with kind(door) as server:
        reach(settings, other, server)
        yield server


@pytest.fixture
def ours(transactional_db):
    """A public room of ours."""
    return create_room(creator=CREATOR, now=timezone.now(), join_rule="public", name="Ours")
