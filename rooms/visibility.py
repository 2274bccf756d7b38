"""What another server may see of a room's events (draft section "Calculating Event Visibility", decisions 59 to 61).

Two questions. That an event exists, a server may know when it has to do with the room: all of the line up to the end
of its last stay, and, while a user of its is invited or knocks, that membership. Anything else does not exist for it.
What the event contains, it may read where the room's history visibility lets it at that event; else it gets the
redacted copy, which proves the line and says nothing. `world_readable` opens nothing to servers that have nothing to do
with the room.

A participant knows the state of the room only within its own stays. To what it has from other times it applies the
strictest visibility: a server that wants more can ask the hub.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import StrIndex, Substr

from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.state import HISTORY_VISIBILITY
from rooms.models import Event, Room, RoomServer, StateEntry
from rooms.state_events import state_events

VISIBILITIES = ("world_readable", "shared", "invited", "joined")
"""What a history visibility can be, from the most to the least permissive (decision 59)."""

DEFAULT_VISIBILITY = "shared"
"""Without the event, and for a value that is none of them."""

OPEN = ("world_readable", "shared")
"""Visibilities under which whoever has to do with the room reads all of its past."""

ALWAYS_SHARED = ("m.mls.commit",)
"""Types that every client needs, whatever the visibility (draft section "Updating Group State")."""

_USERS_SERVER = Substr("state_key", StrIndex("state_key", Value(":")) + 1)
"""The server of a membership's user; an index knows the expression (`rooms.models.StateEntry`)."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A server's stay in a room, by positions: from its first user's join to the last one's leave, both included."""

    joined: int
    left: int | None

    def covers(self, position: int) -> bool:
        """Whether the position is within the stay."""
        return self.joined <= position and (self.left is None or position <= self.left)


@dataclass(frozen=True, slots=True)
class View:
    """What one server may see of one room.

    `waiting` are the positions of its users' memberships that are an invite or a knock now. `known` says where
    we know the room's state: None for everywhere, as hub.
    """

    room: Room
    server: str
    stays: tuple[Stay, ...]
    waiting: frozenset[int]
    known: tuple[Stay, ...] | None

    @classmethod
    def of(cls, room: Room, server: str) -> "View":
        """The view of `server`; for a server that has nothing to do with the room it shows nothing."""
        stays = _stays(room, server)
        last = stays[-1].left if stays else 0
        waiting = frozenset() if last is None else _waiting(room, server, after=last)
        known = None if room.role == Room.Role.HUB or not (stays or waiting) else _stays(room, settings.SERVER_NAME)
        return cls(room, server, stays, waiting, known)

    @property
    def takes_part(self) -> bool:
        """Whether the server is in the room now."""
        return bool(self.stays) and self.stays[-1].left is None

    @property
    def has_taken_part(self) -> bool:
        """Whether the server is or was in the room; an invite or a knock alone shows no state."""
        return bool(self.stays)

    def shows(self, position: int) -> bool:
        """Whether the server may know that there is an event at `position`."""
        if position in self.waiting:
            return True
        return bool(self.stays) and (self.takes_part or position <= (self.stays[-1].left or 0))

    def among(self, events: QuerySet[Event]) -> QuerySet[Event]:
        """Those of the room's events that the server may know of."""
        if self.takes_part:
            return events
        last = self.stays[-1].left if self.stays else 0
        return events.filter(Q(position__lte=last) | Q(position__in=self.waiting))

    def readable(self, events: Sequence[Event]) -> frozenset[str]:
        """The ids of those events whose contents the server may read (decision 60). They have positions."""
        shown = [event for event in events if event.position is not None and self.shows(event.position)]
        elsewhere = [event for event in shown if not self._always_reads(event)]
        hidden: set[str] = set()
        if elsewhere:
            visibility = self._visibility(elsewhere)
            hidden = {event.event_id for event in elsewhere if visibility[event.event_id] not in OPEN}
            invited = [event for event in elsewhere if visibility[event.event_id] == "invited"]
            hidden -= self._while_invited(invited)
        return frozenset(event.event_id for event in shown if event.event_id not in hidden)

    def _always_reads(self, event: Event) -> bool:
        """Whether the visibility does not matter: a user of the server was joined, or the event is about one."""
        if any(stay.covers(event.position or 0) for stay in self.stays) or event.type in ALWAYS_SHARED:
            return True
        return event.type == "m.room.member" and domain_of(event.state_key or "") == self.server

    def _visibility(self, events: Sequence[Event]) -> dict[str, str]:
        """The history visibility at each of these events: in the state before it, and for a change of the
        visibility itself the more permissive of before and after (decision 59)."""
        type_, state_key = HISTORY_VISIBILITY
        entries = _overlapping(self.room, events).filter(type=type_, state_key=state_key).order_by("position")
        rows = list(entries.values_list("position", "event_id"))
        changes = state_events.get_many([event_id for _, event_id in rows])
        values = [_visibility_of(changes[event_id].content.get("history_visibility")) for _, event_id in rows]
        positions = [position for position, _ in rows]
        result = {}
        for event in events:
            position = event.position or 0
            index = bisect_left(positions, position)
            value = values[index - 1] if index else DEFAULT_VISIBILITY
            if index < len(rows) and rows[index][1] == event.event_id:
                value = min(value, values[index], key=VISIBILITIES.index)
            result[event.event_id] = value if self._knows_state_at(position) else VISIBILITIES[-1]
        return result

    def _while_invited(self, events: Sequence[Event]) -> set[str]:
        """Ids of those of the events at which a user of the server was invited or joined."""
        if not events:
            return set()
        entries = memberships_of(_overlapping(self.room, events), self.server)
        rows = list(entries.values_list("position", "replaced_at", "event_id"))
        contents = state_events.get_many([event_id for *_, event_id in rows])
        spans = [
            (begin, end)
            for begin, end, event_id in rows
            if contents[event_id].content.get("membership") in ("invite", "join")
        ]
        at = {event.event_id: event.position or 0 for event in events}
        return {
            event_id
            for event_id, position in at.items()
            if any(begin < position and (end is None or position <= end) for begin, end in spans)
        }

    def _knows_state_at(self, position: int) -> bool:
        return self.known is None or any(stay.covers(position) for stay in self.known)


def _visibility_of(value: object) -> str:
    return value if isinstance(value, str) and value in VISIBILITIES else DEFAULT_VISIBILITY


def _stays(room: Room, server: str) -> tuple[Stay, ...]:
    """The stays of a server whose users were joined. A stay of one event is none: it brings a server that is outside
    the end of an invite or a knock (decision 82)."""
    rows = RoomServer.objects.filter(room=room, server=server).order_by("joined_position")
    rows = rows.exclude(left_position=F("joined_position"))
    return tuple(Stay(joined, left) for joined, left in rows.values_list("joined_position", "left_position"))


def _overlapping(room: Room, events: Iterable[Event]) -> QuerySet[StateEntry]:
    """State entries in force before any of the events, and those that begin with one."""
    positions = [event.position or 0 for event in events]
    still_in_force = Q(replaced_at__isnull=True) | Q(replaced_at__gte=min(positions))
    return StateEntry.objects.filter(still_in_force, room=room, position__lte=max(positions))


def memberships_of(entries: QuerySet[StateEntry], server: str) -> QuerySet[StateEntry]:
    """Those of the entries that are memberships of users of `server`."""
    return entries.alias(users_server=_USERS_SERVER).filter(type="m.room.member", users_server=server)


def _waiting(room: Room, server: str, *, after: int) -> frozenset[int]:
    """Positions, later than `after`, of the server's users' memberships that are an invite or a knock now."""
    current = StateEntry.objects.filter(room=room, position__gt=after, replaced_at__isnull=True)
    rows = list(memberships_of(current, server).values_list("position", "event_id"))
    contents = state_events.get_many([event_id for _, event_id in rows])
    return frozenset(
        position for position, event_id in rows if contents[event_id].content.get("membership") in ("invite", "knock")
    )
