"""SRV records to endpoints, against a name server on loopback (RFC 2782)."""

import time
from collections.abc import Iterator

import pytest

from linmatrix.limits import DEFAULTS
from linmatrix.transport.errors import NotConnected
from linmatrix.transport.hosts import FAILURE_TTL, MAX_TTL, MIN_TTL, Hosts
from linmatrix.transport.lookup import ServiceAnswer, ServiceLookup
from linmatrix.transport.services import NOT_FOUND_TTL, Services
from linmatrix.transport.target import Endpoint
from tests.support.name_server import NameServer, addresses, services
from tests.transport.clock import Clock

FED, OLD = "_matrix-fed._tcp.example.org", "_matrix._tcp.example.org"


@pytest.fixture
def dns() -> Iterator[NameServer]:
    hosts = addresses("a.example", "8.8.8.1") | addresses("b.example", "8.8.8.2") | addresses("c.example", "8.8.8.3")
    with NameServer(hosts) as server:
        yield server


def ask(
    dns: NameServer, *, host: str = "example.org", allow_private: bool = False, clock: Clock | None = None
) -> tuple[Endpoint, ...] | None:
    return make(dns, allow_private=allow_private, clock=clock).endpoints(host, time.monotonic() + 20)


def make(
    dns: NameServer, *, allow_private: bool = False, clock: Clock | None = None, lookup: ServiceLookup | None = None
) -> Services:
    clock = clock or Clock()
    hosts = Hosts(dns.lookup, allow_private=allow_private, clock=clock)
    return Services(lookup or dns.lookup.services, hosts, clock=clock)


def test_matrix_fed_is_asked_for_first_and_is_enough(dns: NameServer) -> None:
    dns.zone |= services(FED, "0 0 1001 a.example.") | services(OLD, "0 0 1002 b.example.")
    assert ask(dns) == (Endpoint("8.8.8.1", 1001),)
    assert dns.asked_for("SRV") == [f"{FED}."]


def test_the_drafts_name_is_asked_for_when_matrix_fed_has_none(dns: NameServer) -> None:
    dns.zone |= services(OLD, "0 0 1002 b.example.")
    assert ask(dns) == (Endpoint("8.8.8.2", 1002),)
    assert dns.asked_for("SRV") == [f"{FED}.", f"{OLD}."]


def test_the_drafts_name_is_asked_for_when_dns_fails_at_matrix_fed(dns: NameServer) -> None:
    dns.zone |= services(OLD, "0 0 1002 b.example.")
    dns.broken.add((f"{FED}.", "SRV"))
    assert ask(dns) == (Endpoint("8.8.8.2", 1002),)


def test_a_name_without_either_has_none(dns: NameServer) -> None:
    assert ask(dns) is None


def test_targets_stand_in_order_of_priority(dns: NameServer) -> None:
    dns.zone |= services(FED, "30 0 3 c.example.", "10 0 1 a.example.", "20 99 2 b.example.")
    assert ask(dns) == (Endpoint("8.8.8.1", 1), Endpoint("8.8.8.2", 2), Endpoint("8.8.8.3", 3))


def test_no_more_targets_are_looked_up_than_are_tried(dns: NameServer) -> None:
    names = [f"t{number}.example" for number in range(20)]
    dns.zone |= services(FED, *(f"{number} 0 1 {name}." for number, name in enumerate(names)))
    for name in names:
        dns.zone |= addresses(name, "8.8.8.8")
    found = ask(dns)
    assert found == (Endpoint("8.8.8.8", 1),) * DEFAULTS.service_targets
    assert dns.asked_for("A") == [f"{name}." for name in names[: DEFAULTS.service_targets]]


def test_a_target_gives_one_address_of_each_family(dns: NameServer) -> None:
    dns.zone |= services(FED, "0 0 1 many.example.") | addresses("many.example", *(f"8.8.8.{n}" for n in range(9)))
    dns.zone[("many.example.", "AAAA")] = [("many.example.", 60, "AAAA", ["2a00::1", "2a00::2"])]
    found = ask(dns)
    assert found is not None
    assert len(found) == DEFAULTS.addresses_per_service_target
    assert [":" in endpoint.address for endpoint in found] == [False, True]


def test_a_target_without_address_leaves_the_next(dns: NameServer) -> None:
    dns.zone |= services(FED, "1 0 1 missing.example.", "2 0 2 b.example.")
    assert ask(dns) == (Endpoint("8.8.8.2", 2),)


@pytest.mark.parametrize("target", ["127.0.0.1.", "2130706433.", "0x7f.1.", "a_b.example.", "-.example."])
def test_a_target_that_is_no_host_name_leaves_the_next(dns: NameServer, target: str) -> None:
    dns.zone |= services(FED, f"1 0 1 {target}", "2 0 2 b.example.") | addresses(target.rstrip("."), "8.8.8.8")
    assert ask(dns) == (Endpoint("8.8.8.2", 2),)


def test_a_target_with_port_zero_leaves_the_next(dns: NameServer) -> None:
    dns.zone |= services(FED, "1 0 0 a.example.", "2 0 2 b.example.")
    assert ask(dns) == (Endpoint("8.8.8.2", 2),)


def test_a_target_at_a_private_address_is_refused_unless_they_are_allowed(dns: NameServer) -> None:
    dns.zone |= services(FED, "0 0 22 inside.example.") | addresses("inside.example", "127.0.0.1")
    with pytest.raises(NotConnected, match=r"names no usable server: inside.example leads to 127.0.0.1 \(loopback\)"):
        ask(dns)
    assert ask(dns, allow_private=True) == (Endpoint("127.0.0.1", 22),)


@pytest.mark.parametrize("target", ["localhost.", "x.localhost."])
def test_a_target_of_localhost_is_refused_too(dns: NameServer, target: str) -> None:
    dns.zone |= services(FED, f"0 0 22 {target}")
    with pytest.raises(NotConnected, match="loopback"):
        ask(dns)


def test_a_service_that_says_it_is_not_available_is_not_looked_for_elsewhere(dns: NameServer) -> None:
    dns.zone |= services(FED, "0 0 0 .") | services(OLD, "0 0 1002 b.example.")
    with pytest.raises(NotConnected, match=r"_matrix-fed._tcp.example.org says in DNS that there is no service"):
        ask(dns)


def test_dns_is_not_asked_about_localhost(dns: NameServer) -> None:
    assert ask(dns, host="a.localhost") is None
    assert dns.asked == []


def test_a_name_too_long_for_dns_has_none(dns: NameServer) -> None:
    assert ask(dns, host=f"{'a' * 61}.{'b' * 61}.{'c' * 61}.{'d' * 61}") is None


@pytest.mark.parametrize(("ttl", "kept"), [(300, 300), (0, MIN_TTL), (10**6, MAX_TTL)])
def test_records_are_remembered_for_their_ttl_within_bounds(dns: NameServer, ttl: int, kept: float) -> None:
    dns.zone |= services(FED, "0 0 1 a.example.", ttl=ttl)
    clock = Clock()
    found = make(dns, clock=clock)
    for now, questions in [(0, 1), (kept - 1, 1), (kept + 1, 2)]:
        clock.now = now
        assert found.endpoints("Example.org", time.monotonic() + 20) is not None
        assert len(dns.asked_for("SRV")) == questions


@pytest.mark.parametrize(("broken", "kept"), [(False, NOT_FOUND_TTL), (True, FAILURE_TTL)])
def test_that_there_are_none_is_remembered_longer_than_a_failure(dns: NameServer, broken: bool, kept: float) -> None:
    questions = {(f"{name}.", "SRV") for name in (FED, OLD)}
    dns.broken |= questions if broken else set()
    clock = Clock()
    found = make(dns, clock=clock)
    for now, expected in [(0, None), (kept - 1, None), (kept + 1, (Endpoint("8.8.8.1", 1),))]:
        clock.now = now
        assert found.endpoints("example.org", time.monotonic() + 20) == expected
        dns.broken.clear()
        dns.zone |= services(FED, "0 0 1 a.example.")


def test_a_failure_in_a_hurry_is_not_remembered(dns: NameServer) -> None:
    dns.zone |= services(FED, "0 0 1 a.example.")
    dns.silent |= {(f"{name}.", "SRV") for name in (FED, OLD)}
    found = make(dns)
    assert found.endpoints("example.org", time.monotonic() + 1) is None
    dns.silent.clear()
    assert found.endpoints("example.org", time.monotonic() + 20) == (Endpoint("8.8.8.1", 1),)


def test_a_lookup_takes_no_more_than_half_of_what_is_left(dns: NameServer) -> None:
    given: list[float] = []

    def lookup(_name: str, within: float) -> ServiceAnswer:
        given.append(within)
        return ServiceAnswer((), 0.0)

    make(dns, lookup=lookup).endpoints("example.org", time.monotonic() + 4)
    make(dns, lookup=lookup).endpoints("example.org", time.monotonic() + 100)
    assert [round(seconds) for seconds in given] == [2, 2, 5, 5]
