"""Invites and knocks of our users to rooms that we are not in, as far as we have heard of them.

A row of `PendingInvite` is what a user is shown and answers: an invite that waits for the user, or a knock that
waits for the room. Which one it is, the event in it says. The hub alone knows what really holds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from django.conf import settings
from django.db.models import QuerySet

from linmatrix.protocol import canonical_json
from rooms.models import PendingInvite
from rooms.state import STRIPPED_FIELDS


def keep(event: Mapping[str, Any], *, event_id: str, hub: str, version: str, shown: Sequence[Any]) -> None:
    """Keep an invite or a knock; it takes the place of what the user had in this room before.

    `shown` is the room's stripped state as it was received.
    """
    PendingInvite.objects.update_or_create(
        room_id=event["room_id"],
        user_id=event["state_key"],
        defaults={
            "hub_server": hub,
            "room_version": version,
            "event_id": event_id,
            "json": canonical_json.dumps(event).decode(),
            "stripped_state": stripped_text(shown),
        },
    )


def is_flooded(*, hub: str, room_id: str, user_id: str) -> bool:
    """Whether so much waits because of `hub` that no more is to be kept (threat 61), in general or for the user; an
    invite that takes the place of another one of the room does not count."""
    limits = settings.LIMITS
    waiting = PendingInvite.objects.filter(hub_server=hub)
    if waiting.filter(room_id=room_id, user_id=user_id).exists():
        return False
    of_user = waiting.filter(user_id=user_id)
    bounds = ((of_user, limits.pending_invites_per_user), (waiting, limits.pending_invites))
    return any(rows[most - 1 : most].exists() for rows, most in bounds)


def put_back(before: PendingInvite | None, *, in_place_of: QuerySet[PendingInvite]) -> None:
    """Undo a `keep`, where what it kept still stands: have `before` again, or nothing."""
    if before is None:
        in_place_of.delete()
    else:
        in_place_of.update(
            hub_server=before.hub_server,
            room_version=before.room_version,
            event_id=before.event_id,
            json=before.json,
            stripped_state=before.stripped_state,
        )


def is_knock(row: PendingInvite) -> bool:
    """Whether it is the room that has to answer."""
    return bool(orjson.loads(row.json).get("content", {}).get("membership") == "knock")


def inviter(row: PendingInvite) -> str:
    """Who invited the user, as the event says; the user's own id for a knock."""
    return str(orjson.loads(row.json).get("sender"))


def room_name(row: PendingInvite) -> str:
    """What the room is called according to its stripped state, of which nothing is assured; or an empty string."""
    for event in orjson.loads(row.stripped_state):
        if event["type"] == "m.room.name" and isinstance(event["content"], dict):
            return str(event["content"].get("name", ""))
    return ""


def stripped_text(events: Sequence[Any]) -> str:
    """Stripped state as we keep it: JSON of four fields of each event, for showing only (decision 118). Where that is
    more than `stripped_state_bytes`, the first events that fit."""
    shown = [
        {field: event[field] for field in STRIPPED_FIELDS}
        for event in events[: settings.LIMITS.stripped_state_events]
        if isinstance(event, dict) and all(field in event for field in STRIPPED_FIELDS)
    ]
    while len(text := canonical_json.dumps(shown)) > settings.LIMITS.stripped_state_bytes:
        del shown[len(shown) // 2 :]
    return text.decode()
