"""Reading a room's line as people do: the last events, and those after one that was seen.

Only events that have a place in the line; state learnt on joining is not part of it until its place is known.
"""

from collections.abc import Iterator

from rooms.models import Event, Room

PAGE = 500
"""Events read at a time."""


def latest(room: Room, *, limit: int | None) -> list[Event]:
    """The last `limit` events of the room (None: all of them), oldest first."""
    newest_first = Event.objects.filter(room=room, position__isnull=False).order_by("-position")
    return list(newest_first if limit is None else newest_first[:limit])[::-1]


def number(room: Room, event: Event) -> int:
    """The how-manieth of our copy of the line an event is: on the hub its position, and on a participant that has the
    whole history the same number, where positions are of our own making (`rooms.participant`)."""
    return Event.objects.filter(room=room, position__lte=event.position).count()


def after(room: Room, *, position: int) -> Iterator[Event]:
    """The events after a position, in order."""
    later = Event.objects.filter(room=room, position__gt=position).order_by("position")
    while page := list(later[:PAGE]):
        yield from page
        later = later.filter(position__gt=page[-1].position)
