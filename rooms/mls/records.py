"""What became of the last commits to a room's group, for whoever looks after the room (`rooms.models.MlsCommit`)."""

from collections.abc import Iterable, Sequence
from itertools import islice

from django.conf import settings

from linmatrix import prepared
from linmatrix.protocol.mls import DeviceName
from rooms.models import MlsCommit

MAX_NAMED = 20
"""Devices that are named of those that one commit adds or removes; real commits change a few."""


def names(devices: Iterable[DeviceName]) -> list[str]:
    """Devices as a commit's row has them, the first of them."""
    return [str(device) for device in islice(devices, MAX_NAMED)]


def write(room_id: str, rows: Sequence[MlsCommit]) -> None:
    """Add what became of commits, and take out the oldest beyond `mls_commits_per_room`. The caller holds the room's
    lock."""
    kept = settings.LIMITS.mls_commits_per_room
    MlsCommit.objects.bulk_create(rows[-kept:])
    prepared.execute(
        "DELETE FROM rooms_mlscommit WHERE room_id = %s AND id <= (SELECT id FROM rooms_mlscommit WHERE room_id = %s"
        " ORDER BY id DESC OFFSET %s LIMIT 1)",
        [room_id, room_id, kept],
    )
