"""A room as another implementation keeps it: all events it has, in the order in which it got them.

The rules are those of `tests.support.naive_replay`, which share nothing with the product's.
"""

from collections.abc import Sequence
from typing import Any

from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from tests.support import naive_replay
from tests.support.foreign_events import Event, Kept, id_there
from tests.support.naive_replay import Entry, domain


class ForeignRoom:
    """One server's copy of a room that `hub` hosts."""

    def __init__(self, room_id: str, *, hub: str, kept: Kept, version: str = UNSTABLE_PREFIX) -> None:
        self.room_id, self.hub, self.version = room_id, hub, version
        self._kept = kept
        self.entries: list[Entry] = []

    @property
    def timeline(self) -> list[Event]:
        """The events, oldest first."""
        return [dict(entry.event) for entry in self.entries]

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [entry.event_id for entry in self.entries]

    def messages(self) -> list[str]:
        """The texts of the messages in it."""
        return [event["content"].get("body") for event in self.timeline if event["type"] == "m.room.message"]

    def put(self, event: Event) -> str:
        """Take an event to the end, unless it is there; its id."""
        event_id = id_there(event, self._kept)
        if event_id not in self.ids:
            self.entries.append(Entry(event, event_id))
        return event_id

    def get(self, event_id: str) -> Event:
        """An event by its id."""
        return dict(self.entries[self.ids.index(event_id)].event)

    def allows(self, event: Event) -> bool:
        """Whether the rules allow an event next. What it cites is not looked at: a copy may not have all of it."""
        uncited = {name: value for name, value in event.items() if name != "auth_events"}
        return naive_replay.allows(uncited, self.entries, version=self.version)

    def auth_events(self, event: Event) -> list[str]:
        """The auth events of a new event."""
        return naive_replay.selection(event, self.entries)

    def membership(self, user_id: str) -> Any:
        """A user's membership."""
        return naive_replay.membership(self.entries, user_id)

    def servers(self) -> set[str]:
        """The servers that have a joined user."""
        users = {event["state_key"] for event in self.timeline if event["type"] == "m.room.member"}
        return {domain(user) for user in users if self.membership(user) == "join"}

    def state(self) -> list[Event]:
        """The current state, oldest first."""
        current = set(naive_replay.state(self.entries).values())
        return [dict(entry.event) for entry in self.entries if entry.event_id in current]

    def auth_chain(self, events: Sequence[Event]) -> list[Event]:
        """The auth events of events, and theirs in turn."""
        ids = [event_id for event in events for event_id in event["auth_events"]]
        return [dict(entry.event) for entry in naive_replay.auth_chain(ids, self.entries)]
