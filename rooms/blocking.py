"""Blocking rooms: requests about them are refused, and what is sent to them is dropped (decision 117)."""

from collections.abc import Iterable

from rooms.models import Room


def set_blocked(room_ids: Iterable[str], *, blocked: bool) -> list[Room]:
    """Block or unblock rooms; those that were not so before."""
    ids = list(Room.objects.filter(pk__in=list(room_ids)).exclude(blocked=blocked).values_list("pk", flat=True))
    Room.objects.filter(pk__in=ids).update(blocked=blocked)
    return list(Room.objects.filter(pk__in=ids))
