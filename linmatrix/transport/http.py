"""The HTTP client for other servers: a server name and a request in, a response or one precise failure out.

It resolves the name, tries the checked addresses in turn, and keeps one deadline over all of it.
"""

import re
import time
from collections.abc import Mapping

from linmatrix.transport.errors import NotConnected
from linmatrix.transport.exchange import Exchange, Request, Response
from linmatrix.transport.resolve import Resolver, Target
from linmatrix.transport.trust import TrustStore

__all__ = ["HttpClient", "Response"]

CONNECT_SECONDS = 10.0
"""Longest wait for TCP and TLS together with one address: several round trips to the far side of the world, and two
lost packets."""

MAX_ATTEMPTS = 3
"""Addresses tried for one request; where three do not answer, a later retry serves better than a fourth."""

_METHODS = frozenset({"GET", "POST", "PUT"})
_REQUEST_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")  # visible ASCII without "#"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_OWN_HEADERS = frozenset({"connection", "content-length", "expect", "host", "transfer-encoding", "user-agent"})


class HttpClient:
    """Sends requests to servers by name. One per process; safe for any number of threads and after a fork.

    `ca_file` names certificate authorities (PEM) trusted besides the system's; OSError if it cannot be read.
    `allow_tls12` lets go of the draft's minimum of TLS 1.3 for peers that cannot do better.
    """

    def __init__(
        self, resolver: Resolver, *, user_agent: str, ca_file: str | None = None, allow_tls12: bool = False
    ) -> None:
        self._resolver = resolver
        self._exchange = Exchange(user_agent=user_agent, trust=TrustStore(ca_file), allow_tls12=allow_tls12)

    def request(
        self,
        server_name: str,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout: float,
        max_response_bytes: int,
    ) -> Response:
        """Send one request to `server_name` and return its response, whatever the status.

        `target` is the raw path and query exactly as signed and goes out byte for byte. `timeout` is in seconds, DNS
        and all attempts included. A body is sent as it is; name its type in `headers`. Compression is not asked for.
        Raises `Unreachable` (`NotConnected` if the peer cannot have seen the request) or `ResponseTooLarge`; a
        ValueError is a mistake of the caller.
        """
        request = _checked(
            Request(method=method, target=target, headers=headers, body=body, max_response_bytes=max_response_bytes)
        )
        deadline = time.monotonic() + timeout
        where = self._resolver.resolve(server_name, within=timeout)
        return self._send(request, where, deadline)

    def _send(self, request: Request, where: Target, deadline: float) -> Response:
        """Try the addresses in turn until one takes the connection; once a request may have been seen, no more."""
        reasons: list[str] = []
        addresses = where.addresses[:MAX_ATTEMPTS]
        for index, address in enumerate(addresses):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # An address that swallows packets must leave time for those after it.
            connect = min(CONNECT_SECONDS, left / (len(addresses) - index))
            try:
                return self._exchange.send(
                    request, target=where, address=address, seconds=left, connect_seconds=connect
                )
            except NotConnected as error:
                reasons.append(error.reason)
        raise NotConnected("; ".join(reasons) or f"no time left to connect to {where.host_header}")


def _checked(request: Request) -> Request:
    """The request, if nothing in it could change the meaning of the bytes around it; ValueError otherwise."""
    if request.method not in _METHODS:
        raise ValueError(f"method {request.method!r} is not one of {sorted(_METHODS)}")
    if not _REQUEST_TARGET.fullmatch(request.target):
        raise ValueError("request target is not a raw path and query in visible ASCII")
    for name, value in request.headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise ValueError(f"header {name!r} cannot be set")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"value of header {name!r} is empty or not visible ASCII")
    return request
