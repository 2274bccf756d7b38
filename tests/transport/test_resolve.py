"""Server names to targets, step by step (draft section "Resolving Server Names")."""

import pytest

from linmatrix.limits import DEFAULTS
from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.hosts import FAILURE_TTL, HURRIED_SECONDS, MAX_TTL, MIN_TTL
from linmatrix.transport.lookup import Answer
from linmatrix.transport.resolve import Resolver
from linmatrix.transport.target import Endpoint, Target
from tests.transport.clock import Clock


class FakeDns:
    """Answers from a table and remembers what it was asked; the answer may be changed between questions."""

    def __init__(self, *addresses: str, ttl: float = 60.0) -> None:
        self.answer = Answer(addresses, ttl)
        self.asked: list[str] = []

    def __call__(self, host: str, within: float) -> Answer:
        self.asked.append(host)
        if not self.answer.addresses:
            raise Unreachable(f"{host} does not exist in DNS")
        return self.answer


def resolver(dns: FakeDns, *, allow_private: bool = False, clock: Clock | None = None) -> Resolver:
    return Resolver(allow_private=allow_private, lookup=dns, clock=clock or Clock())


def addresses(target: Target) -> tuple[str, ...]:
    return tuple(endpoint.address for endpoint in target.endpoints)


def test_step_1_an_explicit_port_is_used_literally_and_named_in_the_host_header() -> None:
    target = resolver(FakeDns("8.8.8.8")).resolve("hub.example.org:3500")
    assert target == Target("hub.example.org", "hub.example.org:3500", (Endpoint("8.8.8.8", 3500),))


def test_step_4_without_delegation_the_port_is_8448_and_the_host_header_has_none() -> None:
    target = resolver(FakeDns("8.8.8.8")).resolve("hub.example.org")
    assert target == Target("hub.example.org", "hub.example.org", (Endpoint("8.8.8.8", 8448),))


def test_dns_and_certificates_ignore_case_while_the_host_header_keeps_it() -> None:
    dns = FakeDns("8.8.8.8")
    target = resolver(dns).resolve("Hub.Example.ORG:1")
    assert (target.tls_name, target.host_header) == ("hub.example.org", "Hub.Example.ORG:1")
    assert dns.asked == ["hub.example.org"]


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "a.0x7f", "[::1]", "[::1]:8448", "::1", "127.0.0.1:1"],
)
def test_a_name_that_is_or_reads_as_an_address_never_reaches_dns(name: str) -> None:
    dns = FakeDns("8.8.8.8")
    with pytest.raises(NotConnected, match="not a server name"):
        resolver(dns, allow_private=True).resolve(name)
    assert dns.asked == []


@pytest.mark.parametrize("name", ["", "a..b", "a.", "-a.example", "a_b.example", "a:0", "a:65536", "a:", "a@b", "a/b"])
def test_an_improper_name_is_uncontactable(name: str) -> None:
    with pytest.raises(NotConnected, match="not a server name"):
        resolver(FakeDns("8.8.8.8")).resolve(name)


@pytest.mark.parametrize("name", ["localhost:8448", "a.localhost:1", "A.LocalHost"])
def test_localhost_is_loopback_without_dns_where_private_addresses_are_allowed(name: str) -> None:
    dns = FakeDns("8.8.8.8")
    assert addresses(resolver(dns, allow_private=True).resolve(name)) == ("127.0.0.1", "::1")
    with pytest.raises(NotConnected, match=r"127.0.0.1 \(loopback\)"):
        resolver(dns).resolve(name)
    assert dns.asked == []


def test_a_name_that_only_ends_in_localhost_is_asked_for() -> None:
    dns = FakeDns("8.8.8.8")
    resolver(dns).resolve("notlocalhost")
    assert dns.asked == ["notlocalhost"]


def test_an_answer_with_only_private_addresses_is_refused_with_the_reason() -> None:
    with pytest.raises(NotConnected, match=r"hub.example.org leads to 169.254.169.254 \(link-local\)"):
        resolver(FakeDns("169.254.169.254", "10.0.0.1")).resolve("hub.example.org")


def test_of_a_mixed_answer_only_the_usable_addresses_are_kept() -> None:
    target = resolver(FakeDns("10.0.0.1", "64:ff9b::808:808", "2a00::1", "8.8.8.8")).resolve("hub.example.org")
    assert addresses(target) == ("8.8.8.8", "2a00::1")


def test_addresses_are_capped() -> None:
    target = resolver(FakeDns(*(f"8.8.8.{n}" for n in range(100)))).resolve("hub.example.org")
    assert len(target.endpoints) == DEFAULTS.addresses_per_host


def test_an_answer_is_remembered_for_its_ttl() -> None:
    dns, clock = FakeDns("8.8.8.8", ttl=60), Clock()
    resolve = resolver(dns, clock=clock).resolve
    resolve("hub.example.org")
    dns.answer = Answer(("1.1.1.1",), 60)
    clock.now = 59
    assert addresses(resolve("hub.example.org:1")) == ("8.8.8.8",)
    clock.now = 61
    assert addresses(resolve("hub.example.org")) == ("1.1.1.1",)


@pytest.mark.parametrize(("ttl", "kept"), [(0, MIN_TTL), (10**9, MAX_TTL)])
def test_a_ttl_is_kept_within_bounds(ttl: float, kept: float) -> None:
    dns, clock = FakeDns("8.8.8.8", ttl=ttl), Clock()
    resolve = resolver(dns, clock=clock).resolve
    for now, questions in [(0, 1), (kept - 1, 1), (kept + 1, 2)]:
        clock.now = now
        resolve("hub.example.org")
        assert len(dns.asked) == questions


def test_a_failure_is_remembered_briefly() -> None:
    dns, clock = FakeDns(), Clock()
    resolve = resolver(dns, clock=clock).resolve
    for _ in range(2):
        with pytest.raises(NotConnected, match=r"hub.example.org does not exist in DNS"):
            resolve("hub.example.org")
    assert len(dns.asked) == 1
    dns.answer = Answer(("8.8.8.8",), 60)
    clock.now = FAILURE_TTL + 1
    assert addresses(resolve("hub.example.org")) == ("8.8.8.8",)


def test_a_failure_in_a_hurry_is_not_remembered() -> None:
    dns = FakeDns()
    hasty = resolver(dns)
    for within, questions in [(HURRIED_SECONDS, 1), (30.0, 2), (30.0, 2)]:
        with pytest.raises(NotConnected, match="does not exist in DNS"):
            hasty.resolve("hub.example.org", within=within)
        assert len(dns.asked) == questions
