"""Settings about metrics, as they stand in the environment."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

MAX_PORT = 65_535

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> Sequence[Network]:
    """The networks in `127.0.0.0/8,10.1.2.3`. Raises ValueError, with what is wrong."""
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]


def parse_address(text: str) -> tuple[str, int] | None:
    """The address and port in `0.0.0.0:9464` or `[::]:9464`; None for an empty text. Raises ValueError."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT):
        raise ValueError(f"{text!r} is no address and port like 0.0.0.0:9464")
    return str(ip_address(host)), int(port)
