"""On the hub: rooms with fake participants in them, and rooms that have grown already.

Everything goes through the modules that serve requests too, so the rooms are valid ones: signed, authorized, one line.
"""

from django.conf import settings
from django.db import connection
from django.utils import timezone

from bench.participants import Participant, now_ms
from federation.models import Destination
from keys.fetchers import parse_server_keys
from keys.history import store
from linmatrix.protocol.completion import new_event
from linmatrix.protocol.events import Lpdu
from rooms.creation import create_room
from rooms.hub import append_lpdus, append_own
from rooms.models import Event

BATCH = 500
TEXT = "x" * 700
"""Makes our own events as large as the PDUs of the participants' messages."""


def publish(names: list[str]) -> None:
    """Know the keys of these servers, as if they had just been asked."""
    for name in names:
        store(parse_server_keys(Participant(name).published_keys(), server=name, now_ms=now_ms()), now_ms=now_ms())


def new_room(names: list[str], users: int = 1) -> str:
    """A public room with so many users of each of these servers joined to it; its id."""
    room = create_room(creator=creator(), now=timezone.now(), join_rule="public", name="Benchmark")
    localparts = ["user", *(f"user{number}" for number in range(1, users))]
    joins = [
        Participant(name).join(room.room_id, hub=settings.SERVER_NAME, localpart=localpart)
        for localpart in localparts
        for name in names
    ]
    for first in range(0, len(joins), BATCH):
        append(room.room_id, joins[first : first + BATCH])
    return room.room_id


def append(room_id: str, lpdus: list[Lpdu]) -> None:
    """Append what must not be refused."""
    for outcome in append_lpdus(room_id, lpdus, now=timezone.now()):
        if outcome.refusal is not None:
            raise outcome.refusal


def fill(room_id: str, events: int) -> None:
    """Let the room's creator say so much, in events as large as the participants'."""
    for first in range(0, events, BATCH):
        messages = [
            new_event(
                room_id=room_id,
                sender=creator(),
                type="m.room.message",
                content={"msgtype": "m.text", "body": f"{number:08} {TEXT}"},
                origin_server_ts=now_ms(),
            )
            for number in range(first, min(first + BATCH, events))
        ]
        append_own(room_id, messages, now=timezone.now())


def event_ids_at(room_id: str, positions: list[int]) -> list[str]:
    """The ids of the events at these positions."""
    found = dict(Event.objects.filter(room_id=room_id, position__in=positions).values_list("position", "event_id"))
    return [found[position] for position in positions]


def settle() -> None:
    """Do for the tables what autovacuum would do within minutes, so that it does not start while we measure."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")


def pending() -> int:
    """Servers that still have something to be sent."""
    return Destination.objects.filter(pending=True).count()


def creator() -> str:
    """The user who creates the rooms."""
    return f"@host:{settings.SERVER_NAME}"
