"""Which IP addresses the server may connect to.

Peers choose the names we connect to (in ids, key queries and invites), so they choose the addresses as well: without
this policy they could make us talk to our own network, the classic server-side request forgery (threats T1, T2).

The tables follow IANA's special-purpose address registries. Python's `is_private` and `is_global` do not serve: on
releases in use they call NAT64, 6to4 relays, IPv4-compatible and multicast addresses global.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import chain, zip_longest
from typing import TypeVar

_Network = TypeVar("_Network", IPv4Network, IPv6Network)

PrivateNetworks = bool | tuple[IPv4Network | IPv6Network, ...]
"""Which private addresses may be connected to: none, all, or those of some networks."""

_PRIVATE_V4 = {
    IPv4Network("10.0.0.0/8"): "private network",
    IPv4Network("100.64.0.0/10"): "shared address space",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("172.16.0.0/12"): "private network",
    IPv4Network("192.168.0.0/16"): "private network",
}
_PRIVATE_V6 = {
    IPv6Network("::1/128"): "loopback",
    IPv6Network("fc00::/7"): "private network",
}
_UNUSABLE_V4 = {
    IPv4Network("0.0.0.0/8"): "unspecified",
    IPv4Network("169.254.0.0/16"): "link-local",  # cloud metadata services live here
    IPv4Network("192.0.0.0/24"): "protocol assignment",
    IPv4Network("192.0.2.0/24"): "documentation",
    IPv4Network("192.31.196.0/24"): "AS112 service",
    IPv4Network("192.52.193.0/24"): "multicast tunnelling",
    IPv4Network("192.88.99.0/24"): "6to4 relay",
    IPv4Network("192.175.48.0/24"): "AS112 service",
    IPv4Network("198.18.0.0/15"): "benchmarking",
    IPv4Network("198.51.100.0/24"): "documentation",
    IPv4Network("203.0.113.0/24"): "documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
# The first match names the address. What lies outside 2000::/3 and is in no table is refused as reserved.
_UNUSABLE_V6 = {
    IPv6Network("::/128"): "unspecified",
    IPv6Network("::ffff:0:0/96"): "IPv4-mapped",
    IPv6Network("::/96"): "IPv4-compatible",
    IPv6Network("64:ff9b::/96"): "NAT64",
    IPv6Network("64:ff9b:1::/48"): "NAT64",
    IPv6Network("2001::/32"): "Teredo",
    IPv6Network("2001::/23"): "protocol assignment",
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("2002::/16"): "6to4",
    IPv6Network("2620:4f:8000::/48"): "AS112 service",
    IPv6Network("3fff::/20"): "documentation",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("fec0::/10"): "site-local",
    IPv6Network("ff00::/8"): "multicast",
}
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")


def parse_private_networks(text: str) -> PrivateNetworks:
    """From the operator's text: a yes, a no (nothing is one), or private networks, `10.1.0.0/16,fd00:1::/32`.

    Raises ValueError, which names the entry, for what is no network or not private: public addresses need no
    permission, and no permission helps any other.
    """
    answers = {"": False, "0": False, "false": False, "no": False, "off": False}
    answers |= {"1": True, "true": True, "yes": True, "on": True}
    answer = answers.get(text.strip().lower())
    return tuple(map(_private_network, filter(None, map(str.strip, text.split(","))))) if answer is None else answer


def _private_network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network like 10.1.0.0/16") from error
    private: Sequence[IPv4Network | IPv6Network] = [*_PRIVATE_V4, *_PRIVATE_V6]
    if not any(network.version == other.version and network.subnet_of(other) for other in private):  # type: ignore[arg-type]
        raise ValueError(f"{text} is no part of a private network")
    return network


def refusal(address: str, *, allow_private: PrivateNetworks) -> str | None:
    """Why `address` must not be connected to, in a few words, or None when it may be.

    With `allow_private` loopback, private networks and shared address space pass, all of it or as far as the networks
    go; nothing else does. An address that
    carries another one (IPv4-mapped, NAT64, 6to4, Teredo) is refused whatever it carries: one spelling per address
    is what makes a block list sound. `address` is the text of an IP address, or ValueError is raised.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        unusable = _first(_UNUSABLE_V4, parsed)
        return unusable or (None if _is_allowed(parsed, allow_private) else _first(_PRIVATE_V4, parsed))
    if parsed.scope_id is not None:
        return "scoped to one interface"
    private = _first(_PRIVATE_V6, parsed)
    if private:
        return None if _is_allowed(parsed, allow_private) else private
    return _first(_UNUSABLE_V6, parsed) or (None if parsed in _GLOBAL_UNICAST_V6 else "reserved")


def is_private(address: IPv4Address | IPv6Address, networks: PrivateNetworks) -> bool:
    """Whether it is loopback or of a private network, and one of those that `networks` says."""
    table = _PRIVATE_V4 if isinstance(address, IPv4Address) else _PRIVATE_V6
    return any(address in network for network in table) and _is_allowed(address, networks)


def _is_allowed(address: IPv4Address | IPv6Address, allowed: PrivateNetworks) -> bool:
    return allowed if isinstance(allowed, bool) else any(address in network for network in allowed)


def _first(table: Mapping[_Network, str], address: IPv4Address | IPv6Address) -> str | None:
    return next((kind for network, kind in table.items() if address in network), None)


def alternate_families(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses with IPv4 and IPv6 taking turns, IPv4 first, each family in its given order.

    They are tried one after another: a machine without IPv4 fails such an attempt at once, while one with a broken
    IPv6 route, the commoner case, waits for the whole connect timeout.
    """
    v4 = [address for address in addresses if ":" not in address]
    v6 = [address for address in addresses if ":" in address]
    return tuple(address for address in chain.from_iterable(zip_longest(v4, v6)) if address is not None)
