"""Rooms as rows, for tests of what is sent: lines of events that no rule has looked at."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from linmatrix.protocol import canonical_json
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from rooms.models import Event, Room, RoomServer
from rooms.signals import events_appended
from tests.scenarios.waiting import eventually


def make_room(
    name: str, *servers: str, version: str = UNSTABLE_PREFIX, role: str = Room.Role.HUB, hub: str = "hub.example.org"
) -> Room:
    """An empty room in which each of `servers` has a stay from the first event on."""
    room = Room.objects.create(room_id=f"!{name}:{hub}", version=version, role=role, hub_server=hub)
    for server in servers:
        begin_stay(room, server)
    return room


def begin_stay(room: Room, server: str) -> RoomServer:
    """A stay that begins with the room's next event."""
    head = Room.objects.get(pk=room.pk).head_position
    return RoomServer.objects.create(
        room=room, server=server, joined_position=head + 1, sent_position=head, joined_users=1
    )


def end_stay(stay: RoomServer) -> None:
    """End a stay with the room's last event."""
    stay.refresh_from_db()
    stay.left_position, stay.joined_users = Room.objects.get(pk=stay.room_id).head_position, 0
    stay.save(update_fields=["left_position", "joined_users"])


def append(room: Room, *bodies: str, verdict: str = Event.Verdict.ACCEPTED, padding: int = 0) -> None:
    """Append messages as `rooms.append` does: the room's row locked, the signal within the transaction."""
    with appending(room, *bodies, verdict=verdict, padding=padding):
        pass


@contextmanager
def appending(room: Room, *bodies: str, verdict: str = Event.Verdict.ACCEPTED, padding: int = 0) -> Iterator[None]:
    """Append messages, and commit when the block ends."""
    with transaction.atomic():
        locked = Room.objects.select_for_update(no_key=True).get(pk=room.pk)
        first = locked.head_position + 1
        for position, body in enumerate(bodies, start=first):
            Event.objects.create(
                event_id=f"${locked.room_id[1:].partition(':')[0]}-{position}",
                room=locked,
                position=position,
                type="m.room.message",
                sender="@alice:hub.example.org",
                origin_server_ts=1,
                json=canonical_json.dumps(message(locked.room_id, body, padding)).decode(),
                verdict=verdict,
                received_at=timezone.now(),
            )
        locked.head_position, locked.head_event_id = first + len(bodies) - 1, "$last"
        locked.save(update_fields=["head_position", "head_event_id"])
        events_appended.send(sender=Room, room=locked, first_position=first, last_position=locked.head_position)
        yield


def message(room_id: str, body: str, padding: int = 0) -> dict[str, Any]:
    """An event with a text, and with some weight."""
    content = {"body": body, "padding": "x" * padding}
    return {"room_id": room_id, "type": "m.room.message", "sender": "@alice:hub.example.org", "content": content}


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run something beside the test with a database connection of its own; its exceptions fail the test."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  raised again in the test's thread
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(timeout=20)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def wait_until_blocked() -> None:
    """Wait until another connection waits for a lock of ours."""
    eventually(somebody_waits, "somebody waits for a lock of ours")


def somebody_waits() -> bool:
    """Whether another connection waits for a lock of ours."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")
        return cursor.fetchone() is not None
