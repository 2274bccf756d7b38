"""The deployment of docker-compose.yml under traffic: scaled from one web process and worker to three and back, and
every web process replaced by a new one. No request is refused, nothing is lost, nothing happens twice.

The demo's conversation goes on between it and two other servers meanwhile; peers send without a pause, and count every
answer that is none and every status but 200. SIGTERM is all that a process is told, as an engine tells containers.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest
from rich.console import Console

from linmatrix.stack.demo import converse
from linmatrix.stack.driver import Driver
from linmatrix.stack.server import Server
from linmatrix.stack.stage import Stage
from tests.scenarios.conftest import make_server
from tests.scenarios.deployment import Deployment
from tests.scenarios.faults import Background, Load, Sender
from tests.scenarios.verdict import agreement
from tests.scenarios.waiting import SECONDS
from tests.support.front import needs_caddy

pytestmark = needs_caddy

PEERS = ("one", "two")
ATTEMPT = re.compile(r"attempt\W+(\d+)")


def repeated(server):
    """Deliveries of a server's that were not acknowledged at once, as its log has them."""
    lines = server.log("worker").read_text().splitlines()
    return [line for line in lines if (found := ATTEMPT.search(line)) and found[1] != "1"]


@pytest.fixture
def deployment(authority, tmp_path) -> Iterator[Deployment]:
    with Deployment(tmp_path / "hub", host="scaled.localhost", authority=authority) as running:
        yield running


@pytest.fixture
def others(authority, tmp_path) -> Iterator[tuple[Server, Server]]:
    servers = [make_server(label, tmp_path / label, authority) for label in ("alpha", "beta")]
    with ThreadPoolExecutor() as pool, ExitStack() as running:
        for server in servers:
            running.callback(server.stop)
        list(pool.map(Server.start, servers))
        yield servers[0], servers[1]


def room_for(deployment):
    """A public room of the deployment's, as load is made in."""
    with Driver(deployment) as driver:
        (room_id,) = driver.run("create_room", "--creator", "hugo", "--join-rule", "public")
    return SimpleNamespace(hub=deployment, room_id=room_id)


def test_scaling_and_renewing_under_traffic_refuses_loses_and_repeats_nothing(deployment, others, make_participants):
    alpha, beta = others
    stage = Stage(Console(quiet=True), {"hub": deployment, "alpha": alpha, "beta": beta}, seconds=SECONDS)
    room = room_for(deployment)
    senders = [Sender(room, peer) for peer in make_participants(*PEERS)]
    stage.connect(stage.servers)
    with Load(room, senders) as load:
        conversation = Background(partial(converse, stage))
        for service in ("web", "worker"):
            deployment.scale(service, 3)
            load.go_on()
        for service in ("web", "worker"):
            deployment.scale(service, 1)
            load.go_on()
        deployment.renew("web")
        load.go_on()
        assert conversation.result() is None
    stage.disconnect(list(stage.servers))

    assert [status for sender in senders for status in sender.statuses if status != 200] == []
    assert repeated(alpha) + repeated(beta) == []
    agreement([deployment, alpha, beta], [promise for sender in senders for promise in sender.promises])
    for sender in senders:
        sender.check()
    deployment.check()
