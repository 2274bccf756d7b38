"""Ask a host's web server which name answers for it: the draft's `.well-known` delegation, from the asking side.

Draft section "GET /.well-known/matrix/server", decisions 72 and 73. Whatever goes wrong here is no failure: the name
is then resolved without delegation. An answer whose time is over is not used again, since the draft then goes on to
the next step; and the name that it delegates to is never delegated again.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from linmatrix.limits import DEFAULTS, Limits
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import Malformed, ProtocolError
from linmatrix.protocol.identifiers import ServerName, parse_server_name
from linmatrix.transport.cache import TtlCache
from linmatrix.transport.deadline import share
from linmatrix.transport.errors import NotConnected, TransportError
from linmatrix.transport.exchange import REQUEST_TARGET, Request, Response
from linmatrix.transport.flights import Flights
from linmatrix.transport.freshness import lifetime
from linmatrix.transport.hosts import Hosts, failure_ttl
from linmatrix.transport.target import Endpoint, Target

logger = logging.getLogger(__name__)

PATH = "/.well-known/matrix/server"

HTTPS_PORT = 443

MAX_TTL = 48 * 3600.0
"""Seconds, whatever the headers say (draft, decision 73): a web server once taken over rules a name no longer."""

DEFAULT_TTL = 24 * 3600.0
"""Seconds, when the headers say nothing (draft)."""

MIN_TTL = 60.0
"""Seconds. An answer that says not to keep it must not cost a request for every request to the server."""

MAX_ERROR_TTL = 3600.0
"""Seconds that an answer which delegates nothing is remembered at most (draft, decision 73)."""

FIRST_ERROR_TTL = 60.0
"""Seconds for the first such answer; each further one in a row doubles them up to `MAX_ERROR_TTL`. Many servers have
no .well-known at all, while one that has just failed may well be back within a minute. What was cut short before its
time by a caller in a hurry says little, and holds as short as a failure of DNS does."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOTHING = ""

_CLOSE = 0.05
"""Seconds before a deadline at which a request that ended was ended by it: libcurl's clock is not ours."""


class Sender(Protocol):
    """What sends a request to one target: `exchange.Exchange`."""

    def send(self, request: Request, *, target: Target, deadline: float) -> Response:
        """One request, one response, until `deadline` (of `time.monotonic`). Raises `TransportError`."""


@dataclass(frozen=True, slots=True)
class _Url:
    """An https URL taken apart: `authority` as it was written, `target` the path and query."""

    text: str
    name: ServerName
    authority: str
    target: str


class WellKnown:
    """Asks for delegations, remembering answers. Safe for any number of threads."""

    def __init__(self, hosts: Hosts, sender: Sender, *, clock: Callable[[], float], limits: Limits = DEFAULTS) -> None:
        self._hosts = hosts
        self._sender = sender
        self._limits = limits
        self._known: TtlCache[str] = TtlCache(max_entries=limits.cached_names, clock=clock)
        self._errors: TtlCache[int] = TtlCache(max_entries=limits.cached_names, clock=clock)
        self._flights: Flights[str] = Flights()

    def delegated(self, host: str, deadline: float) -> str | None:
        """The valid server name that `host` delegates to, or None; found in `well_known_seconds` (decision 73) and
        well before `deadline`."""
        host = host.lower()
        known = self._known.get(host)
        if known is None:
            seconds = share(deadline, most=self._limits.well_known_seconds)
            try:
                known = self._flights.join(host, lambda: self._find_out(host, seconds), seconds=seconds)
            except TimeoutError:
                return None
        return known or None

    def _find_out(self, host: str, seconds: float) -> str:
        """What `host` delegates to, or `_NOTHING`; remembered."""
        known = self._known.get(host)
        if known is not None:
            return known  # found out by another thread between our look and now
        deadline = time.monotonic() + seconds
        within = share(deadline, most=self._limits.lookup_seconds)
        try:
            # Asked for first, since a host that DNS knows no address of says nothing of its web server.
            self._hosts.addresses(host, within)
        except NotConnected:
            self._known.put(host, _NOTHING, ttl=failure_ttl(within))
            return _NOTHING
        try:
            delegated, ttl = self.ask(host, deadline)
        except (TransportError, ProtocolError) as error:
            logger.info("%s is not delegated by .well-known: %s", host, error.reason)
            hurried = seconds < self._limits.well_known_seconds and time.monotonic() > deadline - _CLOSE
            self._known.put(host, _NOTHING, ttl=failure_ttl(seconds) if hurried else self._error_ttl(host))
            return _NOTHING
        self._errors.forget(host)
        self._known.put(host, delegated, ttl=ttl)
        return delegated

    def _error_ttl(self, host: str) -> float:
        """Count one more error in a row, and say for how many seconds it holds."""
        before = self._errors.get(host) or 0
        ttl = min(FIRST_ERROR_TTL * 2.0 ** min(before, 10), MAX_ERROR_TTL)
        # Longer than the error itself, so that the next one finds the count.
        self._errors.put(host, before + 1, ttl=2 * MAX_ERROR_TTL)
        return ttl

    def ask(self, host: str, deadline: float) -> tuple[str, float]:
        """The delegated name and its time in seconds, asked for now. Raises `TransportError` or `ProtocolError`."""
        url = _parse_url(PATH, base=f"https://{host}")
        seen = {url.text}
        while True:
            response = self._get(url, deadline)
            if response.status not in _REDIRECTS:
                return _read(response)
            url = _parse_url(response.headers.get("location", ""), base=url.text)
            if url.text in seen:
                raise Malformed("it redirects in a loop")
            if len(seen) > self._limits.well_known_redirects:
                raise Malformed(f"it redirects more than {self._limits.well_known_redirects} times")
            seen.add(url.text)

    def _get(self, url: _Url, deadline: float) -> Response:
        """An ordinary HTTPS request; the address of every hop is checked anew (threat T2)."""
        addresses = self._hosts.addresses(url.name.host, share(deadline, most=self._limits.lookup_seconds))
        endpoints = tuple(Endpoint(address, url.name.port or HTTPS_PORT) for address in addresses)
        most = self._limits.well_known_bytes
        request = Request(method="GET", target=url.target, headers={}, body=None, max_response_bytes=most)
        target = Target(url.name.host.lower(), url.authority, endpoints)
        return self._sender.send(request, target=target, deadline=deadline)


def _parse_url(reference: str, *, base: str) -> _Url:
    """Where `reference` leads from the URL `base`. Raises `Malformed` when that is not https to a host name of the form
    that server names have."""
    try:
        parts = urlsplit(urljoin(base, reference))
    except ValueError as error:
        raise Malformed("it redirects to what is no URL") from error
    if parts.scheme != "https":
        raise Malformed("it redirects away from https")
    name = parse_server_name(parts.netloc)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not REQUEST_TARGET.fullmatch(target):
        raise Malformed("it redirects to what is no URL")
    return _Url(f"https://{parts.netloc}{target}", name, parts.netloc, target)


def _read(response: Response) -> tuple[str, float]:
    """The delegated name and its time of a final response. Its type does not matter (draft); all else must be right."""
    if response.status != 200:
        raise Malformed(f"the answer has status {response.status}")
    name = canonical_json.loads_object(response.body).get("m.server")
    if not isinstance(name, str):
        raise Malformed("m.server is no string")
    parse_server_name(name)
    ttl = lifetime(response.headers, now=time.time())
    return name, DEFAULT_TTL if ttl is None else min(max(ttl, MIN_TTL), MAX_TTL)
