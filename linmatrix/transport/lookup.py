"""Ask DNS for the addresses of a host name, and for the hosts of a service.

The resolver of the C library is not used: it reads numbers as addresses, appends search domains, hides how long an
answer is good for, and cannot be given a deadline.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import dns.exception
import dns.name
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from linmatrix.transport.errors import Unreachable


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses in text form as DNS gave them, unchecked, at least one, and the seconds they may be kept."""

    addresses: tuple[str, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record: a host, as DNS gave it but without the final dot, unchecked, and a port. The host is empty where
    the record says that there is no service (RFC 2782, a target of ".")."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """SRV records in the order to try them, none when the name has none, and the seconds they may be kept."""

    services: tuple[Service, ...]
    ttl: float


Lookup = Callable[[str, float], Answer]
"""From an absolute host name and the seconds it may take to its addresses. Raises `Unreachable`."""

ServiceLookup = Callable[[str, float], ServiceAnswer]
"""From the name of a service (`_matrix._tcp.` and a host name) and the seconds it may take to its records. Raises
`Unreachable` when DNS does not say whether there are any."""


class DnsLookup:
    """A `Lookup` that asks the machine's name servers, or `nameservers` (IP addresses) when given; its `services` are
    a `ServiceLookup`."""

    def __init__(self, *, nameservers: Sequence[str] | None = None, port: int = 53) -> None:
        self._nameservers = nameservers
        self._port = port

    def __call__(self, host: str, within: float) -> Answer:
        """The A and AAAA records of `host`, CNAMEs followed, asked for within `within` seconds.

        One family that fails is no reason to give up the other. Raises `Unreachable` when neither has an address.
        """
        deadline = time.monotonic() + within
        addresses: list[str] = []
        ttls: list[float] = []
        failure = "has no address in DNS"
        try:
            resolver = self._resolver()
            name = dns.name.from_text(host)
        except dns.exception.DNSException as error:
            raise Unreachable(f"{host} cannot be looked up: {_describe(error)}") from error
        for record in ("A", "AAAA"):
            try:
                left = max(deadline - time.monotonic(), 0.0)
                answer = resolver.resolve(name, record, search=False, lifetime=left, raise_on_no_answer=False)
            except dns.exception.DNSException as error:
                failure = _describe(error)
                continue
            if answer.rrset is not None:
                addresses += [item.to_text() for item in answer.rrset]
                ttls.append(answer.chaining_result.minimum_ttl)  # `ttl` leaves out the CNAMEs on the way
        if not addresses:
            raise Unreachable(f"{host} {failure}")
        return Answer(tuple(addresses), min(ttls))

    def services(self, name: str, within: float) -> ServiceAnswer:
        """The SRV records of `name`, asked for within `within` seconds, in RFC 2782's order of priority and weight.

        The draw among weights is made here, once per answer: its share is for all servers that ask, and this one
        stays with the connections it has. Raises `Unreachable`.
        """
        try:
            answer = self._resolver().resolve(
                dns.name.from_text(name), "SRV", search=False, lifetime=within, raise_on_no_answer=False
            )
        except (dns.resolver.NXDOMAIN, dns.name.NameTooLong):
            return ServiceAnswer((), 0.0)
        except dns.exception.DNSException as error:
            raise Unreachable(f"{name} {_describe(error)}") from error
        records = cast(list[SRV], answer.rrset.processing_order()) if answer.rrset is not None else []
        services = tuple(Service(record.target.to_text().rstrip("."), record.port) for record in records)
        return ServiceAnswer(services, answer.chaining_result.minimum_ttl)

    def _resolver(self) -> dns.resolver.Resolver:
        # Made anew each time: answers are cached by the caller, and the system's configuration may change under us.
        if self._nameservers is None:
            return dns.resolver.Resolver()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = list(self._nameservers)
        resolver.port = self._port
        return resolver


def _describe(error: dns.exception.DNSException) -> str:
    if isinstance(error, dns.resolver.NXDOMAIN):
        return "does not exist in DNS"
    if isinstance(error, dns.exception.Timeout):
        return "could not be looked up in time: the name servers do not answer"
    if isinstance(error, dns.resolver.NoNameservers):
        return "could not be looked up: the name servers refuse or fail"
    return f"could not be looked up: {type(error).__name__}"
