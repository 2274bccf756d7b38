"""From a server name to where its requests go: addresses, port, TLS name and Host header.

Draft section "Resolving Server Names". The steps stand in the draft's order, one method each; a step returns None to
leave the name to the next. Every address is checked against `addresses.refusal` here, and the HTTP client connects
to exactly the addresses it is given, so an answer that changes between the check and the connection is of no use.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import ServerName, parse_server_name
from linmatrix.transport.addresses import alternate_families, refusal
from linmatrix.transport.cache import TtlCache
from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.lookup import Answer, DnsLookup, Lookup

DEFAULT_PORT = 8448
"""Where a server listens that says nothing else (draft, step 4)."""

LOOKUP_SECONDS = 5.0
"""Longest wait for DNS: two tries of its usual two seconds each, and well below any request's own limit."""

MAX_CACHED_HOSTS = 4096
"""Bounds the memory names invented by a peer can take, at about 2 MB."""

MIN_TTL = 10.0
"""Seconds. A name with a TTL of zero must not cost a lookup for every request to it."""

MAX_TTL = 3600.0
"""Seconds. A server that moves is found again within the hour, whatever TTL it once published."""

FAILURE_TTL = 10.0
"""Seconds a failed lookup is remembered: enough to damp a burst, too short to delay a repaired name noticeably."""

MAX_ADDRESSES = 8
"""Addresses kept of one answer. Real servers publish a few; more would be room for mischief."""

_LOOPBACK = Answer(("127.0.0.1", "::1"), MAX_TTL)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send a server's requests, ready to connect.

    `tls_name` is the DNS name, lower case, for SNI and certificate verification; `host_header` the value of `Host`;
    `addresses` the checked IP addresses in the order to try them, never empty.
    """

    tls_name: str
    port: int
    host_header: str
    addresses: tuple[str, ...]


class Resolver:
    """Resolves server names, remembering answers. One per process; safe for any number of threads.

    `overrides` maps server names to "address:port" ("[address]:port" for IPv6) for development and for networks
    where DNS cannot say it. These are the operator's word: private addresses are allowed in them, while TLS name and
    Host header stay those of the server name. A malformed one is a ValueError.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        overrides: Mapping[str, str] | None = None,
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allow_private = allow_private
        self._overrides = {name: _parse_override(name, value) for name, value in (overrides or {}).items()}
        self._lookup = lookup or DnsLookup()
        self._hosts: TtlCache[tuple[str, ...] | str] = TtlCache(max_entries=MAX_CACHED_HOSTS, clock=clock)

    def resolve(self, server_name: str, *, within: float = LOOKUP_SECONDS) -> Target:
        """Where requests to `server_name` go, found within `within` seconds.

        Raises `NotConnected` when the name is improper ("uncontactable", draft section "Server Names"), cannot be
        looked up, or leads only to addresses that must not be connected to.
        """
        try:
            name = parse_server_name(server_name)
        except Malformed as error:
            raise NotConnected(f"not a server name: {error.reason}") from error
        within = min(within, LOOKUP_SECONDS)
        for step in (self._override, self._explicit_port):
            target = step(server_name, name, within)
            if target is not None:
                return target
        return self._no_delegation(name, within)

    def _override(self, server_name: str, name: ServerName, _within: float) -> Target | None:
        """Before the draft's steps: the operator's word."""
        override = self._overrides.get(server_name)
        if override is None:
            return None
        address, port = override
        return Target(name.host.lower(), port, server_name, (address,))

    def _explicit_port(self, server_name: str, name: ServerName, within: float) -> Target | None:
        """Step 1: an explicit port is used literally; the Host header carries it, the certificate never does."""
        if name.port is None:
            return None
        return Target(name.host.lower(), name.port, server_name, self._addresses(name.host, within))

    def _no_delegation(self, name: ServerName, within: float) -> Target:
        """Step 4: nothing delegates the name, so its own addresses and the default port; Host without a port."""
        return Target(name.host.lower(), DEFAULT_PORT, name.host, self._addresses(name.host, within))

    def _addresses(self, host: str, within: float) -> tuple[str, ...]:
        """The checked addresses of `host`, from memory or from DNS. Raises `NotConnected`."""
        host = host.lower()
        known = self._hosts.get(host)
        if known is None:
            known, ttl = self._look_up(host, within)
            self._hosts.put(host, known, ttl=ttl)
        if isinstance(known, str):
            raise NotConnected(known)
        return known

    def _look_up(self, host: str, within: float) -> tuple[tuple[str, ...] | str, float]:
        """What to remember of `host`, its usable addresses or why it has none, and for how many seconds."""
        try:
            # RFC 6761 section 6.3: these names are loopback by definition, and many name servers refuse them.
            answer = _LOOPBACK if host.rsplit(".", maxsplit=1)[-1] == "localhost" else self._lookup(host, within)
        except Unreachable as error:
            return error.reason, FAILURE_TTL
        refusals = {address: refusal(address, allow_private=self._allow_private) for address in answer.addresses}
        usable = alternate_families([address for address, reason in refusals.items() if reason is None])
        if usable:
            return usable[:MAX_ADDRESSES], min(max(answer.ttl, MIN_TTL), MAX_TTL)
        address, reason = next(iter(refusals.items()))
        return f"{host} leads to {address} ({reason}); only public addresses may be connected to", FAILURE_TTL


def _parse_override(server_name: str, value: str) -> tuple[str, int]:
    """The address and port of an override, or ValueError when it is not "address:port" of a usable address."""
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"override for {server_name} is not address:port")
    address = str(ip_address(host.removeprefix("[").removesuffix("]")))
    reason = refusal(address, allow_private=True)
    if reason:
        raise ValueError(f"override for {server_name} is unusable: {reason}")
    return address, int(port)
