"""From a server name to where its requests go: addresses, ports, TLS name and Host header.

Draft section "Resolving Server Names", decision 72. The steps stand in the draft's order, one method each; a step
returns None to leave the name to the next. Where a step of the draft reads "skip to Step 4", the one after .well-known
is meant.
"""

import math
import time
from collections.abc import Callable, Mapping

from linmatrix.limits import DEFAULTS, Limits
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import ServerName, parse_server_name
from linmatrix.transport.addresses import PrivateNetworks
from linmatrix.transport.deadline import share
from linmatrix.transport.errors import NotConnected
from linmatrix.transport.hosts import Hosts
from linmatrix.transport.lookup import DnsLookup, Lookup, ServiceLookup
from linmatrix.transport.overrides import parse_override
from linmatrix.transport.services import Services
from linmatrix.transport.target import Endpoint, Target
from linmatrix.transport.well_known import Sender, WellKnown

DEFAULT_PORT = 8448
"""Where a server listens that says nothing else (draft, step 4)."""


class Resolver:
    """Resolves server names, remembering answers. One per process; safe for any number of threads.

    `lookup` asks DNS for addresses, `services` for SRV records; `web` sends the requests of .well-known, which are
    ordinary HTTPS. Without `services` or `web` names are resolved as if nobody used SRV records or .well-known.
    `overrides` map server names to addresses as `overrides.parse_override` has them; they are the operator's word, so
    private addresses are allowed there. A malformed one is a ValueError.
    """

    def __init__(
        self,
        *,
        allow_private: PrivateNetworks,
        overrides: Mapping[str, str] | None = None,
        lookup: Lookup | None = None,
        services: ServiceLookup | None = None,
        web: Sender | None = None,
        clock: Callable[[], float] = time.monotonic,
        limits: Limits = DEFAULTS,
    ) -> None:
        self._limits = limits
        self._overrides = {name: parse_override(name, value) for name, value in (overrides or {}).items()}
        self._hosts = Hosts(lookup or DnsLookup(), allow_private=allow_private, clock=clock, limits=limits)
        self._services = Services(services, self._hosts, clock=clock, limits=limits) if services else None
        self._well_known = WellKnown(self._hosts, web, clock=clock, limits=limits) if web else None

    def resolve(self, server_name: str, *, within: float = math.inf) -> Target:
        """Where requests to `server_name` go, found within `within` seconds, of which some are left for the request,
        and in any case within `resolve_seconds`.

        Raises `NotConnected` when the name is improper ("uncontactable", draft section "Server Names"), cannot be
        looked up, or leads only to addresses that must not be connected to.
        """
        try:
            name = parse_server_name(server_name)
        except Malformed as error:
            raise NotConnected(f"not a server name: {error.reason}") from error
        if server_name in self._overrides:
            return self._overrides[server_name]
        deadline = time.monotonic() + min(within, self._limits.resolve_seconds)
        return (
            self._explicit_port(server_name, name, deadline)
            or self._delegated(name, deadline)
            or self._service(name, deadline)
            or self._default_port(name, deadline)
        )

    def _explicit_port(self, server_name: str, name: ServerName, deadline: float) -> Target | None:
        """Steps 1 and 2.1: an explicit port is used literally; the Host header carries it, the certificate never."""
        if name.port is None:
            return None
        return Target(name.host.lower(), server_name, self._endpoints(name.host, name.port, deadline))

    def _delegated(self, name: ServerName, deadline: float) -> Target | None:
        """Step 2: .well-known delegates the name. The delegated name goes through all other steps, but not this one
        again; and it, not the original, is in the certificate and the Host header."""
        server_name = self._well_known.delegated(name.host, deadline) if self._well_known else None
        if server_name is None:
            return None
        delegated = parse_server_name(server_name)
        return (
            self._explicit_port(server_name, delegated, deadline)
            or self._service(delegated, deadline)
            or self._default_port(delegated, deadline)
        )

    def _service(self, name: ServerName, deadline: float) -> Target | None:
        """Steps 2.3 and 3: SRV records say where, while certificate and Host header stay those of the name itself."""
        endpoints = self._services.endpoints(name.host, deadline) if self._services else None
        return Target(name.host.lower(), name.host, endpoints) if endpoints else None

    def _default_port(self, name: ServerName, deadline: float) -> Target:
        """Steps 2.4 and 4: the name's own addresses and the default port; Host without a port."""
        return Target(name.host.lower(), name.host, self._endpoints(name.host, DEFAULT_PORT, deadline))

    def _endpoints(self, host: str, port: int, deadline: float) -> tuple[Endpoint, ...]:
        addresses = self._hosts.addresses(host, share(deadline, most=self._limits.lookup_seconds))
        return tuple(Endpoint(address, port) for address in addresses)
