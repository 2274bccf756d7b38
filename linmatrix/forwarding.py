"""Who asks, where a front stands between: it says so in X-Forwarded-For and X-Forwarded-Proto.

Anybody can send these headers. They count where the connection comes from an address that LINMATRIX_TRUSTED_PROXIES
names, and from nobody else; without that setting never.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from linmatrix.transport.addresses import PrivateNetworks, is_private


class Origin(NamedTuple):
    """Where a request began: the client's address, and the scheme that it used."""

    address: str
    scheme: str


def origin(headers: Iterable[tuple[bytes, bytes]], *, address: str, scheme: str, trusted: PrivateNetworks) -> Origin:
    """Where a request began that came over a connection from `address`, which uses `scheme`.

    The list in X-Forwarded-For is read from its end: each proxy adds whom it was asked by, so the last address that is
    not one of ours is the client, and what stands before it the client may have made up. Proxies add to the header or
    add another one of the name; several are one list.
    """
    if not _is_trusted(address, trusted):
        return Origin(address, scheme)
    asked_by: list[str] = []
    for name, value in headers:
        if name == b"x-forwarded-for":
            asked_by += value.decode("latin-1").split(",")
        elif name == b"x-forwarded-proto" and value in (b"http", b"https"):
            scheme = value.decode()
    for text in map(str.strip, reversed(asked_by)):
        if _parsed(text) is None:
            break
        address = text
        if not _is_trusted(address, trusted):
            break
    return Origin(address, scheme)


def _is_trusted(text: str, trusted: PrivateNetworks) -> bool:
    address = _parsed(text)
    return address is not None and is_private(address, trusted)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket that listens on :: has those who come by IPv4 as ::ffff:10.0.0.7.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
