"""Which addresses may be connected to (threats T1, T2)."""

import pytest

from linmatrix.transport.addresses import alternate_families, parse_private_networks, refusal

PUBLIC = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255"]
PUBLIC += ["2001:4860:4860::8888", "2a00:1450:4001::1", "2620:fe::fe", "2001:200::1", "3ffe::1"]

PRIVATE = {
    "10.0.0.1": "private network",
    "172.16.0.1": "private network",
    "172.31.255.255": "private network",
    "192.168.1.1": "private network",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "100.64.0.1": "shared address space",
    "100.127.255.255": "shared address space",
    "::1": "loopback",
    "fc00::1": "private network",
    "fdff:ffff::1": "private network",
}

UNUSABLE = {
    "0.0.0.0": "unspecified",  # noqa: S104 - an address to refuse, nothing is bound
    "0.1.2.3": "unspecified",
    "169.254.169.254": "link-local",
    "192.0.0.8": "protocol assignment",
    "192.0.0.170": "protocol assignment",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.31.196.1": "AS112 service",
    "192.175.48.1": "AS112 service",
    "192.52.193.1": "multicast tunnelling",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.7": "documentation",
    "203.0.113.7": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::ffff:8.8.8.8": "IPv4-mapped",
    "::ffff:127.0.0.1": "IPv4-mapped",
    "::127.0.0.1": "IPv4-compatible",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::808:808": "NAT64",
    "64:ff9b:1::a00:1": "NAT64",
    "100::1": "reserved",
    "2001::1": "Teredo",
    "2001:2::1": "protocol assignment",
    "2001:10::1": "protocol assignment",
    "2001:20::1": "protocol assignment",
    "2001:1ff::1": "protocol assignment",
    "2001:db8::1": "documentation",
    "2002:7f00:1::1": "6to4",
    "2002:808:808::1": "6to4",
    "2620:4f:8000::1": "AS112 service",
    "3fff:fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "reserved",
    "fe80::1": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
    "fe80::1%eth0": "scoped to one interface",
    "2a00::1%1": "scoped to one interface",
}


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("allow_private", [False, True])
def test_public_addresses_may_always_be_used(address: str, allow_private: bool) -> None:
    assert refusal(address, allow_private=allow_private) is None


@pytest.mark.parametrize(("address", "reason"), PRIVATE.items())
def test_private_addresses_need_the_setting(address: str, reason: str) -> None:
    assert refusal(address, allow_private=False) == reason
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(("text", "allowed"), [("1", True), ("yes", True), ("0", False), ("", False), ("off", False)])
def test_private_addresses_are_allowed_or_not(text: str, allowed: bool) -> None:
    assert parse_private_networks(text) is allowed


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.0.1", True),
        ("10.1.255.255", True),
        ("10.2.0.1", False),
        ("127.0.0.1", False),
        ("fd00:1::1", True),
        ("fd00:2::1", False),
        ("::1", False),
        ("8.8.8.8", True),
        ("2a00::1", True),
    ],
)
def test_private_networks_may_be_allowed_one_by_one(address: str, allowed: bool) -> None:
    networks = parse_private_networks("10.1.0.0/16, fd00:1::/32")
    assert (refusal(address, allow_private=networks) is None) is allowed


@pytest.mark.parametrize(
    "text",
    ["maybe", "10.1.0.1/16", "8.8.8.0/24", "0.0.0.0/0", "::/0", "169.254.0.0/16", "64:ff9b::/96", "10.0.0.0/8,x"],
)
def test_what_is_no_private_network_cannot_be_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"no network like|no part of a private network"):
        parse_private_networks(text)


@pytest.mark.parametrize(("address", "reason"), UNUSABLE.items())
@pytest.mark.parametrize("allow_private", [False, True, parse_private_networks("10.0.0.0/8")])
def test_special_addresses_may_never_be_used(address: str, reason: str, allow_private: bool) -> None:
    assert refusal(address, allow_private=allow_private) == reason


@pytest.mark.parametrize("text", ["localhost", "127.1", "0x7f.0.0.1", "2130706433", "127.0.0.01", "", "[::1]"])
def test_only_the_one_spelling_of_an_address_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        refusal(text, allow_private=True)


def test_families_take_turns_with_ipv4_first() -> None:
    given = ["2a00::1", "2a00::2", "2a00::3", "8.8.8.8", "1.1.1.1"]
    assert alternate_families(given) == ("8.8.8.8", "2a00::1", "1.1.1.1", "2a00::2", "2a00::3")
