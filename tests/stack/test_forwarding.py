"""Who asks is whom the connection comes from, and whom a proxy names only where the operator trusts that proxy."""

import pytest

from linmatrix.forwarding import origin
from linmatrix.transport.addresses import parse_private_networks

CLIENT, FRONT, SECOND = "203.0.113.9", "172.18.0.5", "10.0.0.7"


def asked(forwarded=None, *, by=FRONT, trusted="1", proto=None):
    headers = [(b"host", b"example.org")]
    headers += [(b"x-forwarded-for", forwarded.encode("latin-1"))] if forwarded is not None else []
    headers += [(b"x-forwarded-proto", proto)] if proto else []
    return origin(headers, address=by, scheme="http", trusted=parse_private_networks(trusted))


def test_a_trusted_proxy_is_believed_the_client_and_the_scheme():
    assert asked(CLIENT, proto=b"https") == (CLIENT, "https")


def test_without_the_setting_nobody_is():
    assert asked(CLIENT, proto=b"https", trusted="") == (FRONT, "http")


@pytest.mark.parametrize("by", ["198.51.100.1", SECOND])
def test_an_address_outside_of_the_trusted_networks_is_not(by):
    assert asked(CLIENT, proto=b"https", by=by, trusted="172.16.0.0/12") == (by, "http")


def test_a_public_address_is_never_a_proxy():
    assert asked(CLIENT, by="198.51.100.1", trusted="1") == ("198.51.100.1", "http")


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (f"1.2.3.4, {CLIENT}", CLIENT),  # what the client made up comes first
        (f"{CLIENT}, {SECOND}", CLIENT),  # two proxies of ours
        (f"1.2.3.4, {CLIENT}, {SECOND}", CLIENT),
        ("2001:db8::1", "2001:db8::1"),
        ("nonsense", FRONT),
        ("", FRONT),
        (f"{CLIENT}, nonsense", FRONT),
        ("\xff", FRONT),
    ],
)
def test_the_list_is_read_from_its_end(forwarded, expected):
    assert asked(forwarded).address == expected


@pytest.mark.parametrize(
    ("added", "expected"), [(CLIENT, CLIENT), (SECOND, CLIENT), ("unix:", FRONT)], ids=["client", "proxy", "nobody"]
)
def test_several_headers_are_one_list(added, expected):
    """A proxy may add a header of its own, and what the client made up stands before it."""
    headers = [(b"x-forwarded-for", f"1.2.3.4, {CLIENT}".encode()), (b"x-forwarded-for", added.encode())]
    assert origin(headers, address=FRONT, scheme="https", trusted=True).address == expected


def test_a_proxy_that_comes_by_ipv4_to_a_socket_of_both_kinds_is_trusted():
    assert asked(CLIENT, by=f"::ffff:{FRONT}").address == CLIENT
    assert asked(CLIENT, by="::ffff:198.51.100.1").address == "::ffff:198.51.100.1"


def test_a_scheme_that_is_none_is_ignored():
    assert asked(CLIENT, proto=b"gopher").scheme == "http"
