"""The DNS side, against a name server on loopback."""

import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from linmatrix.transport.errors import Unreachable
from linmatrix.transport.lookup import Answer, DnsLookup

ZONE = {
    ("both.example.", "A"): [("both.example.", 300, "A", ["192.0.2.1", "192.0.2.2"])],
    ("both.example.", "AAAA"): [("both.example.", 120, "AAAA", ["2001:db8::1"])],
    ("alias.example.", "A"): [
        ("alias.example.", 30, "CNAME", ["real.example."]),
        ("real.example.", 300, "A", ["192.0.2.9"]),
    ],
    ("half.example.", "A"): [("half.example.", 60, "A", ["192.0.2.3"])],
    ("empty.example.", "A"): [],
    ("127.1.", "A"): [("127.1.", 60, "A", ["192.0.2.4"])],
}
"""Records by question. AAAA of names with only A is an empty answer, of half.example a failure of the server."""


def _respond(wire: bytes) -> bytes | None:
    query = dns.message.from_wire(wire)
    question = query.question[0]
    name, record = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    if name == "silent.example.":
        return None
    if name == "broken.example." or (name, record) == ("half.example.", "AAAA"):
        response.set_rcode(dns.rcode.SERVFAIL)
    elif not any(known == name for known, _ in ZONE):
        response.set_rcode(dns.rcode.NXDOMAIN)
    for owner, ttl, kind, values in ZONE.get((name, record), []):
        response.answer.append(dns.rrset.from_text(owner, ttl, "IN", kind, *values))
    return response.to_wire()


@pytest.fixture(scope="module")
def lookup() -> Iterator[DnsLookup]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                wire, client = server.recvfrom(4096)
                if wire == b"stop":
                    return
                response = _respond(wire)
                if response is not None:
                    server.sendto(response, client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield DnsLookup(nameservers=["127.0.0.1"], port=server.getsockname()[1])
        server.sendto(b"stop", server.getsockname())
        thread.join()


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
