"""The EDUs of a destination's next transaction, and what is noted when it has them.

Each EDU in a transaction has a mark, stored with the transaction (`OutboundTransaction.edus`): the id of its row in the
queue, or, of a device list update, which is made when the transaction is frozen, its cursor and how far it tells. A
server that ceased to share a room meanwhile, and shares one again, has another cursor, or one that was told nothing,
and gets the whole list.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from federation.edus.device_lists import device_list_updates
from linmatrix import prepared

WAITS = """
    EXISTS (SELECT FROM federation_outboundedu WHERE destination_id = %s)
    OR EXISTS (SELECT FROM federation_devicelistcursor WHERE destination_id = %s AND told < wanted)
"""
"""Whether there are EDUs for a destination, as a condition of SQL's; it takes the server's name twice."""

_QUEUED = "SELECT id, json FROM federation_outboundedu WHERE destination_id = %s ORDER BY id LIMIT %s"
_TAKEN = "DELETE FROM federation_outboundedu WHERE id = ANY(%s)"
# Locked in the order of `federation.edus.spreading`. How far a server was told is the greater or the lesser of both.
_TOLD = """
    WITH locked AS (
        SELECT id FROM federation_devicelistcursor WHERE id = ANY(%s)
        ORDER BY destination_id, user_id FOR UPDATE
    ), new AS (
        SELECT id, max(told) AS told FROM unnest(%s::bigint[], %s::bigint[]) AS mark (id, told) GROUP BY 1
    )
    UPDATE federation_devicelistcursor cursor SET told = {}(cursor.told, new.told)
    FROM locked JOIN new USING (id) WHERE cursor.id = locked.id
"""
_TOLD_IN_TIME = _TOLD.format("GREATEST")
# What an operator has had sent again is as old as it is: all that changed since is told once more after it.
_TOLD_LATE = _TOLD.format("LEAST")


class WaitingEdu(NamedTuple):
    """An EDU's canonical bytes, and its mark."""

    json: bytes
    mark: Any


def waiting_edus(server: str, *, most: int, max_bytes: int) -> list[WaitingEdu]:
    """What waits for a server, at most so many EDUs, and of the device lists no more than about `max_bytes`. The
    caller holds the destination's row.

    Device lists come first, as messages may be for devices that they name, but take no more than half the places where
    messages wait as well.
    """
    messages = [WaitingEdu(json.encode(), edu_id) for edu_id, json in prepared.execute(_QUEUED, [server, most])]
    places = max(most - len(messages), (most + 1) // 2)
    updates = device_list_updates(server, most=places, max_bytes=max_bytes)
    lists = [WaitingEdu(update.json, [update.cursor_id, update.told]) for update in updates]
    return (lists + messages)[:most]


def settle(marks: Sequence[Any], *, late: bool = False) -> None:
    """Note that a server has EDUs, or that they were set aside: they are not sent again by themselves. The caller
    holds the destination's row.

    `late` are those that the server has now and was meant to have long ago: it may have been told what came after.
    """
    queued = [mark for mark in marks if not isinstance(mark, list)]
    told = [mark for mark in marks if isinstance(mark, list)]
    if queued:
        prepared.execute(_TAKEN, [queued])
    if told:
        cursors, positions = map(list, zip(*told, strict=True))
        prepared.execute(_TOLD_LATE if late else _TOLD_IN_TIME, [cursors, cursors, positions])
