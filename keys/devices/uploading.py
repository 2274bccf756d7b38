"""One-time keys of local users' devices: taken all or none, each at most once, and counted.

A key is known by its id and by what it is (`CheckedKey.identity`). Either can come again with the same meaning, since
a client repeats an upload whose answer it did not get; with another one it is refused. A key that was given away is
remembered for a while (`claimed_key_days`), but its id is free: a device that starts anew counts from the beginning.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet

from keys.devices.storing import device_row, stored
from keys.models import OneTimeKey
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.one_time_keys import CheckedKey, check_key

LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""A key that expires later never does: devices say "never" by the largest number there is."""


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """How many keys of each algorithm others may still claim, and algorithms that have one for when there are none."""

    one_time: dict[str, int]
    reusable: list[str]


@transaction.atomic
def upload_keys(
    user_id: str,
    device_id: str,
    *,
    one_time_keys: Mapping[str, object],
    reusable_keys: Mapping[str, object] | None = None,
    now: datetime,
) -> KeyCounts:
    """Take keys of a local user's device by their names, `algorithm:key id`, in their order; all of them or none.

    `reusable_keys` are last-resort and fallback keys, at most one of an algorithm: it takes the place of the one
    before. A last-resort key package among `one_time_keys` is one as well. Raises `UnknownDevice`, as `check_key`, and
    `Malformed` for a key that means another than before, or more keys than are kept of a device.
    """
    row = device_row(user_id, device_id, locked=True)
    most = settings.LIMITS.one_time_keys
    given = [(name, value, False) for name, value in one_time_keys.items()]
    given += [(name, value, True) for name, value in (reusable_keys or {}).items()]
    if len(given) > most:
        raise Malformed(f"{len(given)} keys at once; at most {most} are kept of a device")
    device, seconds = stored(row), now.timestamp()
    keys = [check_key(name, value, device=device, now=seconds, reusable=reusable) for name, value, reusable in given]
    _check_repetitions(keys)
    of_device = OneTimeKey.objects.filter(user_id=user_id, device_id=device_id)
    new = _unknown(keys, of_device)
    _check_number(new, of_device, now, most)
    replaced = {key.algorithm for key in new if key.reusable}
    of_device.filter(reusable=True, algorithm__in=replaced).delete()
    OneTimeKey.objects.bulk_create(_row(user_id, device_id, key) for key in new)
    return key_counts(user_id, device_id, now=now)


def key_counts(user_id: str, device_id: str, *, now: datetime) -> KeyCounts:
    """What others may still claim of a device at `now`."""
    rows = OneTimeKey.objects.filter(claimable(now), user_id=user_id, device_id=device_id)
    counted = rows.values_list("algorithm", "reusable").annotate(number=Count("id")).order_by("algorithm")
    return KeyCounts(
        {algorithm: number for algorithm, reusable, number in counted if not reusable},
        [algorithm for algorithm, reusable, _ in counted if reusable],
    )


def claimable(now: datetime) -> Q:
    """Keys that have not been given away and have not expired."""
    return Q(claimed_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))


def _check_repetitions(keys: Iterable[CheckedKey]) -> None:
    """Refuse an upload that has a key or an id twice, or two to be reused of one algorithm."""
    same = Counter((key.algorithm, key.identity) for key in keys)
    ids = Counter((key.algorithm, key.key_id) for key in keys)
    if any(number > 1 for number in (*same.values(), *ids.values())):
        raise Malformed("a key stands there twice, or two have one id")
    reusable = Counter(key.algorithm for key in keys if key.reusable)
    for algorithm, number in reusable.items():
        if number > 1:
            raise Malformed(f"{number} keys of {algorithm} may be used more than once; one is enough")


def _unknown(keys: list[CheckedKey], of_device: "QuerySet[OneTimeKey]") -> list[CheckedKey]:
    """Those that are not there yet. Raises `Malformed` for one that contradicts what is."""
    ids, identities = [key.key_id for key in keys], [key.identity for key in keys]
    rows = of_device.filter(Q(key_id__in=ids, claimed_at__isnull=True) | Q(identity__in=identities))
    by_identity = {(row.algorithm, bytes(row.identity)): row for row in rows.defer("json")}
    taken = {(row.algorithm, row.key_id) for row in by_identity.values() if row.claimed_at is None}
    new = []
    for key in keys:
        known = by_identity.get((key.algorithm, key.identity))
        if known is None and (key.algorithm, key.key_id) in taken:
            raise Malformed(f"{key.algorithm}:{key.key_id} was another key before")
        if known is None:
            new.append(key)
        elif known.key_id != key.key_id:
            raise Malformed(f"{key.algorithm}:{key.key_id} was there before under another id")
        elif known.reusable != key.reusable:
            raise Malformed(f"{key.algorithm}:{key.key_id} is there for single use and for more; it can be for one")
    return new


def _check_number(new: list[CheckedKey], of_device: "QuerySet[OneTimeKey]", now: datetime, most: int) -> None:
    for algorithm, number in Counter(key.algorithm for key in new if not key.reusable).items():
        there = of_device.filter(claimable(now), algorithm=algorithm, reusable=False).count()
        if there + number > most:
            raise Malformed(f"the device has {there} keys of {algorithm}, and {number} more; at most {most} are kept")


def _row(user_id: str, device_id: str, key: CheckedKey) -> OneTimeKey:
    expires = key.expires_at is not None and key.expires_at < LATEST.timestamp()
    return OneTimeKey(
        user_id=user_id,
        device_id=device_id,
        algorithm=key.algorithm,
        key_id=key.key_id,
        json=key.json,
        identity=key.identity,
        reusable=key.reusable,
        expires_at=datetime.fromtimestamp(key.expires_at or 0, tz=UTC) if expires else None,
    )
