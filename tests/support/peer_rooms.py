"""A room that another server hosts: its line as that hub makes it, honest unless a test says otherwise."""

from linmatrix.protocol import completion
from linmatrix.protocol.auth_events import select_auth_events
from linmatrix.protocol.events import Lpdu, Pdu
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.protocol.state import StateEvent
from tests.support.peers import Peer


class PeerRoom:
    """The hub's copy of a room of its own; `line` is all of its events."""

    def __init__(self, hub: Peer, *, localpart="room", version=UNSTABLE_PREFIX, join_rule="public", encryption=""):
        self.hub, self.version = hub, version
        self.room_id = f"!{localpart}:{hub.name}"
        self.line: list[Pdu] = []
        self.state: dict = {}
        encrypted = {"encryption": {"algorithm": encryption}} if encryption else {}
        self.add(type="m.room.create", content={"room_version": version, **encrypted}, state_key="")
        self.member(hub.user("user"), "join")
        self.add(type="m.room.power_levels", content={"users": {hub.user("user"): 100}}, state_key="")
        self.add(type="m.room.join_rules", content={"join_rule": join_rule}, state_key="")

    def member(self, user_id, membership) -> Pdu:
        """A membership by the hub's own user."""
        return self.add(type="m.room.member", content={"membership": membership}, state_key=user_id)

    def add(self, *, lpdu: Lpdu | None = None, **fields) -> Pdu:
        """Append an event: a participant's LPDU, or a new one of the hub's own user."""
        return self.put(self.make(lpdu=lpdu, **fields))

    def make(self, *, lpdu: Lpdu | None = None, prev_event="", auth_events=None, **fields) -> Pdu:
        """An event that would be next, not appended; `prev_event` and `auth_events` may be others than right."""
        event = lpdu.event if lpdu else self.hub.event(self.room_id, **fields)
        selected = select_auth_events(
            type=event["type"],
            state_key=event.get("state_key"),
            sender=event["sender"],
            content=event["content"],
            state=self.state,
        )
        return completion.complete(
            event,
            auth_events=selected if auth_events is None else auth_events,
            prev_event=prev_event or (self.line[-1].event_id if self.line else None),
            server=self.hub.name,
            key=self.hub.key,
            lpdu=lpdu,
        )

    def put(self, pdu: Pdu) -> Pdu:
        """Append a complete event."""
        self.line.append(pdu)
        event = pdu.event
        if "state_key" in event:
            key = (event["type"], event["state_key"])
            self.state[key] = StateEvent(pdu.event_id, *key, event["sender"], event["content"])
        return pdu

    def state_before(self, position) -> list[Pdu]:
        """State events in force before the event at this index of the line, oldest first."""
        latest = {
            (pdu.event["type"], pdu.event["state_key"]): pdu for pdu in self.line[:position] if "state_key" in pdu.event
        }
        return sorted(latest.values(), key=self.line.index)

    def backfill(self, event_id, limit) -> list[dict]:
        """What the hub answers to a backfill, oldest first."""
        index = next(index for index, pdu in enumerate(self.line) if pdu.event_id == event_id)
        return [pdu.event for pdu in self.line[max(0, index + 1 - limit) : index + 1]]
