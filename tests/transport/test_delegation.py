"""A request to a server name, resolved by each of the draft's steps: real DNS, a real web server, real TLS servers.

Draft section "Resolving Server Names", decision 72. `STEPS` has what each step says about port, certificate and Host
header.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
import trustme

from linmatrix.transport.errors import NotConnected
from linmatrix.transport.exchange import Exchange
from linmatrix.transport.http import HttpClient
from linmatrix.transport.resolve import DEFAULT_PORT, Resolver
from linmatrix.transport.trust import TrustStore
from tests.support.name_server import NameServer, addresses, services
from tests.support.web import WELL_KNOWN, AtPort443, Web, delegate
from tests.transport.peers import ScriptedPeer, answer, server_context

# Every process of a run has a loopback address of its own, on which it can have the default port.
HERE = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
HOSTS = ("example.org", "d.example.org", "srv.example.org")


class World:
    """DNS that knows every host here, a web server, and two servers: one at the default port, one elsewhere."""

    def __init__(self, authority: trustme.CA, ca_file: str, stack: ExitStack) -> None:
        self._authority, self._ca_file, self._stack = authority, ca_file, stack
        self.dns = stack.enter_context(NameServer({}))
        for host in HOSTS:
            self.dns.zone |= addresses(host, HERE)
        self.web = stack.enter_context(Web(server_context(authority.issue_cert(*HOSTS)), {}, address=HERE))
        self.default: ScriptedPeer = self.web  # until there are any
        self.elsewhere: ScriptedPeer = self.web

    def serve(self, *names: str) -> None:
        """Start the two servers, with a certificate for these names."""
        self.default = self.start("default", *names, port=DEFAULT_PORT)
        self.elsewhere = self.start("elsewhere", *names)

    def start(self, body: str, *names: str, port: int = 0) -> ScriptedPeer:
        """Start a server that answers with `body` and has a certificate for these names."""
        context = server_context(self._authority.issue_cert(*names))
        return self._stack.enter_context(ScriptedPeer(context, answer(body=body.encode()), address=HERE, port=port))

    def client(self, *, allow_private: bool = True) -> HttpClient:
        """A client that has all that the product's has."""
        web = Exchange(user_agent="tests", trust=TrustStore(self._ca_file), allow_tls12=True)
        lookup = self.dns.lookup
        resolver = Resolver(
            allow_private=allow_private,
            lookup=lookup,
            services=lookup.services,
            web=AtPort443(web, self.web.port),
        )
        return HttpClient(resolver, user_agent="tests", ca_file=self._ca_file)

    def ask(self, name: str = "example.org", *, timeout: float = 20, allow_private: bool = True) -> str:
        """Which of the servers answers a request to this name."""
        client = self.client(allow_private=allow_private)
        response = client.request(name, "GET", "/", headers={}, timeout=timeout, max_response_bytes=100)
        return response.body.decode()


@pytest.fixture
def world(authority: trustme.CA, ca_file: str) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(authority, ca_file, stack)


@dataclass(frozen=True, kw_only=True)
class Step:
    """`{port}` stands for the port of the server elsewhere. The Host header is the certificate's name where none is
    given."""

    name: str = "example.org"
    well_known: str | None = None
    srv: dict[str, str] = field(default_factory=dict)
    server: str
    certificate: str = "example.org"
    host_header: str = ""


FED, OLD = "_matrix-fed._tcp", "_matrix._tcp"
TO_SRV = "0 0 {port} srv.example.org."
TO_NOBODY = "0 0 1 srv.example.org."

STEPS = {
    "1, explicit port": Step(
        name="example.org:{port}",
        well_known="d.example.org",
        srv={f"{FED}.example.org": TO_NOBODY},
        server="elsewhere",
        host_header="example.org:{port}",
    ),
    "2.1, delegated with a port": Step(
        well_known="d.example.org:{port}",
        srv={f"{FED}.d.example.org": TO_NOBODY, f"{FED}.example.org": TO_NOBODY},
        server="elsewhere",
        certificate="d.example.org",
        host_header="d.example.org:{port}",
    ),
    "2.3, delegated, then SRV": Step(
        well_known="d.example.org",
        srv={f"{FED}.d.example.org": TO_SRV, f"{OLD}.d.example.org": TO_NOBODY},
        server="elsewhere",
        certificate="d.example.org",
    ),
    "2.3, delegated, then the draft's SRV": Step(
        well_known="d.example.org",
        srv={f"{OLD}.d.example.org": TO_SRV},
        server="elsewhere",
        certificate="d.example.org",
    ),
    "2.4, delegated and no more": Step(
        well_known="d.example.org",
        srv={f"{FED}.example.org": TO_SRV},
        server="default",
        certificate="d.example.org",
    ),
    "3, SRV": Step(srv={f"{FED}.example.org": TO_SRV, f"{OLD}.example.org": TO_NOBODY}, server="elsewhere"),
    "3, the draft's SRV": Step(srv={f"{OLD}.example.org": TO_SRV}, server="elsewhere"),
    "3, SRV after a delegation to an address": Step(
        well_known="127.0.0.1:{port}", srv={f"{FED}.example.org": TO_SRV}, server="elsewhere"
    ),
    "4, nothing": Step(server="default"),
    "4, nothing after a delegation to no name": Step(well_known="a_b", server="default"),
}


def arrange(world: World, step: Step) -> str:
    """Publish what the step needs, and return the name to ask."""
    port = world.elsewhere.port
    if step.well_known is not None:
        world.web.pages[f"example.org{WELL_KNOWN}"] = delegate(step.well_known.format(port=port))
    for name, value in step.srv.items():
        world.dns.zone |= services(name, value.format(port=port))
    return step.name.format(port=port)


@pytest.mark.parametrize("step", STEPS)
def test_each_step_leads_where_the_draft_says(world: World, step: str) -> None:
    expected = STEPS[step]
    world.serve(expected.certificate)
    assert world.ask(arrange(world, expected)) == expected.server
    peer = world.default if expected.server == "default" else world.elsewhere
    assert peer.server_names == [expected.certificate]
    host_header = (expected.host_header or expected.certificate).format(port=world.elsewhere.port)
    assert f"\r\nHost: {host_header}\r\n".encode() in peer.requests[0]


@pytest.mark.parametrize("step", STEPS)
def test_no_step_believes_any_other_certificate(world: World, step: str) -> None:
    """Twins of the above: all names but the one that the step needs, that of the SRV record's target among them."""
    expected = STEPS[step]
    world.serve(*(host for host in HOSTS if host != expected.certificate))
    with pytest.raises(NotConnected, match=f"is not for {expected.certificate}"):
        world.ask(arrange(world, expected))
    assert world.default.requests == world.elsewhere.requests == []


def test_an_explicit_port_asks_neither_well_known_nor_srv(world: World) -> None:
    world.serve("example.org")
    world.ask(f"example.org:{world.elsewhere.port}")
    assert (world.web.visited, world.dns.asked_for("SRV")) == ([], [])


def test_a_delegated_name_is_not_delegated_again(world: World) -> None:
    world.web.pages |= {
        f"example.org{WELL_KNOWN}": delegate("d.example.org"),
        f"d.example.org{WELL_KNOWN}": delegate("srv.example.org"),
    }
    world.serve("d.example.org")
    assert world.ask() == "default"
    assert world.web.visited == [f"example.org{WELL_KNOWN}"]


def test_a_name_may_delegate_to_itself(world: World) -> None:
    world.web.pages[f"example.org{WELL_KNOWN}"] = delegate("example.org")
    world.serve("example.org")
    assert world.ask() == "default"


def test_what_was_found_is_remembered(world: World) -> None:
    world.web.pages[f"example.org{WELL_KNOWN}"] = delegate("d.example.org")
    world.dns.zone |= services(f"{FED}.d.example.org", f"0 0 {DEFAULT_PORT} srv.example.org.")
    world.serve("d.example.org")
    client = world.client()
    for _ in range(3):
        client.request("example.org", "GET", "/", headers={}, timeout=20, max_response_bytes=100)
    assert (len(world.web.visited), len(world.dns.asked_for("SRV"))) == (1, 1)
    assert sorted(set(world.dns.asked_for("A"))) == sorted(world.dns.asked_for("A")), "no host is looked up twice"


def test_the_next_target_is_tried_when_the_first_refuses(world: World) -> None:
    world.serve("example.org")
    world.dns.zone |= services(
        f"{FED}.example.org", "1 0 1 srv.example.org.", f"2 0 {world.elsewhere.port} d.example.org."
    )
    assert world.ask() == "elsewhere"


def test_the_next_target_is_tried_when_the_first_has_another_certificate(world: World) -> None:
    world.serve("example.org")
    other = world.start("other", "srv.example.org")
    world.dns.zone |= services(
        f"{FED}.example.org", f"1 0 {other.port} srv.example.org.", f"2 0 {world.elsewhere.port} d.example.org."
    )
    assert world.ask() == "elsewhere"
    assert other.requests == []


def test_port_8448_is_no_substitute_for_targets_that_fail(world: World) -> None:
    world.serve("example.org")
    world.dns.zone |= services(f"{FED}.example.org", "1 0 1 srv.example.org.")
    with pytest.raises(NotConnected, match=rf"connection refused by {HERE}:1"):
        world.ask()
    assert world.default.connections == 0


@pytest.mark.parametrize("step", STEPS)
def test_no_step_leads_to_a_private_address_unless_they_are_allowed(world: World, step: str) -> None:
    expected = STEPS[step]
    world.serve(*HOSTS)
    name = arrange(world, expected)
    with pytest.raises(NotConnected, match=r"leads to 127\.77\..* \(loopback\)"):
        world.ask(name, allow_private=False)
    assert world.web.connections == world.default.connections == world.elsewhere.connections == 0
    assert world.ask(name) == expected.server


def test_silent_name_servers_leave_time_for_the_request(world: World) -> None:
    world.serve("example.org")
    world.dns.silent |= {(f"{service}.example.org.", "SRV") for service in (FED, OLD)}
    assert world.ask(timeout=4) == "default"


def test_a_silent_web_server_leaves_time_for_the_request(world: World) -> None:
    world.web.pages[f"example.org{WELL_KNOWN}"] = lambda _connection, _head: None
    world.serve("example.org")
    assert world.ask(timeout=3) == "default"
