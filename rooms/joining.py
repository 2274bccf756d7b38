"""Joins that are under way: the hub may send us a room's events before its answer to our join is stored.

Requests with such events wait for the join's end, instead of being dropped as events of a room that is not ours. A
process that dies while it joins must not make them wait for long, so what it notes is a claim that it renews.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from linmatrix.renewal import LEASE, LONGEST_LEASE, Claims
from rooms.models import PendingJoin

LONGEST_SECONDS: float = settings.LIMITS.join_seconds + 210.0
"""How long a join may take, and hold events up: one request, and the check of a large answer."""


def extend(row_ids: Sequence[int], until: datetime) -> None:
    """Give joins that are under way a lease until then."""
    PendingJoin.objects.filter(pk__in=row_ids).update(lease_until=until)


joins = Claims(extend, longest=LONGEST_SECONDS)
"""Those of this process."""


def note_join(room_id: str, user_id: str, *, now: datetime) -> PendingJoin:
    """Note that a join is under way, with one lease; a second one of the same user shares the note."""
    row, _ = PendingJoin.objects.update_or_create(
        room_id=room_id, user_id=user_id, defaults={"lease_until": now + LEASE}
    )
    return row


@contextmanager
def held_for_join(room_id: str, user_id: str) -> Iterator[None]:
    """While the block runs, a user of ours joins a room, and events of it that arrive wait for the block's end."""
    row = note_join(room_id, user_id, now=timezone.now())
    try:
        with joins.hold(row.pk):
            yield
    finally:
        PendingJoin.objects.filter(pk=row.pk).delete()


def join_under_way(room_ids: Collection[str], *, now: datetime) -> bool:
    """Whether one of our users is joining one of the rooms at this moment."""
    return PendingJoin.objects.filter(
        room_id__in=room_ids, lease_until__gt=now, lease_until__lte=now + LONGEST_LEASE
    ).exists()
