"""Device list updates, made when they are sent: what of a user's devices changed since the server was last told.

Decision 111. A server that knows nothing yet gets all devices, and the ids of those that were removed lately, since it
may have known some in the past; one that was away gets each that changed meanwhile once, as it is now. A long list is
told in several EDUs, which go as far in the list's stream as they say. Whether user and server still share a room is
looked at here once more, under the lock of the cursor's row: whatever made it due, nothing is told after the last
shared room.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from linmatrix import prepared
from linmatrix.protocol.edus import MAX_MESSAGE_BYTES, device_list
from rooms.audience import sharing

CHUNK_BYTES = MAX_MESSAGE_BYTES * 3 // 4
"""Devices of one EDU, unless it is a single one: the first transaction that has no room for more leaves the rest for
the next."""

# What somebody else has locked is being worked out anew (`federation.edus.spreading`): in a moment it is known.
_LOCK_DUE = """
    SELECT user_id, id, told FROM federation_devicelistcursor
    WHERE destination_id = %s AND told < wanted ORDER BY user_id LIMIT %s FOR UPDATE
"""
# No more is read than a transaction holds: sizes are known without reading.
_CHANGES = """
    SELECT user_id, device_id, json, stream_id FROM (
        SELECT due.user_id, device.device_id, device.json, device.stream_id,
            sum(octet_length(device.json)) OVER (ORDER BY due.user_id, device.stream_id) - octet_length(device.json)
            AS before
        FROM unnest(%s::text[], %s::bigint[]) AS due (user_id, told)
        CROSS JOIN LATERAL (
            SELECT device_id, json, stream_id FROM keys_device
            WHERE user_id = due.user_id AND stream_id > due.told
            ORDER BY stream_id LIMIT %s
        ) device
    ) change WHERE before < %s ORDER BY user_id, stream_id
"""
# Not deleted: whoever shares a room again finds the row as one that was told nothing.
_FORGET = """
    UPDATE federation_devicelistcursor SET told = 0, wanted = 0 WHERE destination_id = %s AND user_id = ANY(%s)
"""
_NOTHING_DUE = """
    UPDATE federation_devicelistcursor SET told = wanted WHERE destination_id = %s AND user_id = ANY(%s)
"""


class Update(NamedTuple):
    """An EDU's canonical bytes, and how far in the list's stream it brings which cursor."""

    json: bytes
    cursor_id: int
    told: int


class _Due(NamedTuple):
    """A locked cursor, and what it says that the server has been told."""

    cursor_id: int
    told: int


class _Change(NamedTuple):
    """A device that changed; `json` is empty where it was removed."""

    user_id: str
    device_id: str
    json: str
    stream_id: int


def device_list_updates(server: str, *, most: int, max_bytes: int) -> list[Update]:
    """The updates that are due to a server, at most so many and of little more than `max_bytes`.

    None are given only when none is due. The caller holds the destination's row. What is due and has no content any
    more is due no longer.
    """
    while rows := prepared.execute(_LOCK_DUE, [server, most]):
        due = {user_id: _Due(cursor_id, told) for user_id, cursor_id, told in rows}
        # Where there are no updates, none of these is due any longer, and others may be.
        if updates := _updates(server, due, most=most, max_bytes=max_bytes):
            return updates
    return []


def _updates(server: str, due: dict[str, _Due], *, most: int, max_bytes: int) -> list[Update]:
    shared = {user_id for user_id, _ in sharing((user_id, server) for user_id in due)}
    if gone := sorted(due.keys() - shared):
        prepared.execute(_FORGET, [server, gone])
    told = [due[user_id].told for user_id in sorted(shared)]
    rows = prepared.execute(_CHANGES, [sorted(shared), told, most, max_bytes])
    changes = [_Change(*row) for row in rows]
    # Where reading ended for its size, somebody may have changes that were not read.
    complete = shared if sum(len(change.json.encode()) for change in changes) < max_bytes else set[str]()
    if empty := sorted(complete - {change.user_id for change in changes}):
        prepared.execute(_NOTHING_DUE, [server, empty])
    updates = [
        _update(due[user_id].cursor_id, chunk)
        for user_id, of_user in groupby(changes, key=lambda change: change.user_id)
        for chunk in _chunks(of_user)
    ]
    return updates[:most]


def _chunks(changes: Iterable[_Change]) -> list[list[_Change]]:
    chunks: list[list[_Change]] = [[]]
    size = 0
    for change in changes:
        size += len(change.json)
        if chunks[-1] and size > CHUNK_BYTES:
            chunks.append([])
            size = len(change.json)
        chunks[-1].append(change)
    return chunks


def _update(cursor_id: int, changes: list[_Change]) -> Update:
    edu = device_list(
        changes[0].user_id,
        changed=[change.json for change in changes if change.json],
        removed=[change.device_id for change in changes if not change.json],
    )
    return Update(edu, cursor_id, changes[-1].stream_id)
