"""From a host name to the endpoints that its SRV records name (draft section "Resolving Server Names", RFC 2782)."""

from collections.abc import Callable

from linmatrix.limits import DEFAULTS, Limits
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import parse_server_name
from linmatrix.transport.cache import TtlCache
from linmatrix.transport.deadline import share
from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.hosts import MAX_TTL, MIN_TTL, Hosts, failure_ttl, is_localhost
from linmatrix.transport.lookup import Service, ServiceLookup
from linmatrix.transport.target import Endpoint

SERVICES = ("_matrix-fed._tcp", "_matrix._tcp")
"""Names to ask for, the first that exists counts: Matrix's registered one, then the draft's (decision 72)."""

NOT_FOUND_TTL = 300.0
"""Seconds that a name without SRV records is taken to have none: most have none, and one that gets them is used within
five minutes."""


class Services:
    """Looks SRV records up, remembering answers. Safe for any number of threads."""

    def __init__(
        self, lookup: ServiceLookup, hosts: Hosts, *, clock: Callable[[], float], limits: Limits = DEFAULTS
    ) -> None:
        self._lookup = lookup
        self._hosts = hosts
        self._limits = limits
        # Both names of each host.
        entries = len(SERVICES) * limits.cached_names
        self._known: TtlCache[tuple[Service, ...]] = TtlCache(max_entries=entries, clock=clock)

    def endpoints(self, host: str, deadline: float) -> tuple[Endpoint, ...] | None:
        """The endpoints of `host`'s service in the order to try them; None when it has no SRV record.

        DNS that fails to answer counts as no record: the next step leads to port 8448 and needs a certificate for the
        same name, so nothing is gained by whoever makes it fail. Raises `NotConnected` when there are records but none
        can be used; their target "." says that there is no service (RFC 2782).
        """
        if is_localhost(host):
            return None
        for service in SERVICES:
            records = self._records(f"{service}.{host.lower()}", deadline)
            if records:
                return self._usable(f"{service}.{host}", records, deadline)
        return None

    def _records(self, name: str, deadline: float) -> tuple[Service, ...]:
        known = self._known.get(name)
        if known is not None:
            return known
        within = share(deadline, most=self._limits.lookup_seconds)
        try:
            answer = self._lookup(name, within)
        except Unreachable:
            self._known.put(name, (), ttl=failure_ttl(within))
            return ()
        ttl = min(max(answer.ttl, MIN_TTL), MAX_TTL) if answer.services else NOT_FOUND_TTL
        self._known.put(name, answer.services, ttl=ttl)
        return answer.services

    def _usable(self, name: str, records: tuple[Service, ...], deadline: float) -> tuple[Endpoint, ...]:
        if all(not record.host for record in records):
            raise NotConnected(f"{name} says in DNS that there is no service")
        endpoints: list[Endpoint] = []
        reasons: list[str] = []
        # Those first in RFC 2782's order.
        for record in [record for record in records if record.host][: self._limits.service_targets]:
            try:
                addresses = self._addresses(record, deadline)
            except NotConnected as error:
                reasons.append(error.reason)
            else:
                tried = addresses[: self._limits.addresses_per_service_target]
                endpoints += [Endpoint(address, record.port) for address in tried]
        if not endpoints:
            raise NotConnected(f"{name} names no usable server: {'; '.join(reasons)}")
        return tuple(endpoints)

    def _addresses(self, record: Service, deadline: float) -> tuple[str, ...]:
        """The target's addresses; a target that reads as an address is none (decision 5)."""
        try:
            host = parse_server_name(f"{record.host}:{record.port}").host
        except Malformed as error:
            raise NotConnected(f"a target is unusable: {error.reason}") from error
        return self._hosts.addresses(host, share(deadline, most=self._limits.lookup_seconds))
