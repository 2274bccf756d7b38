"""Deliveries to one peer, step by step and to the end."""

from federation.delivery import Outcome, deliver, step
from tests.support.remote import Remote

PEER = "peer.example.org"


def run(remote: Remote, server: str = PEER) -> float | None:
    return deliver(server, send=remote, chance=lambda: 0.0)


def one_step(remote: Remote) -> Outcome:
    return step(PEER, holder="worker", send=remote)


def drain(remote: Remote) -> None:
    while one_step(remote) is Outcome.DELIVERED:
        pass


def delivered(server: str = PEER) -> list[str]:
    remote = Remote()
    run(remote, server)
    return remote.bodies()
