"""A server that does on the wire what Synapse's prototype does: a server of a DAG that can be the hub of a room.

It stages what it is sent and works on it afterwards: tests say when, with `work`. Numbers in comments are those of
the list of its habits that `tests.federation.test_dag_prototype` goes through.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.errors import BadSignature
from linmatrix.protocol.request_auth import request_bytes
from tests.support.foreign_events import BadEvent, Event, check_lpdu, id_there, seal
from tests.support.foreign_rooms import ForeignRoom
from tests.support.foreign_server import ForeignServer, Refused
from tests.support.naive_replay import domain
from tests.support.peers import now_ms
from tests.support.plain_peer import UNST, V1, FrontDoor, Reply, Response, path
from tests.support.tls_peer import Request

KEPT = {  # 13
    "m.room.member": ("join_authorised_via_users_server",),
    "m.room.join_rules": ("allow",),
    "m.room.redaction": ("redacts",),
}
MAX_PDUS = 50  # 6
MAX_PREV_EVENTS = 10  # further ends of the DAG are left for later events
BACK_OFF_SECONDS = 600.0  # 12


@dataclass
class Queue:
    """What waits for one server."""

    events: list[Event] = field(default_factory=list)
    edus: list[dict[str, Any]] = field(default_factory=list)
    sent: list[Reply] = field(default_factory=list)
    closed_until: float = 0.0


class DagPrototype(ForeignServer):
    """The server: hub of the rooms that it created."""

    kept = KEPT

    def __init__(self, us: FrontDoor) -> None:
        super().__init__(us)
        self.queues: dict[str, Queue] = {}
        self.clock: Callable[[], float] = time.monotonic
        self.names_failures = False
        """Whether it reports failed events, by ids that their senders do not know (4)."""
        self._staged: list[list[Event]] = []
        self._ends: defaultdict[str, list[str]] = defaultdict(list)
        self._txn = 0

    # Rooms of its own

    def own(self, room: ForeignRoom, type: str, content: dict[str, Any], **fields: Any) -> str:
        """An event of a user of its own, without `hub_server` (2), queued for everybody; its id."""
        return self._append(room, self.event(room.room_id, type, content, **fields), self._last(room))

    def _append(self, room: ForeignRoom, event: Event, after: list[str]) -> str:
        """Complete an event that follows `after`, and queue it. Raises `BadEvent`."""
        if not room.allows(event):
            raise BadEvent(f"{event['type']} of {event['sender']} is not allowed")
        before = room.servers()
        pdu = self._seal(event, auth_events=room.auth_events(event), prev_events=after)
        event_id = room.put(pdu)
        ends = self._ends[room.room_id]
        self._ends[room.room_id] = [end for end in ends if end not in after] + [event_id]
        for server in sorted((before | room.servers()) - {self.name}):
            self.queue(server).events.append(pdu)
        return event_id

    def _last(self, room: ForeignRoom) -> list[str]:
        """What a new event follows."""
        return self._ends[room.room_id][:MAX_PREV_EVENTS]

    def _seal(self, event: Event, *, auth_events: list[str], prev_events: list[str]) -> Event:
        return seal(event, auth_events=auth_events, prev_events=prev_events, server=self.name, key=self.key, kept=KEPT)

    def invite(self, room: ForeignRoom, user_id: str) -> Reply:
        """Invite a user of another server: its profile first (11), then the invite."""
        server = domain(user_id)
        self.ask(server, "GET", f"{V1}/query/profile?user_id={user_id}")
        event = self.event(room.room_id, "m.room.member", {"membership": "invite"}, state_key=user_id)
        pdu = self._seal(event, auth_events=room.auth_events(event), prev_events=self._last(room))
        content = {"event": pdu, "room_version": room.version, "invite_room_state": []}
        reply = self.ask_with_fallback(server, "POST", ["invite", self._txn_id()], content)
        if reply.status == 200:
            self._ends[room.room_id] = [room.put((reply.content or {})["event"])]
        return reply

    def ask_with_fallback(self, server: str, method: str, parts: list[str], content: dict[str, Any] | None) -> Reply:
        """Ask under the unstable path, and where that is not known under those of Matrix (11)."""
        for prefix in (UNST, "/_matrix/federation/v2", V1):
            reply = self.ask(server, method, prefix + path(*parts), content)
            if reply.status not in (404, 405) or reply.errcode != "M_UNRECOGNIZED":
                break
        return reply

    # Working and sending

    def work(self) -> None:
        """Work on what is staged, then send what waits."""
        while self._staged:
            self._process(self._staged.pop(0))
        for server in list(self.queues):
            self.deliver(server)

    def _process(self, events: list[Event]) -> None:
        """All events of a transaction follow what was last before it (5); those that fail are dropped (4)."""
        after = {event["room_id"]: self._last(self.rooms[event["room_id"]]) for event in events}
        for event in events:
            try:
                self._append(self.rooms[event["room_id"]], event, after[event["room_id"]])
            except BadEvent:
                continue

    def queue(self, server: str) -> Queue:
        """What waits for a server."""
        return self.queues.setdefault(server, Queue())

    def deliver(self, server: str) -> None:
        """Send what waits for a server in one transaction, unless it is being backed off from (12)."""
        queue = self.queue(server)
        if not (queue.events or queue.edus) or self.clock() < queue.closed_until:
            return
        events, edus = queue.events[:MAX_PDUS], queue.edus
        try:
            reply = self.ask(server, "PUT", f"{UNST}/send{path(self._txn_id())}", {"pdus": events, "edus": edus})
        except OSError:
            reply = Reply(0, None)
        queue.sent.append(reply)
        if reply.status != 200:
            queue.closed_until = self.clock() + BACK_OFF_SECONDS
            return
        del queue.events[: len(events)]
        queue.edus = []
        self.deliver(server)

    def _txn_id(self) -> str:
        self._txn += 1
        return f"{now_ms()}-{self._txn}"

    # As a server of the DAG in rooms of others

    def pdu(self, room_id: str, type: str, content: dict[str, Any], **fields: Any) -> Event:
        """An event as it makes it for any room: complete, and without a hub (2)."""
        cites = {name: fields.pop(name, []) for name in ("auth_events", "prev_events")}
        return self._seal(self.event(room_id, type, content, **fields), **cites)

    def take_from_dag(self, event: Event) -> str:
        """As hub: take an event that a server of the DAG has sent to all servers of the room by itself (8).

        It is not sent on.
        """
        event_id = self.rooms[event["room_id"]].put(event)
        self._ends[event["room_id"]] = [event_id]
        return event_id

    # Requests of others

    def answer(self, request: Request) -> Response:
        """The answer to a request."""
        if request.parts[0] == "server":
            return 200, self.server_keys()
        try:
            origin = self._authenticate(request)
            self.queue(origin).closed_until = 0.0  # 12
            endpoint = self.endpoint(request)
            if endpoint is None:
                raise Refused(404, "M_UNRECOGNIZED")
            return 200, endpoint(request)
        except Refused as refusal:
            return refusal.response

    def _authenticate(self, request: Request) -> str:
        """The server that signed a request (3)."""
        given = credentials(request.headers.get("Authorization", ""))
        content = request.content if request.body else None
        covered = request_bytes(
            method=request.method,
            uri=request.target,
            origin=given["origin"],
            destination=given["destination"],
            content=content,
        )
        keys = self.keys_of(given["origin"]).get((given["origin"], given["key"]), [])
        if not any(key.verifies(covered, decode_base64(given["sig"], length=64)) for key in keys):
            raise Refused(401, "M_UNAUTHORIZED", "Invalid signature")
        return given["origin"]

    def _hosted(self, room_id: str) -> ForeignRoom:
        if room_id not in self.rooms:
            raise Refused(404, "M_NOT_FOUND")
        return self.rooms[room_id]

    def _get_make_join(self, request: Request) -> dict[str, Any]:
        _, room_id, user_id = request.parts
        room = self._hosted(room_id)
        if room.version not in request.query.get("ver", []):  # 9
            raise Refused(400, "M_INCOMPATIBLE_ROOM_VERSION")
        event = self.template(room, user_id)
        if not room.allows(event):
            raise Refused(403, "M_FORBIDDEN")
        return {"event": event, "room_version": room.version}  # 9

    def _post_send_join(self, request: Request) -> dict[str, Any]:
        lpdu = request.content
        room = self._hosted(lpdu["room_id"])
        state = room.state()
        try:
            self._check(lpdu)
            event_id = self._append(room, lpdu, self._last(room))
        except (BadEvent, BadSignature) as error:
            raise Refused(403, "M_FORBIDDEN") from error
        return {"state": state, "auth_chain": room.auth_chain(state), "event": room.get(event_id)}

    def _check(self, lpdu: Event) -> None:
        check_lpdu(lpdu, keys=self.keys_of(domain(lpdu["sender"])), kept=KEPT)

    def _put_send(self, request: Request) -> dict[str, Any]:
        """Stage a transaction; no event is looked up, so one that comes again is another one (6)."""
        pdus = request.content["pdus"]
        if len(pdus) > MAX_PDUS:
            raise Refused(500, "M_UNKNOWN")  # 6
        origin = credentials(request.headers["Authorization"])["origin"]
        failed, staged = {}, []
        for event in pdus:
            if "auth_events" in event and self.published(origin).get("m.linearized"):
                raise Refused(400, "M_BAD_JSON", "a linearized server sends LPDUs")  # 1
            if "hub_server" not in event or "lpdu" not in event.get("hashes", {}):
                raise Refused(400, "M_BAD_JSON", "malformed")  # 4
            try:
                self._check(event)
                if self.names_failures and not self._hosted(event["room_id"]).allows(event):
                    raise BadEvent("not allowed")
            except (BadEvent, BadSignature):
                failed[id_there({**event, "depth": 1, "prev_events": []}, KEPT)] = {"error": "Failed."}  # 4
            else:
                staged.append(event)
        self._staged.append(staged)
        return {"failed_pdus": failed if self.names_failures else {}}

    def _post_invite(self, request: Request) -> dict[str, Any]:
        event = request.content["event"]
        if "auth_events" not in event:
            raise Refused(403, "M_FORBIDDEN")  # 9
        return self.take_invite(event)  # 9

    def _get_backfill(self, request: Request) -> dict[str, Any]:
        self._hosted(request.parts[1])
        return {"pdus": []}  # 7

    def _get_event(self, request: Request) -> dict[str, Any]:
        event_id = request.parts[1]
        for room in self.rooms.values():
            if event_id in room.ids:
                return {**room.get(event_id), "unsigned": {"age": 7}}  # 7
        raise Refused(404, "M_NOT_FOUND")

    def _get_state(self, request: Request) -> dict[str, Any]:
        state = self._hosted(request.parts[1]).state()
        return {"pdus": state, "auth_chain": self._hosted(request.parts[1]).auth_chain(state)}

    def _get_state_ids(self, request: Request) -> dict[str, Any]:
        state = self._get_state(request)
        ids = {name: [id_there(event, KEPT) for event in events] for name, events in state.items()}
        return {"pdu_ids": ids["pdus"], "auth_chain_ids": ids["auth_chain"]}


def credentials(header: str) -> dict[str, str]:
    """The parameters of an X-Matrix header, which has no space after a comma (3)."""
    scheme, _, rest = header.partition(" ")
    given = {}
    for part in rest.split(","):
        name, _, value = part.partition("=")
        if name.strip() != name or scheme != "X-Matrix":
            raise Refused(400, "M_UNKNOWN", "Malformed Authorization header")
        given[name] = value.strip('"')
    if not {"origin", "destination", "key", "sig"} <= given.keys():
        raise Refused(400, "M_UNKNOWN", "Malformed Authorization header")
    return given
