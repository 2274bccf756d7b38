"""A server that does on the wire what eigen-server does, the existing implementation in TypeScript.

Its rooms are timelines: `state` is all that happened, a participant plays it back through the rules, the hub sends on
within the request, and nothing is retried or remembered. Numbers in comments are those of the list of its habits that
`tests.federation.test_timeline_server` goes through.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from linmatrix.protocol.completion import make_lpdu
from linmatrix.protocol.errors import BadSignature
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from tests.support.foreign_events import BadEvent, Event, check_lpdu, check_pdu, seal
from tests.support.foreign_rooms import ForeignRoom
from tests.support.foreign_server import ForeignServer, Refused
from tests.support.naive_replay import domain
from tests.support.peers import now_ms
from tests.support.plain_peer import UNST, V1, FrontDoor, Page, Reply, Response, path
from tests.support.tls_peer import Request

KEPT = {"m.room.join_rules": ("allow",)}  # 20
MAX_BODY_BYTES = 100 * 1024  # 17
BACKFILL_PAGE = 10  # 16
TXN_CONSTANT = "m0"  # 13
INTERNAL_ERROR = 500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}


class Crash(Exception):
    """What would end the server's process (19)."""


class JoinFailed(Exception):
    """A join that this server gave up."""


class TimelineServer(ForeignServer):
    """The server: hub of `rooms` that it created, participant of those that it joined."""

    kept = KEPT

    def __init__(self, us: FrontDoor) -> None:
        super().__init__(us)
        self.sent: list[tuple[str, Reply]] = []
        """Transactions to other servers, as their id and the answer."""
        self.clock: Callable[[], int] = now_ms
        self.refuses: Callable[[Event], bool] = lambda _event: False
        """What it takes for a bad event, beside those that are."""
        self.loses: set[str] = set()
        """Servers that transactions to do not get through: lost for good (11)."""
        self.echoes_joins = False
        """Whether a server gets its first join by a transaction, too, before the answer to send_join (10)."""
        self._lock = threading.RLock()

    # Rooms of its own

    def own(self, room: ForeignRoom, type: str, content: dict[str, Any], **fields: Any) -> str:
        """An event of a user of its own in a room that it hosts, sent on; its id. It has no `hub_server` (5)."""
        return self._append(room, self.event(room.room_id, type, content, **fields))

    def _append(self, room: ForeignRoom, event: Event, *, after: list[str] | None = None, to_new: bool = True) -> str:
        """Complete an event and send it on to everybody, one PUT for it alone, before returning (10).

        Without `to_new` those do not get it that were not in the room before.
        """
        with self._lock:
            if not room.allows(event) or self.refuses(event):
                raise BadEvent(f"{event['type']} is not allowed")
            before = room.servers()
            pdu = self._seal(room, event, room.ids[-1:] if after is None else after)
            invited = self._invite(room, pdu)
            event_id = room.put(invited or pdu)
            servers = before | room.servers() if to_new else before
        for server in sorted(servers - {self.name}):
            self._put(server, room.get(event_id))
        return event_id

    def _seal(self, room: ForeignRoom, event: Event, prev_events: list[str]) -> Event:
        cited = room.auth_events(event)
        return seal(event, auth_events=cited, prev_events=prev_events, server=self.name, key=self.key, kept=KEPT)

    def _invite(self, room: ForeignRoom, pdu: Event) -> Event | None:
        """The event with the signature of the invited user's server, where that is not in the room."""
        if pdu["type"] != "m.room.member" or pdu["content"].get("membership") != "invite":
            return None
        server = domain(pdu["state_key"])
        if server in room.servers():
            return None
        content = {"event": pdu, "room_version": room.version, "invite_room_state": []}
        reply = self.ask(server, "POST", f"{UNST}/invite{path(self._txn_id())}", content)
        if reply.status != 200 or "event" not in (reply.content or {}):  # 2
            raise BadEvent("the invite was not signed")
        return (reply.content or {})["event"]

    def append_at_once(self, room: ForeignRoom, *contents: dict[str, Any]) -> list[str]:
        """Messages of requests that come at the same time: all follow what was last when they came (12)."""
        last = room.ids[-1:]
        return [
            self._append(room, self.event(room.room_id, "m.room.message", content), after=last) for content in contents
        ]

    # Rooms of others

    def join(self, room_id: str, *, via: str, localpart: str = "user") -> ForeignRoom:
        """Join a room by way of a server. Raises `JoinFailed`."""
        user = self.user(localpart)
        target = f"{V1}/make_join{path(room_id, user)}?ver={UNSTABLE_PREFIX}"
        made = self.ask(via, "GET", target)
        if made.status != 200 or not {"event", "room_version"} <= set(made.content or {}):  # 1
            raise JoinFailed(f"make_join: {made}")
        template = (made.content or {})["event"]
        event = {name: template[name] for name in ("room_id", "type", "sender", "state_key", "content")}
        lpdu = make_lpdu({**event, "origin_server_ts": now_ms()}, hub_server=via, key=self.key).event  # 4
        joined = self.ask(via, "POST", f"{UNST}/send_join{path(self._txn_id())}", lpdu)
        if joined.status != 200:
            raise JoinFailed(f"send_join: {joined}")
        room = ForeignRoom(room_id, hub=via, kept=KEPT)
        answer = joined.content or {}
        for item in [*answer["state"], answer["event"]]:
            try:
                self._take(room, item)
            except (BadEvent, BadSignature) as error:
                raise JoinFailed(f"playing back the state: {error}") from error
        self.rooms[room_id] = room
        self.invites.pop(room_id, None)
        return room

    def accept(self, room_id: str) -> ForeignRoom:
        """Accept an invite by way of the inviter's server (7)."""
        return self.join(room_id, via=domain(self.invites[room_id]["sender"]))

    def lpdu(self, room: ForeignRoom, type: str, content: dict[str, Any], **fields: Any) -> Event:
        """A signed event for the hub of a room (4)."""
        return make_lpdu(self.event(room.room_id, type, content, **fields), hub_server=room.hub, key=self.key).event

    def send(self, room: ForeignRoom, type: str, content: dict[str, Any], **fields: Any) -> Reply:
        """Send an event to the hub of a room, invites too (8)."""
        return self._put(room.hub, self.lpdu(room, type, content, **fields))

    def say(self, room: ForeignRoom, body: str, **fields: Any) -> Reply:
        """Send a message to the hub of a room."""
        return self.send(room, "m.room.message", {"body": body}, **fields)

    def _put(self, server: str, *events: Event) -> Reply:
        """One transaction, once: there is no retry, and what the answer says is not looked at (9, 11)."""
        txn_id = self._txn_id()
        reply = Reply(0, None)
        if server not in self.loses:
            with suppress(OSError):
                reply = self.ask(server, "PUT", f"{UNST}/send{path(txn_id)}", {"pdus": list(events), "edus": []})
        self.sent.append((txn_id, reply))
        return reply

    def _txn_id(self) -> str:
        return f"{self.clock()}{TXN_CONSTANT}"

    def _take(self, room: ForeignRoom, event: Event) -> None:
        """Take an event of a hub's line. Raises `BadEvent`, `BadSignature`."""
        sender = domain(event["sender"])
        if sender == room.hub and ("hub_server" in event or "lpdu" in event["hashes"]):  # 5
            raise BadEvent("the hub's own event has a hub_server")
        check_pdu(event, hub=room.hub, keys=self.keys_of(sender, room.hub), kept=KEPT)
        if not room.allows(event) or self.refuses(event):
            raise BadEvent(f"{event['type']} of {event['sender']} is not allowed")
        room.put(event)

    # Requests of others; it never looks at who sends them (3)

    def answer(self, request: Request) -> Response:
        """The answer to a request."""
        if len(request.body) > MAX_BODY_BYTES:
            return Page(413)  # 17
        endpoint = self.endpoint(request)
        if endpoint is None:
            return Page(404)  # 18
        try:
            return 200, endpoint(request)
        except Refused as refusal:
            return refusal.response
        except (BadEvent, BadSignature):
            return INTERNAL_ERROR  # 9

    def _get_server(self, _request: Request) -> dict[str, Any]:
        return self.server_keys()

    def _hosted(self, room_id: str) -> ForeignRoom:
        room = self.rooms.get(room_id)
        if room is None:
            raise Refused(404, "M_NOT_FOUND")
        if room.hub != self.name:
            raise Refused(400, "M_UNKNOWN")  # 18
        return room

    def _get_make_join(self, request: Request) -> dict[str, Any]:
        _, room_id, user_id = request.parts
        room = self._hosted(room_id)
        if room.version not in request.query.get("ver", []):
            raise Refused(400, "M_UNSUPPORTED_ROOM_VERSION")  # 18
        event = self.template(room, user_id)
        if not room.allows(event):
            raise Refused(404, "M_NOT_FOUND")  # 18
        return {"event": event, "room_version": room.version}  # 1

    def _post_send_join(self, request: Request) -> dict[str, Any]:
        lpdu = request.content
        if lpdu["content"].get("membership") != "join":
            raise Crash("send_join of something else")  # 19
        room = self._hosted(lpdu["room_id"])
        timeline = room.timeline  # 6
        try:
            event_id = self._append_lpdu(room, lpdu, to_new=self.echoes_joins)
        except (BadEvent, BadSignature) as error:
            raise Refused(404, "M_NOT_FOUND") from error  # 18
        return {"state": timeline, "auth_chain": room.auth_chain(timeline), "event": room.get(event_id)}

    def _append_lpdu(self, room: ForeignRoom, lpdu: Event, *, to_new: bool = True) -> str:
        """Append what a participant sent, whether it was here before or not (11)."""
        if lpdu.get("hub_server") != self.name:
            raise BadEvent("the LPDU is for another hub")
        check_lpdu(lpdu, keys=self.keys_of(domain(lpdu["sender"])), kept=KEPT)
        return self._append(room, lpdu, to_new=to_new)

    def _put_send(self, request: Request) -> dict[str, Any]:
        for event in request.content["pdus"]:
            if event is None:
                raise Crash("a PDU that is null")  # 19
            room = self.rooms.get(event["room_id"])
            if room is None:
                raise BadEvent("the room is not known")
            if "auth_events" in event:  # 4
                self._take(room, event)
            else:
                self._append_lpdu(room, event)
        return {"failed_pdus": {}}

    def _post_invite(self, request: Request) -> dict[str, Any]:
        content = request.content
        if content.get("room_version") != UNSTABLE_PREFIX:
            raise Refused(400, "M_UNSUPPORTED_ROOM_VERSION")  # 18
        event = content["event"]  # 2
        if "auth_events" not in event:
            self._append_lpdu(self._hosted(event["room_id"]), event)
            return {"event": event}
        return self.take_invite(event)

    def _get_event(self, request: Request) -> dict[str, Any]:
        event_id = request.parts[1]
        for room in self.rooms.values():
            if event_id in room.ids:
                return {**room.get(event_id), "event_id": event_id}  # 15
        raise Refused(404, "M_NOT_FOUND")

    def _get_backfill(self, request: Request) -> dict[str, Any]:
        room = self.rooms[request.parts[1]]
        index = room.ids.index(request.query["v"][0]) + 1
        ids = room.ids[max(0, index - min(int(request.query["limit"][0]), BACKFILL_PAGE)) : index]
        return {"pdus": [{**room.get(event_id), "event_id": event_id} for event_id in reversed(ids)]}  # 15, 16

    def _get_state_ids(self, request: Request) -> dict[str, Any]:
        room = self._hosted(request.parts[1])
        return {"pdus_ids": room.ids, "auth_chain_ids": []}  # 16
