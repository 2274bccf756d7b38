"""Requests to other servers: signed, in the form that the peer wants, their answers parsed.

Draft sections "Request Authentication" and "Requests and Responses"; decisions 3 and 65. Two things about a
peer are learnt by asking: whether it wants requests without a body signed with an empty `content` or with
none, and under which paths it serves endpoints that have two. They belong to its `federation.wire_profile`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

from federation.blocking import block_list
from federation.paths import Paths
from federation.wire_profile import Profiles, profiles
from keys.http import http_client
from keys.local import signing_key
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.request_auth import authorization
from linmatrix.protocol.signing import SigningKey
from linmatrix.transport.errors import TransportError
from linmatrix.transport.http import HttpClient

MIN_SECOND_SECONDS = 1.0
"""A second request of one call gets the time that is left, and at least this much."""

MAX_LINE = 300
"""Characters kept of what a peer says went wrong: a sentence for the operator."""


class Blocked(TransportError):
    """The server is one that the operator has blocked: nothing was sent, nor was its name looked up."""


class BadAnswer(TransportError):
    """A success whose body is no JSON object: something other than the endpoint answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A peer's answer, whatever the status. `content` is None when a refusal came without a JSON object."""

    status: int
    content: dict[str, Any] | None

    @property
    def errcode(self) -> str:
        """The error code of a refusal, or an empty string."""
        errcode = (self.content or {}).get("errcode")
        return errcode if isinstance(errcode, str) else ""

    @property
    def retry_after_seconds(self) -> float:
        """How long a rate-limited caller should wait (draft, "Rate Limiting"); 0 when the answer says nothing."""
        milliseconds = (self.content or {}).get("retry_after_ms")
        return max(0, milliseconds) / 1000 if self.status == 429 and type(milliseconds) is int else 0.0

    @property
    def unrecognized(self) -> bool:
        """Whether the path is unknown to the peer; some say so with a page for people instead of an error code."""
        return self.status == 404 and self.errcode in ("", "M_UNRECOGNIZED")

    def __str__(self) -> str:
        error = (self.content or {}).get("error")
        return one_line(f"HTTP {self.status} {self.errcode} {error if isinstance(error, str) else ''}".strip())


def one_line(text: str) -> str:
    """Text from outside as one short line that any log and any column takes."""
    return "".join(character if character.isprintable() else " " for character in text[:MAX_LINE])


@dataclass(frozen=True, slots=True)
class _Request:
    server: str
    method: str
    target: str
    body: bytes | None
    max_response_bytes: int


class FederationClient:
    """Sends requests as `server_name`, to each peer as its profile in `profiles` says. One per process; safe for any
    number of threads. Without `profiles` what it learns of peers is forgotten with it. Servers that `blocks` names are
    left alone."""

    def __init__(
        self,
        http: HttpClient,
        key: SigningKey,
        server_name: str,
        *,
        profiles: Profiles | None = None,
        blocks: Callable[[str], bool] = lambda _server: False,
    ) -> None:
        self._http = http
        self._key = key
        self._server_name = server_name
        self._profiles = profiles or Profiles()
        self._blocks = blocks

    def call(
        self,
        server: str,
        method: str,
        paths: Paths,
        *,
        stable: bool,
        content: dict[str, Any] | bytes | None = None,
        timeout: float | None = None,
        max_response_bytes: int | None = None,
    ) -> Answer:
        """Call an endpoint that has two paths: the form that the peer is known to serve, else the one that `stable`
        says, and when it is unrecognized once the other. Otherwise as `request`."""
        known = self._profiles.of(server).stable_paths
        stable = stable if known is None else known
        deadline = time.monotonic() + (timeout or settings.LIMITS.request_seconds)

        def attempt(target: str) -> Answer:
            left = max(deadline - time.monotonic(), MIN_SECOND_SECONDS)
            return self.request(
                server, method, target, content=content, timeout=left, max_response_bytes=max_response_bytes
            )

        answer = attempt(paths.form(stable=stable))
        if answer.unrecognized and paths.stable != paths.unstable:
            other = attempt(paths.form(stable=not stable))
            if not other.unrecognized:
                self._profiles.learn(server, stable_paths=not stable)
                return other
        return answer

    def request(
        self,
        server: str,
        method: str,
        target: str,
        *,
        content: dict[str, Any] | bytes | None = None,
        timeout: float | None = None,
        max_response_bytes: int | None = None,
    ) -> Answer:
        """Send one signed request and return its answer, whatever the status.

        `target` is the raw path and query, `content` the body: an object, bytes that are canonical JSON already, or
        None for no body. `timeout` is in seconds for all of it; without it and without `max_response_bytes`, the limits
        `request_seconds` and `answer_bytes` hold. A request without a body that gets a 401 is
        signed once more in the other form (decision 65). Raises `TransportError`: `Unreachable` and
        `ResponseTooLarge` from the transport, `BadAnswer` for a success without a JSON object, `Blocked`.
        """
        if self._blocks(server):
            raise Blocked("blocked on this server")
        timeout = timeout or settings.LIMITS.request_seconds
        most = max_response_bytes or settings.LIMITS.answer_bytes
        deadline = time.monotonic() + timeout
        if content is not None:
            body = content if isinstance(content, bytes) else canonical_json.dumps(content)
            request = _Request(server, method, target, body, most)
            return self._exchange(request, signed=body, timeout=timeout)
        request = _Request(server, method, target, None, most)
        without = bool(self._profiles.of(server).signs_without_content)
        answer = self._exchange(request, signed=None if without else b"{}", timeout=timeout)
        if answer.status != 401:
            return answer
        left = max(deadline - time.monotonic(), MIN_SECOND_SECONDS)
        second = self._exchange(request, signed=b"{}" if without else None, timeout=left)
        if second.status != 401:
            self._profiles.learn(server, signs_without_content=not without)
        return second

    def _exchange(self, request: _Request, *, signed: bytes | None, timeout: float) -> Answer:
        """Send a request whose signature covers `signed` as its content, or no content."""
        credentials = authorization(
            method=request.method,
            uri=request.target,
            origin=self._server_name,
            destination=request.server,
            content=signed,
            key=self._key,
        )
        headers = {"Authorization": credentials}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        response = self._http.request(
            request.server,
            request.method,
            request.target,
            headers=headers,
            body=request.body,
            timeout=timeout,
            max_response_bytes=request.max_response_bytes,
        )
        return _parsed(response.status, response.body)


def _parsed(status: int, body: bytes) -> Answer:
    try:
        return Answer(status, canonical_json.loads_object(body))
    except ProtocolError as error:
        if 200 <= status < 300:
            raise BadAnswer(f"HTTP {status}, but {error.reason}") from None
        return Answer(status, None)


def federation_client() -> FederationClient:
    """The process's client, under our name and with the key that signs now."""
    return client_of(signing_key())


@lru_cache(maxsize=1)
def client_of(key: SigningKey) -> FederationClient:
    """The client that signs with a key; the one before is forgotten."""
    return FederationClient(http_client(), key, settings.SERVER_NAME, profiles=profiles, blocks=block_list.blocks)
