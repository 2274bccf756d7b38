"""What the fakes of other implementations have in common: users, rooms, invites, and an endpoint for a request."""

from typing import Any

from linmatrix.protocol.completion import new_event
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from tests.support.foreign_events import Event, Kept, signed_there
from tests.support.foreign_rooms import ForeignRoom
from tests.support.peers import now_ms
from tests.support.plain_peer import FrontDoor, PlainPeer
from tests.support.tls_peer import Request


class Refused(Exception):
    """What a server answers with an error code."""

    def __init__(self, status: int, errcode: str, error: str = "Refused.") -> None:
        super().__init__(f"{status} {errcode}: {error}")
        self.response = status, {"errcode": errcode, "error": error}


class ForeignServer(PlainPeer):
    """A server with rooms. A method `_get_make_join` is the endpoint GET make_join, and so on."""

    kept: Kept = {}
    """What redaction keeps there beside the draft's fields."""

    def __init__(self, us: FrontDoor) -> None:
        super().__init__(us)
        self.rooms: dict[str, ForeignRoom] = {}
        self.invites: dict[str, Event] = {}
        """Invites of its users by room."""

    def create_room(self, localpart: str = "room", *, join_rule: str = "public", **rules: Any) -> ForeignRoom:
        """A room of its user `user`."""
        room = ForeignRoom(f"!{localpart}:{self.name}", hub=self.name, kept=self.kept)
        self.rooms[room.room_id] = room
        creator = self.user("user")
        self.own(room, "m.room.create", {"room_version": UNSTABLE_PREFIX}, state_key="")
        self.own(room, "m.room.member", {"membership": "join"}, state_key=creator)
        self.own(room, "m.room.power_levels", {"users": {creator: 100}}, state_key="")
        self.own(room, "m.room.join_rules", {"join_rule": join_rule, **rules}, state_key="")
        return room

    def own(self, room: ForeignRoom, type: str, content: dict[str, Any], **fields: Any) -> str:
        """An event of a user of its own in a room that it hosts; its id."""
        raise NotImplementedError

    def event(
        self,
        room_id: str,
        type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
        localpart: str = "user",
    ) -> Event:
        """A new event of a user of its own, neither hashed nor signed."""
        return new_event(
            room_id=room_id,
            sender=self.user(localpart),
            type=type,
            content=content,
            origin_server_ts=now_ms(),
            state_key=state_key,
        )

    def template(self, room: ForeignRoom, user_id: str) -> Event:
        """A join of a user of another server, neither hashed nor signed."""
        event = self.event(room.room_id, "m.room.member", {"membership": "join"})
        return {**event, "sender": user_id, "state_key": user_id}

    def take_invite(self, event: Event) -> dict[str, Any]:
        """Keep an invite of a user of its own; the answer, which has the event signed as `event`."""
        self.invites[event["room_id"]] = event
        signature = {self.key.key_id: self.key.sign(signed_there(event, self.kept))}
        return {"event": {**event, "signatures": {**event["signatures"], self.name: signature}}}

    def endpoint(self, request: Request) -> Any:
        """The method for a request; None for an unknown path, as are all of the stable v2 and v3 paths."""
        if "/federation/v2/" in request.target or "/federation/v3/" in request.target:
            return None
        return getattr(self, f"_{request.method.lower()}_{request.parts[0]}", None)
