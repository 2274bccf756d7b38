"""State events as the authorization rules read them, kept in memory.

Every append reads the create event, the power levels and its senders' memberships. They never change under
their id (redaction keeps all that the rules read), so a process parses each once.
"""

import threading
from collections.abc import Collection

import orjson
from cachetools import LRUCache
from django.conf import settings

from linmatrix.protocol.state import StateEvent
from rooms.models import Event


class StateEventCache:
    """State events by event id with at most `max_bytes` of JSON, the least recently used dropped first. Safe for
    threads."""

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._events: LRUCache[str, tuple[int, StateEvent]] = LRUCache(max_bytes, getsizeof=lambda item: item[0])

    def get_many(self, event_ids: Collection[str]) -> dict[str, StateEvent]:
        """The events with these ids; an id that no stored state event has is left out."""
        with self._lock:
            found = {event_id: self._events[event_id][1] for event_id in event_ids if event_id in self._events}
        missing = [event_id for event_id in event_ids if event_id not in found]
        if missing:
            rows = Event.objects.filter(event_id__in=missing, state_key__isnull=False).values_list("event_id", "json")
            for event_id, text in rows:
                found[event_id] = event = state_event(event_id, orjson.loads(text))
                self.put(event, size=len(text))
        return found

    def put(self, event: StateEvent, *, size: int) -> None:
        """Keep an event; `size` is the length of its JSON."""
        with self._lock:
            if size <= self._events.maxsize:
                self._events[event.event_id] = (size, event)


def state_event(event_id: str, event: dict) -> StateEvent:
    """The rules' view of a stored state event."""
    return StateEvent(event_id, event["type"], event["state_key"], event["sender"], event["content"])


state_events = StateEventCache(settings.LIMITS.cached_state_bytes)
"""The process's cache. Events are immutable, so no process needs to hear of another's."""
