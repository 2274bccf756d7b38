"""A room that we host, a server in it, and clients of users, for whoever needs one; and which tests run in one
process."""

from contextlib import ExitStack

import pytest
from django.utils import timezone

from federation.blocking import block_list
from keys.keyring import keyring
from rooms.creation import create_room
from tests.clients import ts_mls
from tests.clients.ts_mls.program import NotInstalled
from tests.settings import TEST_AUTHORITY
from tests.support.hosted import CREATOR
from tests.support.peers import Peer
from tests.support.scheduling import ScenariosTogether
from tests.support.tls_peer import TlsPeer


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """See `tests.support.scheduling`."""
    return ScenariosTogether(config, log) if config.getvalue("dist") == "load" else None


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """Each test has other keys and other blocked servers, and the process remembers both for a while."""
    keyring.cache_clear()
    block_list.forget()


@pytest.fixture(scope="module")
def node():
    """Where the clients of ts-mls live."""
    with ExitStack() as stack:
        try:
            clients = stack.enter_context(ts_mls.running())
        except NotInstalled as why:
            pytest.skip(str(why))
        yield clients


@pytest.fixture
def peer(transactional_db):
    """A server whose key we know."""
    return Peer("part.example.org").publish()


@pytest.fixture
def hosted(transactional_db):
    """A public room that we host."""
    return create_room(creator=CREATOR, now=timezone.now(), join_rule="public", name="Test")


@pytest.fixture
def joined(peer, hosted):
    """That room with `@user:part.example.org` joined to it."""
    response = peer.request("POST", "/_matrix/federation/v3/send_join/join", peer.join(hosted.room_id).event)
    assert response.status_code == 200, response.content
    return hosted


@pytest.fixture
def private(transactional_db):
    """A room that only invited users may join."""
    return create_room(creator=CREATOR, now=timezone.now(), name="Private")


@pytest.fixture
def tls_peer(transactional_db, tmp_path):
    """A peer that can be called over TLS, at a name that leads to it."""
    with TlsPeer(TEST_AUTHORITY, tmp_path / "peer") as server:
        yield server
