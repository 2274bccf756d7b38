"""Where the operator says that servers are, against everything that DNS and the servers say.

For development and for networks where DNS cannot say it; the only way to plain HTTP. The text has the form
`peer.localhost:3500=http://127.0.0.1:3500,other.example=https://127.0.0.1:8448`.
"""

from ipaddress import ip_address

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import parse_server_name
from linmatrix.transport.addresses import refusal
from linmatrix.transport.target import Endpoint, Target

_SCHEMES = {"http": True, "https": False}


def split_overrides(text: str) -> dict[str, str]:
    """From the operator's text to addresses by server name, each in a form that `parse_override` takes.

    Raises ValueError, which says what is wrong with which entry, for one that is malformed or stands twice.
    """
    overrides: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"{entry!r} is not name=scheme://address:port")
        if name in overrides:
            raise ValueError(f"{name} stands there twice")
        parse_override(name, value)
        overrides[name] = value
    return overrides


def parse_override(server_name: str, value: str) -> Target:
    """Where requests to `server_name` go by `value`: `http://` or `https://` (the same as neither), an IP address, a
    port.

    Private addresses are allowed, since the operator chose them; TLS name and Host header stay those of the server
    name. Raises ValueError.
    """
    try:
        host = parse_server_name(server_name).host
    except Malformed as error:
        raise ValueError(f"override for {server_name!r}: {error.reason}") from error
    scheme, separator, rest = value.rpartition("://")
    if separator and scheme not in _SCHEMES:
        raise ValueError(f"override for {server_name}: the scheme is not http or https")
    address_text, _, port = rest.rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"override for {server_name} is not scheme://address:port")
    try:
        address = str(ip_address(address_text.removeprefix("[").removesuffix("]")))
    except ValueError as error:
        raise ValueError(f"override for {server_name} has no IP address before its port") from error
    reason = refusal(address, allow_private=True)
    if reason:
        raise ValueError(f"override for {server_name} is unusable: {reason}")
    return Target(host.lower(), server_name, (Endpoint(address, int(port)),), plain=_SCHEMES.get(scheme, False))
