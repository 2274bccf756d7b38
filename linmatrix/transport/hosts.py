"""From a host name to the addresses that may be connected to: DNS, the address policy, and a memory of both.

Every name that a connection is made to comes through here, whoever named it: a server name, a redirect of a
.well-known request, a delegated name, the target of an SRV record (threats T1, T2). The HTTP client connects to exactly
the addresses it is given, so an answer that changes between the check and the connection is of no use.
"""

from collections.abc import Callable

from linmatrix.limits import DEFAULTS, Limits
from linmatrix.transport.addresses import PrivateNetworks, alternate_families, refusal
from linmatrix.transport.cache import TtlCache
from linmatrix.transport.errors import NotConnected, Unreachable
from linmatrix.transport.lookup import Answer, Lookup

HURRIED_SECONDS = 1.0
"""A lookup that was given less says nothing about a name that it did not find: such a failure is not remembered."""

MIN_TTL = 10.0
"""Seconds. A name with a TTL of zero must not cost a lookup for every request to it."""

MAX_TTL = 3600.0
"""Seconds. A server that moves is found again within the hour, whatever TTL it once published."""

FAILURE_TTL = 10.0
"""Seconds a failed lookup is remembered: enough to damp a burst, too short to delay a repaired name noticeably."""

_LOOPBACK = Answer(("127.0.0.1", "::1"), MAX_TTL)


def is_localhost(host: str) -> bool:
    """Whether a name is loopback by definition (RFC 6761 section 6.3): name servers are not asked about it."""
    return host.lower().rsplit(".", maxsplit=1)[-1] == "localhost"


def failure_ttl(within: float) -> float:
    """Seconds to remember a failure of DNS, or of what depends on it, that had `within` seconds to succeed."""
    return FAILURE_TTL if within >= HURRIED_SECONDS else 0.0


class Hosts:
    """Looks host names up, remembering answers. Safe for any number of threads."""

    def __init__(
        self, lookup: Lookup, *, allow_private: PrivateNetworks, clock: Callable[[], float], limits: Limits = DEFAULTS
    ) -> None:
        self._lookup = lookup
        self._allow_private = allow_private
        self._limits = limits
        self._known: TtlCache[tuple[str, ...] | str] = TtlCache(max_entries=limits.cached_names, clock=clock)

    def addresses(self, host: str, within: float) -> tuple[str, ...]:
        """The checked addresses of `host`, from memory or within `within` seconds from DNS, in the order to try them.

        Raises `NotConnected` when DNS has none, or none that may be connected to.
        """
        host = host.lower()
        known = self._known.get(host)
        if known is None:
            known, ttl = self._look_up(host, within)
            self._known.put(host, known, ttl=ttl)
        if isinstance(known, str):
            raise NotConnected(known)
        return known

    def _look_up(self, host: str, within: float) -> tuple[tuple[str, ...] | str, float]:
        """What to remember of `host`, its usable addresses or why it has none, and for how many seconds."""
        try:
            answer = _LOOPBACK if is_localhost(host) else self._lookup(host, within)
        except Unreachable as error:
            return error.reason, failure_ttl(within)
        refusals = {address: refusal(address, allow_private=self._allow_private) for address in answer.addresses}
        usable = alternate_families([address for address, reason in refusals.items() if reason is None])
        if usable:
            return usable[: self._limits.addresses_per_host], min(max(answer.ttl, MIN_TTL), MAX_TTL)
        address, reason = next(iter(refusals.items()))
        return f"{host} leads to {address} ({reason}); only public addresses may be connected to", FAILURE_TTL
