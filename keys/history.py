"""The keys that servers published, written and read: the only module that touches `ServerKey` and `KeyResponse`.

History is never overwritten (decision 103). An answer makes its keys the current ones and sets how long they are
valid; keys that it no longer lists stay as they were, for the events that they signed.

What a notary passed on is kept beside that and is never current. It adds what the server did not tell us itself, and
yields to whatever it did: a key that the server has declared old or put another in the place of is not revived.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Least

from keys.clock import at
from keys.fetchers import PublishedKey, ServerKeys
from keys.leaked import is_leaked
from keys.models import KeyResponse, ServerKey
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.signing import VerifyKey

MAX_KEYS_PER_SERVER = 256
"""Keys remembered of one server, from each source. One that changes its key daily for half a year is filling our
disk."""

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
    MAX_KEYS_PER_SERVER keys.
    """
    of_server = ServerKey.objects.filter(server=answer.server)
    of_source = of_server.filter(notary=answer.notary)
    response = KeyResponse.objects.create(
        server=answer.server, notary=answer.notary, json=answer.response, fetched_at=at(now_ms)
    )
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
    if of_source.count() > MAX_KEYS_PER_SERVER:
        raise Malformed(f"the server has published more than {MAX_KEYS_PER_SERVER} keys")
    if not answer.notary:
        listed = Q(pk__in=[])
        for key in answer.keys:
            listed |= Q(key_id=key.key_id, public_key=key.public_key)
        of_server.exclude(notary="").filter(listed).delete()
        _end_replaced_keys(answer, now_ms)
    KeyResponse.objects.filter(server=answer.server, keys__isnull=True).delete()


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
