"""The HTTP client for other servers: a server name and a request in, a response or one precise failure out.

It resolves the name, sends to what that leads to, and keeps one deadline over all of it.
"""

import re
import time
from collections.abc import Mapping

from linmatrix.limits import DEFAULTS, Limits
from linmatrix.transport.exchange import REQUEST_TARGET, Exchange, Request, Response
from linmatrix.transport.resolve import Resolver
from linmatrix.transport.trust import TrustStore

__all__ = ["HttpClient", "Response"]

_METHODS = frozenset({"GET", "POST", "PUT"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_OWN_HEADERS = frozenset({"connection", "content-length", "expect", "host", "transfer-encoding", "user-agent"})


class HttpClient:
    """Sends requests to servers by name. One per process; safe for any number of threads and after a fork.

    `ca_file` names certificate authorities (PEM) trusted besides the system's; OSError if it cannot be read.
    `allow_tls12` lets go of the draft's minimum of TLS 1.3 for peers that cannot do better.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        user_agent: str,
        ca_file: str | None = None,
        allow_tls12: bool = False,
        limits: Limits = DEFAULTS,
    ) -> None:
        self._resolver = resolver
        trust = TrustStore(ca_file)
        self._exchange = Exchange(user_agent=user_agent, trust=trust, allow_tls12=allow_tls12, limits=limits)

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
        return self._exchange.send(request, target=where, deadline=deadline)


def _checked(request: Request) -> Request:
    """The request, if nothing in it could change the meaning of the bytes around it; ValueError otherwise."""
    if request.method not in _METHODS:
        raise ValueError(f"method {request.method!r} is not one of {sorted(_METHODS)}")
    if not REQUEST_TARGET.fullmatch(request.target):
        raise ValueError("request target is not a raw path and query in visible ASCII")
    for name, value in request.headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise ValueError(f"header {name!r} cannot be set")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"value of header {name!r} is empty or not visible ASCII")
    return request
