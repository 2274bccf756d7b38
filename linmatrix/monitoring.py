"""The pages for machines that watch this server: /metrics, /health/live and /health/ready.

They are served with everything else, and at the address of LINMATRIX_METRICS_LISTEN, which no balancer passes on.
Metrics, and why a server is not ready, tell of traffic and of our insides (threat T79). They are for who shows the
token of LINMATRIX_METRICS_TOKEN_FILE, and for the networks of LINMATRIX_METRICS_ALLOW, loopback unless it says
otherwise. At the public address a network counts only if it is loopback and the request did not come by way of a proxy:
behind a balancer all requests have the balancer's address. Everybody else learns whether the server is ready, and no
more.
"""

import hmac
import json
import logging
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from linmatrix.health import checks
from linmatrix.metrics.exposition import CONTENT_TYPE, exposition

logger = logging.getLogger(__name__)

PATHS = ("/metrics", "/health/live", "/health/ready")
JSON = "application/json"
MIN_TOKEN_LENGTH = 16
_MAX_TOKEN_BYTES = 4096
_SIGNS_OF_A_PROXY = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_", "HTTP_X_REAL_IP", "HTTP_VIA")
"""How the names of headers begin that proxies add."""
_OLD_HTTP = ("HTTP/1.0", "HTTP/1")
"""Of which the second is how granian calls it."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: by the address of the connection and the Authorization header. `public`: at the address that others
    know; `direct`: without a proxy that says that it is one."""

    address: str
    authorization: str
    public: bool
    direct: bool = True

    def sees_all(self) -> bool:
        """Whether metrics and reasons are for this reader."""
        return self._has_token() or self._is_near()

    def _has_token(self) -> bool:
        scheme, _, shown = self.authorization.partition(" ")
        token = read_token(settings.METRICS_TOKEN_FILE)
        return bool(token) and scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token)

    def _is_near(self) -> bool:
        try:
            address = ip_address(self.address)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if self.public and not (address.is_loopback and self.direct):
            return False
        return any(address in network for network in settings.METRICS_ALLOW)


def read_token(file: Path | None) -> bytes:
    """The token in a file, empty when there is none that can be used; read anew each time, so that it can change."""
    if file is None:
        return b""
    try:
        with file.open("rb") as opened:
            token = opened.read(_MAX_TOKEN_BYTES).strip()
    except OSError as error:
        logger.error("the token in LINMATRIX_METRICS_TOKEN_FILE cannot be read: %s", error.strerror)
        return b""
    if len(token) < MIN_TOKEN_LENGTH:
        logger.error("the token in LINMATRIX_METRICS_TOKEN_FILE is shorter than %s characters", MIN_TOKEN_LENGTH)
        return b""
    return token


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    content_type: str
    body: bytes


def page(path: str, reader: Reader) -> Page:
    """The answer to a GET of one of `PATHS`."""
    if path == "/health/live":
        return _json(200, {"status": "live"})
    if path == "/health/ready":
        return _ready(reader)
    if not reader.sees_all():
        text = b"Metrics are not shown to you: see docs/metrics.md of linmatrix.\n"
        return Page(403, "text/plain; charset=utf-8", text)
    return Page(200, CONTENT_TYPE, exposition())


def _ready(reader: Reader) -> Page:
    sees_all = reader.sees_all()
    findings = checks.check(required_only=not sees_all)
    ready = all(found.ok for found in findings.values() if found.required)
    status = 200 if ready else 503
    if not sees_all:
        return _json(status, {"status": "ready" if ready else "not ready"})
    well = all(found.ok for found in findings.values())
    return _json(
        status,
        {
            "status": "not ready" if not ready else "ready" if well else "degraded",
            "checks": {
                name: {"ok": found.ok} | ({"reason": found.reason, "required": found.required} if found.reason else {})
                for name, found in findings.items()
            },
        },
    )


def _json(status: int, content: object) -> Page:
    return Page(status, JSON, json.dumps(content, indent=1).encode() + b"\n")


def _is_direct(request: HttpRequest) -> bool:
    """Whether nothing shows that a proxy passed the request on. HTTP/1.0 does: nothing but proxies still speaks it,
    nginx for one, which adds no header by itself."""
    if request.META.get("SERVER_PROTOCOL") in _OLD_HTTP:
        return False
    return not any(name.startswith(_SIGNS_OF_A_PROXY) for name in request.META)


def view(request: HttpRequest) -> HttpResponse:
    """The pages at the public address."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    reader = Reader(
        address=request.META.get("REMOTE_ADDR", ""),
        authorization=request.META.get("HTTP_AUTHORIZATION", ""),
        public=True,
        direct=_is_direct(request),
    )
    answer = page(request.path_info, reader)
    return HttpResponse(
        answer.body, status=answer.status, content_type=answer.content_type, headers={"Cache-Control": "no-store"}
    )
