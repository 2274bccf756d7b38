"""What notaries say of servers that cannot be reached: asking them, and deciding what of it to believe.

Draft section "Querying Keys Through Another Server"; decisions 101 and 103, threat T25. Only the notaries that the
operator has named are asked (LINMATRIX_NOTARIES), and only for servers that did not answer themselves. An object in
a notary's answer counts when the notary has signed it, by a key that it has told us itself, and the server that it
is about has signed it as well. Then it counts for events, never for requests (decision 68).
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from django.conf import settings

from keys.clock import Clock
from keys.fetchers import ServerKeys, check_server_keys
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import Malformed, ProtocolError
from linmatrix.protocol.signing import VerifyKey, check_signature, object_bytes, signature_ids
from linmatrix.transport.errors import TransportError, Unreachable
from linmatrix.transport.http import HttpClient

logger = logging.getLogger(__name__)

MAX_SERVERS_PER_QUERY = 100
"""What notaries take in one query (decision 105), whatever we ourselves are set to take."""

MAX_SIGNATURES = 4
"""Signatures of the notary looked at on one object. A notary signs with its current key, of which it has one."""

Query = Callable[[str, list[str], float], bytes]
"""Asks a notary about servers, within so many seconds; the body of its answer, or `TransportError`."""

NotaryKeys = Callable[[str, str], list[VerifyKey]]
"""The current keys of a notary under a key id, as it has told us itself; asked for where they are not known."""


class Notaries:
    """The notaries that we believe, in the order in which they are asked."""

    def __init__(self, names: Sequence[str], *, query: Query, keys: NotaryKeys, clock: Clock) -> None:
        self._names = names
        self._query = query
        self._keys = keys
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._names)

    def ask(self, servers: Sequence[str]) -> list[ServerKeys]:
        """What they say about these servers, each asked about those that none before it knew; the oldest first."""
        deadline = time.monotonic() + settings.LIMITS.notary_queries_seconds
        found: list[ServerKeys] = []
        for notary in self._names:
            if notary in servers:
                continue  # it does not answer itself
            known = {answer.server for answer in found}
            left = [server for server in servers if server not in known]
            for start in range(0, len(left), MAX_SERVERS_PER_QUERY):
                seconds = min(settings.LIMITS.notary_query_seconds, deadline - time.monotonic())
                if seconds <= 0:
                    break
                found += self._ask(notary, left[start : start + MAX_SERVERS_PER_QUERY], seconds)
        return sorted(found, key=lambda answer: answer.valid_until_ts)

    def _ask(self, notary: str, servers: list[str], seconds: float) -> list[ServerKeys]:
        try:
            return list(self._believed(self._query(notary, servers, seconds), notary, set(servers)))
        except (ProtocolError, TransportError) as error:
            logger.warning("the notary %s gave no usable answer: %s", notary, error.reason)
            return []

    def _believed(self, body: bytes, notary: str, servers: set[str]) -> Iterator[ServerKeys]:
        objects = canonical_json.loads_object(body).get("server_keys")
        if not isinstance(objects, list):
            raise Malformed("server_keys is not a list")
        # Looked up once for all objects: one that is not to be had would be asked for with each of them.
        keys = cache(partial(self._keys, notary))
        for item in objects[: settings.LIMITS.notary_objects]:
            # Servers that were not asked about are none of the notary's business; it may name any.
            server = item.get("server_name") if isinstance(item, dict) else None
            if not isinstance(server, str) or server not in servers:
                continue
            try:
                yield self._checked(item, server, notary, keys)
            except ProtocolError as error:
                logger.warning("the notary %s passed on keys of %s: %s", notary, server, error.reason)

    def _checked(
        self, item: dict[str, Any], server: str, notary: str, keys: Callable[[str], list[VerifyKey]]
    ) -> ServerKeys:
        now_ms = self._clock()
        signatures = item.get("signatures")
        ids = signature_ids(signatures, notary)[:MAX_SIGNATURES]
        check_signature(
            object_bytes(item),
            {notary: {key_id: signatures[notary][key_id] for key_id in ids}} if isinstance(signatures, dict) else None,
            server=notary,
            keys={(notary, key_id): keys(key_id) for key_id in ids},
            ts=now_ms,
        )
        return check_server_keys(item, server=server, now_ms=now_ms, notary=notary)


def query_notary(notary: str, servers: list[str], seconds: float, *, client: HttpClient) -> bytes:
    """The body of `notary`'s answer about all keys of these servers, unchecked. Raises `TransportError`.

    No minimum of validity is asked for: what has run out is what old events were signed with.
    """
    response = client.request(
        notary,
        "POST",
        "/_matrix/key/v2/query",
        headers={"Accept": "application/json", "Content-Type": "application/json"},
        body=canonical_json.dumps({"server_keys": {server: {} for server in servers}}),
        timeout=seconds,
        max_response_bytes=settings.LIMITS.notary_answer_bytes,
    )
    if response.status != 200:
        raise Unreachable(f"the answer has status {response.status}")
    return response.body
