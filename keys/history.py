"""The keys that servers published, written and read: the only module that touches `ServerKey`.

History is never overwritten (decision 103). An answer makes its keys the current ones and sets how long they are
valid; keys that it no longer lists stay as they were, for the events that they signed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import transaction
from django.db.models.functions import Least

from keys.clock import at
from keys.fetchers import ServerKeys
from keys.leaked import is_leaked
from keys.models import KeyResponse, ServerKey
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.signing import VerifyKey

MAX_KEYS_PER_SERVER = 256
"""Keys remembered of one server. One that changes its key daily for half a year is filling our disk."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A server's key; `current` if the server's last answer listed it under `verify_keys`."""

    key_id: str
    key: VerifyKey
    current: bool


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


@transaction.atomic
def store(answer: ServerKeys, *, now_ms: int) -> None:
    """Remember what a server itself answered at `now_ms` (milliseconds); all of it or nothing.

    The caller keeps answers of one server apart, so that the later one counts. Raises `Malformed` for a server
    that has published more than MAX_KEYS_PER_SERVER keys.
    """
    of_server = ServerKey.objects.filter(server=answer.server)
    response = KeyResponse.objects.create(server=answer.server, json=answer.response, fetched_at=at(now_ms))
    of_server.filter(current=True).update(current=False)
    ServerKey.objects.bulk_create(
        [
            ServerKey(
                server=answer.server,
                key_id=key.key_id,
                public_key=key.public_key,
                valid_until_ts=answer.valid_until_ts,
                expired_ts=key.expired_ts,
                current=key.expired_ts is None,
                fetched_at=response.fetched_at,
                response=response,
            )
            for key in answer.keys
        ],
        update_conflicts=True,
        unique_fields=["server", "key_id", "public_key"],
        update_fields=["valid_until_ts", "expired_ts", "current", "fetched_at", "response"],
    )
    if of_server.count() > MAX_KEYS_PER_SERVER:
        raise Malformed(f"the server has published more than {MAX_KEYS_PER_SERVER} keys")
    _end_replaced_keys(answer, now_ms)
    KeyResponse.objects.filter(server=answer.server, keys__isnull=True).delete()


def _end_replaced_keys(answer: ServerKeys, now_ms: int) -> None:
    """A key whose id now stands for another key signs nothing any more from here on (threat T22)."""
    ids = [key.key_id for key in answer.keys if key.expired_ts is None]
    replaced = ServerKey.objects.filter(server=answer.server, key_id__in=ids, current=False)
    replaced.update(valid_until_ts=Least("valid_until_ts", now_ms))
