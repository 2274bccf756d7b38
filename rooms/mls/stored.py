"""A room's group in the database, and those in use in the process's memory.

A group is a value: its digest names it, so what one process remembers under a digest is right whatever the others do.
"""

import threading
from datetime import datetime
from typing import NamedTuple

from cachetools import LRUCache
from django.conf import settings

from linmatrix import prepared
from linmatrix.protocol.mls import Group
from rooms.models import MlsGroup


class Stored(NamedTuple):
    """What is stored of a room's group besides its state; `digest` is empty where there is none."""

    standing: str
    epoch: int
    digest: bytes


class GroupCache:
    """Groups by digest with at most `max_bytes` of stored state, the least recently used dropped first. Safe for
    threads."""

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._groups: LRUCache[bytes, tuple[int, Group]] = LRUCache(max_bytes, getsizeof=lambda item: item[0])

    def get(self, digest: bytes) -> Group | None:
        """The group with this digest, if it is remembered."""
        with self._lock:
            found = self._groups.get(digest)
        return found[1] if found else None

    def put(self, group: Group, *, size: int) -> None:
        """Keep a group whose stored state has `size` bytes."""
        with self._lock:
            if size <= self._groups.maxsize:
                self._groups[group.digest] = (size, group)


groups = GroupCache(settings.LIMITS.cached_group_bytes)
"""The process's cache."""


def read(room_id: str) -> Stored | None:
    """What is stored of a room's group; None where nothing is."""
    rows = prepared.execute("SELECT standing, epoch, digest FROM rooms_mlsgroup WHERE room_id = %s", [room_id])
    return Stored(rows[0][0], rows[0][1], bytes(rows[0][2])) if rows else None


def load(room_id: str, digest: bytes) -> Group | None:
    """The room's group, if it still is the one with this digest."""
    if not digest:
        return None
    group = groups.get(digest)
    if group is None:
        rows = prepared.execute(
            "SELECT state FROM rooms_mlsgroup WHERE room_id = %s AND digest = %s", [room_id, digest]
        )
        if not rows:
            return None
        state = bytes(rows[0][0])
        group = Group.from_bytes(state)
        groups.put(group, size=len(state))
    return group


def write_group(room_id: str, group: Group, *, standing: str, event_id: str, now: datetime) -> None:
    """Store a group. The caller holds the room's lock."""
    state = group.to_bytes()
    prepared.execute(
        "INSERT INTO rooms_mlsgroup (room_id, standing, epoch, digest, state, devices, event_id, changed_at)"
        " VALUES (%s, %s, %s, %s, %b, %s, %s, %s) ON CONFLICT (room_id) DO UPDATE SET standing = EXCLUDED.standing,"
        " epoch = EXCLUDED.epoch, digest = EXCLUDED.digest, state = EXCLUDED.state, devices = EXCLUDED.devices,"
        " event_id = EXCLUDED.event_id, changed_at = EXCLUDED.changed_at",
        [room_id, standing, group.epoch, group.digest, state, len(group.members), event_id, now],
    )
    groups.put(group, size=len(state))


def write_lost(room_id: str, *, event_id: str, now: datetime) -> None:
    """Note that the room's group is not known any more; what it was is kept. The caller holds the room's lock."""
    prepared.execute(
        "INSERT INTO rooms_mlsgroup (room_id, standing, epoch, digest, state, devices, event_id, changed_at)"
        " VALUES (%s, %s, 0, '', '', 0, %s, %s) ON CONFLICT (room_id) DO UPDATE SET standing = EXCLUDED.standing,"
        " event_id = EXCLUDED.event_id, changed_at = EXCLUDED.changed_at",
        [room_id, MlsGroup.Standing.LOST, event_id, now],
    )
