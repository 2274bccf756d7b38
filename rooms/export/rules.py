"""The authorization rules along a line that is complete: what its events may do, decided again from the first on.

The state is kept in memory, as many events as the room has members and settings; messages leave nothing behind.
"""

from linmatrix.protocol import auth_rules
from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.room_versions import RoomVersion
from linmatrix.protocol.state import CREATE, StateEvent, StateKey


class Rules:
    """A room's state as it is after the last event that was gone through."""

    def __init__(self, version: RoomVersion) -> None:
        self._version = version
        self._state: dict[StateKey, StateEvent] = {}
        self._cited: dict[str, CitedEvent] = {}
        self._last = ""

    def refusal(self, pdu: Pdu) -> str:
        """Why the rules refuse the event that is next, '' where they allow it."""
        create = self._state.get(CREATE)
        try:
            auth_rules.check(
                AuthorizedEvent.of(pdu.event),
                state=self._state,
                room_version=self._version,
                previous_is_create=create is not None and create.event_id == self._last,
                auth_events=self._cited,
            )
        except Rejected as refusal:
            return str(refusal)
        return ""

    def advance(self, pdu: Pdu, *, in_effect: bool) -> None:
        """Go on to the next event; `in_effect` says whether this one changes the state."""
        event, self._last = pdu.event, pdu.event_id
        if "state_key" not in event:
            return
        key = (event["type"], event["state_key"])
        self._cited[pdu.event_id] = CitedEvent(event["room_id"], *key)
        if in_effect:
            self._state[key] = StateEvent(pdu.event_id, *key, event["sender"], event["content"])
