"""The keys that servers published, written and read: the only module that touches `ServerKey` and `KeyResponse`.

History is never overwritten (decision 103). An answer makes its keys the current ones and sets how long they are
valid; keys that it no longer lists stay as they were, for the events that they signed.

What a notary passed on is kept beside that and is never current. It adds what the server did not tell us itself, and
yields to whatever it did: a key that the server has declared old or put another in the place of is not revived.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Least

from keys.clock import at
from keys.fetchers import PublishedKey, ServerKeys
from keys.leaked import is_leaked
from keys.models import KeyResponse, ServerKey
from linmatrix import pruning
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.signing import VerifyKey

logger = logging.getLogger(__name__)

DAY_MS = 24 * 3600 * 1000

SERVERS_AT_ONCE = 1000
"""Servers that are asked about together whether they are needed."""

RESPONSES_PER_READ = 32
"""Answers held in memory at once while many are read; each has 64 KiB at most."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A server's key; `current` if the server's last answer listed it under `verify_keys`."""

    key_id: str
    key: VerifyKey
    current: bool


@dataclass(frozen=True, slots=True)
class Published:
    """Where a server's key was last listed: an answer of the server's own, fetched and valid from and to then (ms)."""

    key_id: str
    response_id: int
    fetched_ms: int
    valid_until_ts: int


Known = Mapping[str, tuple[KnownKey, ...]]
"""All known keys by server name."""


def load(servers: Iterable[str]) -> dict[str, tuple[KnownKey, ...]]:
    """All keys known of each of these servers; a server without any is left out."""
    known: dict[str, list[KnownKey]] = {}
    rows = ServerKey.objects.filter(server__in=list(servers)).order_by("id")
    columns = rows.values_list("server", "key_id", "public_key", "valid_until_ts", "expired_ts", "current")
    for server, key_id, stored, valid_until_ts, expired_ts, current in columns:
        public_key = bytes(stored)
        # Checked again here: a key may have become known as leaked after it was stored.
        if not is_leaked(public_key):
            key = VerifyKey.from_bytes(public_key, valid_until_ts=valid_until_ts, expired_ts=expired_ts)
            known.setdefault(server, []).append(KnownKey(key_id, key, current))
    return {server: tuple(keys) for server, keys in known.items()}


def published(servers: Iterable[str]) -> dict[str, list[Published]]:
    """Which answers of these servers' own list which of their keys, the latest first."""
    found: dict[str, list[Published]] = {}
    rows = ServerKey.objects.filter(server__in=list(servers), notary="").order_by("-fetched_at", "-id")
    columns = rows.values_list("server", "key_id", "response_id", "fetched_at", "valid_until_ts")
    for server, key_id, response_id, fetched_at, valid_until_ts in columns:
        fetched_ms = int(fetched_at.timestamp() * 1000)
        found.setdefault(server, []).append(Published(key_id, response_id, fetched_ms, valid_until_ts))
    return found


def responses(ids: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Server and canonical JSON of stored answers, the latest first."""
    rows = KeyResponse.objects.filter(pk__in=list(ids)).order_by("-pk")
    return rows.values_list("server", "json").iterator(chunk_size=RESPONSES_PER_READ)


@transaction.atomic
def store(answer: ServerKeys, *, now_ms: int) -> None:
    """Remember what a server answered at `now_ms` (milliseconds), itself or by a notary; all of it or nothing.

    The caller keeps answers of one server apart, so that the later one counts. Raises `Malformed` for more than
    `keys_per_server`.
    """
    of_server = ServerKey.objects.filter(server=answer.server)
    of_source = of_server.filter(notary=answer.notary)
    response = KeyResponse.objects.create(
        server=answer.server, notary=answer.notary, json=answer.response, fetched_at=at(now_ms)
    )
    if not answer.notary:
        _warn_of_another_owner(of_source, answer)
    of_source.filter(current=True).update(current=False)
    ServerKey.objects.bulk_create(
        [
            ServerKey(
                server=answer.server,
                key_id=key.key_id,
                public_key=key.public_key,
                notary=answer.notary,
                valid_until_ts=answer.valid_until_ts,
                expired_ts=key.expired_ts,
                current=key.expired_ts is None and not answer.notary,
                fetched_at=response.fetched_at,
                response=response,
            )
            for key in (_news(answer) if answer.notary else answer.keys)
        ],
        update_conflicts=True,
        unique_fields=["server", "key_id", "public_key", "notary"],
        update_fields=["valid_until_ts", "expired_ts", "current", "fetched_at", "response"],
    )
    if of_source.count() > settings.LIMITS.keys_per_server:
        raise Malformed(f"the server has published more than {settings.LIMITS.keys_per_server} keys")
    if not answer.notary:
        listed = Q(pk__in=[])
        for key in answer.keys:
            listed |= Q(key_id=key.key_id, public_key=key.public_key)
        of_server.exclude(notary="").filter(listed).delete()
        _end_replaced_keys(answer, now_ms)
    KeyResponse.objects.filter(server=answer.server, keys__isnull=True).delete()


def prune(*, now_ms: int, needed: Callable[[Collection[str]], set[str]]) -> int:
    """Forget the keys of servers that have told us nothing for long and that nobody needs; how many there were.

    `needed` says which of some servers are needed. Keys of such servers are kept for the events that they signed; of
    others they can be asked for again, and anybody can make up servers. Longer than a key is valid for. RuntimeError
    inside of a transaction.
    """
    before = at(now_ms - settings.LIMITS.unrelated_key_days * DAY_MS)
    old = ServerKey.objects.filter(fetched_at__lt=before)
    deleted, last = 0, ""
    # A key that is listed anew meanwhile is not old any more when its lock is had.
    while servers := list(
        old.filter(server__gt=last).order_by("server").values_list("server", flat=True).distinct()[:SERVERS_AT_ONCE]
    ):
        last = servers[-1]
        unneeded = set(servers) - needed(servers)
        deleted += pruning.prune(old.filter(server__in=unneeded), oldest_first="fetched_at")
    unlisted = ~Exists(ServerKey.objects.filter(response=OuterRef("pk")))
    pruning.prune(KeyResponse.objects.filter(unlisted, fetched_at__lt=before), oldest_first="fetched_at")
    return deleted


def _warn_of_another_owner(of_server: QuerySet[ServerKey], answer: ServerKeys) -> None:
    """Tell the operator of a server that lists none of the keys it had: it has lost them, or its name has a new owner,
    who speaks for it from now on (threat T7)."""
    former = {(key.key_id, bytes(key.public_key)) for key in of_server.filter(current=True)}
    if former and former.isdisjoint((key.key_id, key.public_key) for key in answer.keys):
        logger.warning(
            "%s lists none of its former keys (%s) any more: has its name another owner?",
            answer.server,
            ", ".join(sorted(key_id for key_id, _ in former)),
        )


def _news(answer: ServerKeys) -> list[PublishedKey]:
    """The keys in a notary's answer about whose ids the server itself has said nothing else.

    A key that it listed as current once and that the notary has seen for longer is news as well.
    """
    ids = [key.key_id for key in answer.keys]
    rows = ServerKey.objects.filter(server=answer.server, notary="", key_id__in=ids)
    said: dict[str, list[tuple[bytes, int | None]]] = {}
    for key_id, public_key, expired_ts in rows.values_list("key_id", "public_key", "expired_ts"):
        said.setdefault(key_id, []).append((bytes(public_key), expired_ts))
    return [key for key in answer.keys if said.get(key.key_id, [(key.public_key, None)]) == [(key.public_key, None)]]


def _end_replaced_keys(answer: ServerKeys, now_ms: int) -> None:
    """A key whose id now stands for another key signs nothing any more from here on (threat T22)."""
    ids = [key.key_id for key in answer.keys if key.expired_ts is None]
    replaced = ServerKey.objects.filter(server=answer.server, key_id__in=ids, current=False)
    replaced.update(valid_until_ts=Least("valid_until_ts", now_ms))


@dataclass(frozen=True, slots=True)
class Proven:
    """A stored key as it is handed on: its validity in milliseconds, who vouches for it ('' for its server), and the
    answer that lists it."""

    server: str
    key_id: str
    public_key: bytes
    valid_until_ts: int
    expired_ts: int | None
    notary: str
    response_id: int


def proven(wanted: Collection[tuple[str, str]]) -> Iterator[Proven]:
    """All keys known under these (server, key id) pairs, by answer."""
    servers = sorted({server for server, _ in wanted})
    for start in range(0, len(servers), SERVERS_AT_ONCE):
        rows = ServerKey.objects.filter(server__in=servers[start : start + SERVERS_AT_ONCE])
        columns = rows.order_by("server", "response_id", "id").values_list(
            "server", "key_id", "public_key", "valid_until_ts", "expired_ts", "notary", "response_id"
        )
        for server, key_id, public_key, valid_until_ts, expired_ts, notary, response_id in columns:
            if (server, key_id) in wanted:
                yield Proven(server, key_id, bytes(public_key), valid_until_ts, expired_ts, notary, response_id)
