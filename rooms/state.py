"""Reading a room's state: now, and as it was before an event (draft section "State Events", decision 57).

Events come as the stored JSON text, to be spliced into answers, in the order of the room's line. What is shown to
people is read from there too and not from the process's memory, which may hold what was redacted since.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import orjson
from django.db.models import F, Q, QuerySet

from linmatrix.protocol.state import StateEvent, StateKey
from rooms.models import Event, Room, StateEntry
from rooms.state_events import state_events

STRIPPED_TYPES = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
)
"""What an invited or knocking user is shown of a room (draft section "Stripped State")."""

STRIPPED_FIELDS = ("type", "state_key", "sender", "content")

TEXTS_AT_ONCE = 200
"""Events of a room's state read from the database in one go: 150 KB of ordinary memberships."""


def entries_before(room: Room, position: int) -> QuerySet[StateEntry]:
    """The state entries in force before the event at `position`."""
    still_in_force = Q(replaced_at__isnull=True) | Q(replaced_at__gte=position)
    return StateEntry.objects.filter(still_in_force, room=room, position__lt=position)


def event_ids_before(room: Room, position: int) -> list[str]:
    """Ids of the state events in force before `position`, oldest first."""
    return list(entries_before(room, position).order_by("position").values_list("event_id", flat=True))


def events_before(room: Room, position: int) -> Iterable[str]:
    """JSON texts of the state events in force before `position`, oldest first; read anew whenever gone through."""
    return _Texts(entries_before(room, position).order_by("position").values_list("event__json", flat=True))


class _Texts:
    """The texts that a query gives, of which a process never holds more than some hundred: a large room's state is
    10 MB, and what sixteen threads have allocated once in small pieces they do not give back."""

    def __init__(self, query: QuerySet[StateEntry, str]) -> None:
        self._query = query

    def __iter__(self) -> Iterator[str]:
        return self._query.iterator(chunk_size=TEXTS_AT_ONCE)


def by_id(event_ids: Collection[str]) -> list[Event]:
    """These events, oldest first."""
    return list(Event.objects.filter(event_id__in=event_ids).order_by("position"))


def auth_chain(texts: Iterable[str]) -> dict[str, str]:
    """The auth events of these events, given as JSON texts, and theirs in turn, back to the create event.

    JSON texts by id; de-duplicated; an event among `texts` that another one rests on is part of it
    (decision 86).
    """
    return dict(_auth_chain({event_id for text in texts for event_id in _auth_events(text)}))


def with_auth_chain(texts: Iterable[str]) -> tuple[Iterator[str], Iterator[str]]:
    """The texts themselves and, to be gone through after them, those of their auth chain: each is read once."""
    references: set[str] = set()

    def noted() -> Iterator[str]:
        for text in texts:
            references.update(_auth_events(text))
            yield text

    def chain() -> Iterator[str]:
        for _, text in _auth_chain(references):
            yield text

    return noted(), chain()


def _auth_chain(references: Collection[str]) -> Iterator[tuple[str, str]]:
    """These events and what they rest on, as (id, text)."""
    asked: set[str] = set()
    while references:
        asked.update(references)
        rows = Event.objects.filter(event_id__in=references).values_list("event_id", "json")
        above: set[str] = set()
        for event_id, text in rows.iterator(chunk_size=TEXTS_AT_ONCE):
            above.update(_auth_events(text))
            yield event_id, text
        references = above - asked


def _auth_events(text: str) -> list[str]:
    event_ids: list[str] = orjson.loads(text)["auth_events"]
    return event_ids


def current_state(room_id: str, keys: Collection[StateKey]) -> dict[StateKey, StateEvent]:
    """The current state events under these keys as the rules read them; read without the room's lock."""
    ids = {(row.type, row.state_key): row.event_id for row in _current(room_id, keys)}
    events = state_events.get_many(list(ids.values()))
    return {key: events[event_id] for key, event_id in ids.items()}


def _current(room_id: str, keys: Collection[StateKey]) -> QuerySet[StateEntry]:
    """The current entries under these keys, where there are any."""
    wanted = Q()
    for type_, state_key in keys:
        wanted |= Q(type=type_, state_key=state_key)
    return StateEntry.objects.filter(wanted, room_id=room_id, replaced_at__isnull=True)


def stripped_state(room_id: str) -> list[dict[str, Any]]:
    """The room's stripped state, in the order of `STRIPPED_TYPES` (decision 118)."""
    entries = _current(room_id, [(type_, "") for type_ in STRIPPED_TYPES]).values_list("type", "event__json")
    events = {type_: orjson.loads(text) for type_, text in entries}
    return [{field: events[type_][field] for field in STRIPPED_FIELDS} for type_ in STRIPPED_TYPES if type_ in events]


def members(room_id: str) -> dict[str, str]:
    """Every user that the room's state names, with their membership now; in the order of their latest change."""
    rows = (
        StateEntry.objects.filter(room_id=room_id, type="m.room.member", replaced_at__isnull=True)
        .order_by(F("position").asc())
        .values_list("state_key", "event__json")
    )
    return {user_id: str(orjson.loads(text)["content"].get("membership")) for user_id, text in rows}
