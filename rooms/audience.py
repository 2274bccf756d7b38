"""Which servers are in a room: their stays, counted by joined users.

An event's audience are the servers that were in the room before or after it (decision 81). Memberships
change the count of their user's server; the first joined user begins a stay, and the last one who leaves
ends it. Counting keeps an append independent of the number of members.

A server outside of the room whose user was invited or knocked is told when that ends (decision 82). It gets a
stay of that one event: begun and ended by it, with nobody joined. Delivery needs to know no more, and no other
stay looks like it, since one cannot join and leave by the same event.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from django.conf import settings

from linmatrix import prepared
from rooms.models import Room, RoomServer

WAITING, ENDED = frozenset(("invite", "knock")), frozenset(("leave", "ban"))
"""Memberships of users whose server waits for an answer, or we for theirs; and those that end the waiting."""

IS_JOINED_SQL = r"""(
    entry.type = 'm.room.member' AND entry.replaced_at IS NULL
    AND (
        SELECT regexp_replace(json, '\\.', '?', 'g')::json #>> '{content,membership}' FROM rooms_event
        WHERE event_id = entry.event_id
    ) = 'join'
)"""
"""Whether a row `rooms_stateentry entry` is the membership of a user who is joined now. PostgreSQL refuses all of an
event that holds NUL anywhere, such as in a display name, so whatever is escaped is read as something else: nothing of
what is asked for here is, as events are stored in canonical form."""

_SHARING = f"""
    SELECT pair.user_id, pair.server FROM unnest(%s::text[], %s::text[]) AS pair (user_id, server)
    WHERE EXISTS (
        SELECT FROM rooms_stateentry entry JOIN rooms_roomserver stay ON stay.room_id = entry.room_id
        WHERE entry.state_key = pair.user_id AND {IS_JOINED_SQL}
        AND stay.server = pair.server AND stay.left_position IS NULL
    )
"""  # noqa: S608  texts of ours


@dataclass
class AudienceChanges:
    """What a run of appended memberships changes, in their order."""

    _changes: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def record(self, *, server: str, before: str, after: str, position: int) -> None:
        """Note that a user of `server` went from one membership to another at `position`."""
        difference = (after == "join") - (before == "join")
        if difference or (before in WAITING and after in ENDED):
            self._changes[server].append((position, difference))

    def write(self, room: Room) -> set[str]:
        """Bring the room's stays up to date; the servers of which one began or ended. The caller holds the room's
        lock."""
        moved: set[str] = set()
        if not self._changes:
            return moved
        stays = {
            stay.server: stay
            for stay in RoomServer.objects.filter(room=room, server__in=self._changes, left_position__isnull=True)
        }
        for server, changes in sorted(self._changes.items()):
            stay = stays.get(server)
            for position, difference in changes:
                if stay is None and not difference and not _is_told(room, server):
                    continue
                begins = stay is None
                stay = _changed(stay, room=room, server=server, position=position, difference=difference)
                if difference and (begins or stay.left_position is not None):
                    moved.add(server)
                if stay.left_position is not None:
                    _save(stay)
                    stay = None
            if stay is not None:
                _save(stay)
        self._changes.clear()
        return moved


def _is_told(room: Room, server: str) -> bool:
    """Whether `server`, which is not in the room, is one to send events to: hubs send, and not to themselves."""
    return room.role == Room.Role.HUB and server != settings.SERVER_NAME


def _changed(stay: RoomServer | None, *, room: Room, server: str, position: int, difference: int) -> RoomServer:
    if stay is None:
        # The event that begins the stay is the first that the server is sent: the join's echo, or all there is.
        stay = RoomServer(
            room=room, server=server, joined_position=position, sent_position=position - 1, joined_users=0
        )
    stay.joined_users += difference
    if stay.joined_users == 0:
        stay.left_position = position
    return stay


def _save(stay: RoomServer) -> None:
    # A delivery may move sent_position at the same time, so it is not written back.
    stay.save(update_fields=["joined_users", "left_position"] if stay.pk else None)


def audience(room_id: str, *, since_position: int) -> list[str]:
    """The servers that were in the room at any event from `since_position` on, ourselves included."""
    rows = prepared.execute(
        "SELECT server FROM rooms_roomserver WHERE room_id = %s AND left_position IS NULL"
        " UNION SELECT server FROM rooms_roomserver WHERE room_id = %s AND left_position >= %s",
        [room_id, room_id, since_position],
    )
    return [server for (server,) in rows]


def takes_part(room_id: str, server: str) -> bool:
    """Whether a user of `server` is joined to the room now."""
    return RoomServer.objects.filter(room_id=room_id, server=server, left_position__isnull=True).exists()


def servers_in_rooms(servers: Collection[str]) -> set[str]:
    """Those of `servers` that are in any room that we know."""
    current = RoomServer.objects.filter(server__in=servers, left_position__isnull=True)
    return set(current.values_list("server", flat=True).distinct())


def sharing(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these pairs of a user and a server of which the user is joined to a room that the server is in now."""
    columns = [*map(list, zip(*pairs, strict=True))] or [[], []]
    return {(user_id, server) for user_id, server in prepared.execute(_SHARING, columns)}


def anyone_joined(room_id: str) -> bool:
    """Whether any user is joined to the room now."""
    return RoomServer.objects.filter(room_id=room_id, left_position__isnull=True).exists()
