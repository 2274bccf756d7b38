"""Rooms in a list: what each is called and how many people are in it, in one query for all of them."""

import orjson
from django.db.models import IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from rooms.models import Room, RoomServer, StateEntry
from rooms.wording import shown


def with_overview(rooms: QuerySet[Room]) -> QuerySet[Room]:
    """The same rooms with what `name_of` and `members_of` need."""
    name = StateEntry.objects.filter(
        room=OuterRef("pk"), type="m.room.name", state_key="", replaced_at__isnull=True
    ).values("event__json")
    joined = (
        RoomServer.objects.filter(room=OuterRef("pk"), left_position__isnull=True)
        .values("room")
        .annotate(total=Sum("joined_users"))
        .values("total")
    )
    return rooms.annotate(name_json=Subquery(name), members=Coalesce(Subquery(joined, output_field=IntegerField()), 0))


def name_of(room: Room) -> str:
    """The name of a room that came with its overview; empty where it has none."""
    text = getattr(room, "name_json", None)
    return shown(orjson.loads(text)["content"].get("name", "")) if text else ""


def members_of(room: Room) -> int:
    """The joined users of a room that came with its overview."""
    return int(getattr(room, "members", 0))
