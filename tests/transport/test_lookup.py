"""The DNS side, against a name server on loopback."""

from collections.abc import Iterator

import pytest

from linmatrix.transport.errors import Unreachable
from linmatrix.transport.lookup import Answer, DnsLookup, Service
from tests.support.name_server import NameServer, addresses, services

ZONE = {
    ("both.example.", "A"): [("both.example.", 300, "A", ["192.0.2.1", "192.0.2.2"])],
    ("both.example.", "AAAA"): [("both.example.", 120, "AAAA", ["2001:db8::1"])],
    ("alias.example.", "A"): [
        ("alias.example.", 30, "CNAME", ["real.example."]),
        ("real.example.", 300, "A", ["192.0.2.9"]),
    ],
    **addresses("half.example", "192.0.2.3"),
    ("empty.example.", "A"): [],
    ("silent.example.", "A"): [],
    ("broken.example.", "A"): [],
    **addresses("127.1", "192.0.2.4"),
    **services("_s._tcp.order.example", "20 0 3 c.example.", "10 0 1 A.example.", "15 9 2 b.example.", ttl=90),
    **services("_s._tcp.weight.example", "1 65535 1 heavy.example.", "1 0 2 light.example."),
    **services("_s._tcp.none.example", "0 0 0 ."),
    ("_s._tcp.empty.example.", "SRV"): [],
    ("_s._tcp.silent.example.", "SRV"): [],
    ("_s._tcp.broken.example.", "SRV"): [],
}
"""Records by question. AAAA of names with only A is an empty answer, of half.example a failure of the server."""


@pytest.fixture(scope="module")
def lookup() -> Iterator[DnsLookup]:
    with NameServer(ZONE) as server:
        for name in ("silent.example.", "broken.example.", "_s._tcp.silent.example.", "_s._tcp.broken.example."):
            questions = server.silent if "silent" in name else server.broken
            questions |= {(name, record) for record in ("A", "AAAA", "SRV")}
        server.broken.add(("half.example.", "AAAA"))
        yield server.lookup


def test_both_families_are_asked_for_and_the_shorter_ttl_holds(lookup: DnsLookup) -> None:
    answer = lookup("both.example", 10)
    assert sorted(answer.addresses) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert answer.ttl == 120


def test_a_cname_is_followed_and_its_ttl_counts(lookup: DnsLookup) -> None:
    assert lookup("alias.example", 10) == Answer(("192.0.2.9",), 30)


def test_one_family_is_enough_when_the_other_fails(lookup: DnsLookup) -> None:
    assert lookup("half.example", 5) == Answer(("192.0.2.3",), 60)


def test_numbers_are_names_to_dns_and_not_read_as_addresses(lookup: DnsLookup) -> None:
    assert lookup("127.1", 10) == Answer(("192.0.2.4",), 60)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("missing.example", "missing.example does not exist in DNS"),
        ("empty.example", "empty.example has no address in DNS"),
        ("silent.example", "silent.example could not be looked up in time"),
        ("broken.example", "broken.example could not be looked up: the name servers refuse or fail"),
        (f"{'a' * 64}.example", "cannot be looked up"),
    ],
)
def test_a_failure_says_what_an_operator_can_check(lookup: DnsLookup, host: str, reason: str) -> None:
    with pytest.raises(Unreachable, match=reason):
        lookup(host, 1)


def test_services_are_in_order_of_priority_and_have_a_ttl(lookup: DnsLookup) -> None:
    answer = lookup.services("_s._tcp.order.example", 10)
    assert answer.services == (Service("A.example", 1), Service("b.example", 2), Service("c.example", 3))
    assert answer.ttl == 90


def test_services_of_one_priority_are_drawn_by_weight(lookup: DnsLookup) -> None:
    first = [lookup.services("_s._tcp.weight.example", 10).services[0].host for _ in range(20)]
    assert first.count("heavy.example") >= 19


def test_a_service_that_is_not_available_has_no_host(lookup: DnsLookup) -> None:
    assert lookup.services("_s._tcp.none.example", 10).services == (Service("", 0),)


@pytest.mark.parametrize("name", ["_s._tcp.missing.example", "_s._tcp.empty.example", f"_s._tcp.{'a.' * 125}example"])
def test_a_name_without_services_has_none(lookup: DnsLookup, name: str) -> None:
    assert lookup.services(name, 10).services == ()


@pytest.mark.parametrize(("name", "reason"), [("silent", "in time"), ("broken", "refuse or fail")])
def test_no_answer_about_services_is_not_the_same_as_none(lookup: DnsLookup, name: str, reason: str) -> None:
    with pytest.raises(Unreachable, match=reason):
        lookup.services(f"_s._tcp.{name}.example", 1)
