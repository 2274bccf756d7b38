"""A room that another implementation hosted, replayed as a participant: the rules allow each of its events."""

import json
from pathlib import Path

from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent, select_auth_events
from linmatrix.protocol.auth_rules import check
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.state import CREATE, StateEvent, StateKey

VECTOR = Path(__file__).parent.parent / "vectors" / "room-from-a-peer.json"


def test_a_peers_room_passes_event_by_event() -> None:
    state: dict[StateKey, StateEvent] = {}
    held: dict[str, CitedEvent] = {}
    previous_type = None
    for entry in json.loads(VECTOR.read_text())["events"]:
        event, event_id = AuthorizedEvent.of(entry["pdu"]), entry["event_id"]
        create = state.get(CREATE)
        version = ROOM_VERSIONS[(event if create is None else create).content["room_version"]]
        check(
            event,
            state=state,
            room_version=version,
            previous_is_create=previous_type == "m.room.create",
            auth_events=held,
        )
        selected = select_auth_events(
            type=event.type, state_key=event.state_key, sender=event.sender, content=event.content, state=state
        )
        assert selected == event.auth_events
        held[event_id] = CitedEvent(event.room_id, event.type, event.state_key)
        if event.state_key is not None:
            entry_of_state = StateEvent(event_id, event.type, event.state_key, event.sender, event.content)
            state[(event.type, event.state_key)] = entry_of_state
        previous_type = event.type
    assert len(held) > 5
