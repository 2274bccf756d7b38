"""One request to one target, one response: the part that speaks libcurl.

HTTP/2 where the server offers it, HTTP/1.1 where not, TLS 1.3 at least (draft section "Transport", decision 62) unless
the exchange was made for older servers. The connection goes to an address that was checked beforehand, while SNI and
certificate are those of the target's name.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pycurl

from linmatrix.limits import DEFAULTS, Limits
from linmatrix.transport.collect import Collector
from linmatrix.transport.errors import NotConnected, ResponseTooLarge
from linmatrix.transport.failures import explain
from linmatrix.transport.handles import Handles
from linmatrix.transport.target import Endpoint, Target
from linmatrix.transport.trust import TrustStore

LOW_SPEED_BYTES = 64
"""A transfer below so many a second is given up after `slow_seconds`: one that drips bytes shall not hold a worker for
all of a long timeout."""

REQUEST_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")
"""A raw path and query: visible ASCII without "#"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send. `target` is the request-target exactly as signed: raw path and query, never re-encoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    max_response_bytes: int


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: header names in lower case, values of repeated headers joined with ", "."""

    status: int
    headers: dict[str, str]
    body: bytes


class Exchange:
    """Sends requests over connections that are kept and reused. Safe for any number of threads and after a fork."""

    def __init__(self, *, user_agent: str, trust: TrustStore, allow_tls12: bool, limits: Limits = DEFAULTS) -> None:
        self._user_agent = user_agent
        self._trust = trust
        self._allow_tls12 = allow_tls12
        self._limits = limits
        self._handles = Handles(self._make_handle, connections=limits.kept_connections)

    def send(self, request: Request, *, target: Target, deadline: float) -> Response:
        """Send `request` to one of the target's endpoints and return the whole response, until `deadline` (of
        `time.monotonic`).

        The endpoints are tried in turn until one takes the connection; once a request may have been seen, no more.
        Raises `NotConnected` if no peer can have seen the request, `Unreachable` if no complete response came,
        `ResponseTooLarge` if it passed a limit. Redirects are responses like any other.
        """
        reasons: list[str] = []
        for index, endpoint in enumerate(target.endpoints):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # An address that swallows packets must leave time for those after it.
            connect = min(self._limits.connect_seconds, left / (len(target.endpoints) - index))
            try:
                with self._handles.lend((target.plain, target.tls_name, endpoint)) as handle:
                    return self._send_over(
                        handle, endpoint, request, target=target, seconds=left, connect_seconds=connect
                    )
            except NotConnected as error:
                reasons.append(error.reason)
        raise NotConnected("; ".join(reasons) or f"no time left to connect to {target.host_header}")

    def _send_over(
        self,
        handle: pycurl.Curl,
        endpoint: Endpoint,
        request: Request,
        *,
        target: Target,
        seconds: float,
        connect_seconds: float,
    ) -> Response:
        """One attempt, of `seconds`, `connect_seconds` of them at most for connecting."""
        collector = Collector(
            max_header_bytes=self._limits.answer_header_bytes, max_body_bytes=request.max_response_bytes
        )
        collector.attach(handle)
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP if target.plain else pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.URL, f"{'http' if target.plain else 'https'}://{target.tls_name}:{endpoint.port}/")
        # No host and port before the address: it holds whatever the URL says, so libcurl never looks a name up.
        handle.setopt(pycurl.CONNECT_TO, [f"::{endpoint}"])
        # In a URL, even with PATH_AS_IS, libcurl rewrites %2f as %2F, and a signature over the target would break.
        handle.setopt(pycurl.REQUEST_TARGET, request.target)
        handle.setopt(pycurl.HTTPHEADER, _header_lines(request, target))
        if request.body is None:
            handle.setopt(pycurl.HTTPGET, True)
        else:
            handle.setopt(pycurl.POSTFIELDS, request.body)
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)
        handle.setopt(pycurl.TIMEOUT_MS, _milliseconds(seconds))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(connect_seconds))
        try:
            handle.perform()
        except pycurl.error as error:
            if collector.overflow:
                raise ResponseTooLarge(f"{collector.overflow} from {target.host_header}") from error
            oldest_tls = "1.2" if self._allow_tls12 else "1.3"
            raise explain(
                error, handle, target=target, endpoint=endpoint, seconds=seconds, oldest_tls=oldest_tls
            ) from error
        finally:
            handle.setopt(pycurl.POSTFIELDS, b"")  # or the handle keeps the body until its next request
        return Response(handle.getinfo(pycurl.RESPONSE_CODE), collector.headers, collector.take_body())

    def _make_handle(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, True)
        handle.setopt(pycurl.FOLLOWLOCATION, False)
        handle.setopt(pycurl.PROXY, "")  # an empty string, or the environment decides
        handle.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2 if self._allow_tls12 else pycurl.SSLVERSION_TLSv1_3)
        handle.setopt(pycurl.SSL_VERIFYPEER, True)
        handle.setopt(pycurl.SSL_VERIFYHOST, 2)
        self._trust.apply(handle)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        handle.setopt(pycurl.USERAGENT, self._user_agent)
        # libcurl's default of 5 would close the connections of a room with six busy servers again and again.
        handle.setopt(pycurl.MAXCONNECTS, self._limits.kept_connections)
        handle.setopt(pycurl.MAXAGE_CONN, self._limits.idle_connection_seconds)
        handle.setopt(pycurl.MAXLIFETIME_CONN, self._limits.connection_seconds)
        handle.setopt(pycurl.LOW_SPEED_LIMIT, LOW_SPEED_BYTES)
        handle.setopt(pycurl.LOW_SPEED_TIME, self._limits.slow_seconds)
        return handle


def _header_lines(request: Request, target: Target) -> list[str]:
    """The header lines libcurl shall send in place of its own; a name without a value takes a header away."""
    lines = [f"Host: {target.host_header}", *(f"{name}: {value}" for name, value in request.headers.items())]
    lines.append("Expect:")  # waiting for "100 Continue" before a large body would cost a second
    if not any(name.lower() == "content-type" for name in request.headers):
        lines.append("Content-Type:")  # or libcurl calls the body a form
    return lines


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))  # zero would mean no limit
