"""Giving one-time keys away: each once, in the order of upload, whoever claims at the same time.

Draft section "One Time Key Claiming"; decision 113; threats T15 and T62. A key that a claim takes is locked and marked
in one statement; another claim passes over what is locked and takes the next. It is marked before the answer leaves,
so a crash in between loses that key and never gives it twice. Keys that may be used more than once are given when there
are no others.

Claiming cannot be repeated without a further key, and who claims in a loop could leave a device with none. So a server
gets no more than `claimed_keys_per_hour` single-use keys of one device in an hour, and after that the reusable one, or
nothing; other servers do not notice. Its claims are counted one after the other, or many at once would count none of
the others.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from linmatrix import prepared
from linmatrix.metrics.instruments import claimed_keys
from linmatrix.protocol import canonical_json
from linmatrix.protocol.identifiers import is_device_id
from linmatrix.protocol.one_time_keys import ALGORITHMS, KEY_PACKAGE

MAX_USERS = 100
"""Users in one claim (decision 113)."""

MAX_CLAIMED_DEVICES = 500
"""Devices in one claim or query, of all users together (decision 113)."""

PERIOD = timedelta(hours=1)
"""Within which a server's claims are counted: a device that is in use has brought new keys by then."""

Wanted = Mapping[str, Mapping[str, str]]
"""The algorithm of the key that is wanted, by user and device."""

Claimed = dict[str, dict[str, dict[str, Any]]]
"""Keys by user, device and name, as the answer to a claim has them."""

_TURN = "SELECT pg_advisory_xact_lock(hashtextextended(%s::text, 113))"
_GIVE = """
    WITH wanted AS (
        SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) AS w (user_id, device_id, algorithm)
    ), taken AS (
        SELECT k.* FROM wanted w CROSS JOIN LATERAL (
            SELECT id, user_id, device_id, algorithm, key_id, json FROM keys_onetimekey
            WHERE user_id = w.user_id AND device_id = w.device_id AND algorithm = w.algorithm
            AND NOT reusable AND claimed_at IS NULL AND (expires_at IS NULL OR expires_at > %s::timestamptz)
            ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) k
        WHERE %s::int IS NULL OR %s::int > (
            SELECT count(*) FROM (
                SELECT FROM keys_onetimekey h
                WHERE h.claimed_by = %s::text AND h.user_id = w.user_id AND h.device_id = w.device_id
                AND h.claimed_at > %s::timestamptz LIMIT %s::int
            ) had
        )
    )
    UPDATE keys_onetimekey k SET claimed_at = %s::timestamptz, claimed_by = %s::text, json = ''
    FROM taken t WHERE k.id = t.id
    RETURNING t.user_id, t.device_id, t.algorithm, t.key_id, t.json
"""
_GIVE_REUSABLE = """
    SELECT k.* FROM unnest(%s::text[], %s::text[], %s::text[]) AS w (user_id, device_id, algorithm)
    CROSS JOIN LATERAL (
        SELECT user_id, device_id, algorithm, key_id, json FROM keys_onetimekey
        WHERE user_id = w.user_id AND device_id = w.device_id AND algorithm = w.algorithm
        AND reusable AND claimed_at IS NULL AND (expires_at IS NULL OR expires_at > %s::timestamptz)
        ORDER BY id DESC LIMIT 1
    ) k
"""


def claim(origin: str, wanted: Wanted, *, now: datetime) -> Claimed:
    """Give `origin` a key for each device that has one of the algorithm. Ourselves have no quota.

    Users and devices that there are not, and algorithms that they have no keys of, are left out of the answer.
    """
    places = [
        (user_id, device_id, algorithm)
        for user_id, devices in wanted.items()
        for device_id, algorithm in devices.items()
        if is_device_id(device_id) and algorithm in ALGORITHMS
    ]
    if not places:
        return {}
    with transaction.atomic():
        given = _single_use(origin, places, now)
        had = {row[:3] for row in given}
        rest = [place for place in places if place not in had]
        reusable = prepared.execute(_GIVE_REUSABLE, [*_columns(rest), now]) if rest else []
    claimed_keys.labels("once").inc(len(given))
    claimed_keys.labels("reusable").inc(len(reusable))
    claimed_keys.labels("none").inc(len(rest) - len(reusable))
    answer: Claimed = {}
    for user_id, device_id, algorithm, key_id, text in [*given, *reusable]:
        name = algorithm if algorithm == KEY_PACKAGE else f"{algorithm}:{key_id}"
        answer.setdefault(user_id, {})[device_id] = {name: canonical_json.loads(text.encode())}
    return answer


def _single_use(origin: str, places: list[tuple[str, str, str]], now: datetime) -> list[tuple[Any, ...]]:
    quota: int | None = None
    if origin != settings.SERVER_NAME:
        quota = settings.LIMITS.claimed_keys_per_hour
        prepared.execute(_TURN, [f"claims of {origin}"])
    counted = [quota, quota, origin, now - PERIOD, quota]
    return prepared.execute(_GIVE, [*_columns(places), now, *counted, now, origin])


def _columns(places: list[tuple[str, str, str]]) -> list[list[str]]:
    return [list(column) for column in zip(*places, strict=True)]
