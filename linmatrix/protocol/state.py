"""Room state as the authorization rules see it.

Draft section "State Events". State is keyed by (type, state_key); only what the rules read is kept:
the event's id, its sender and its content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

StateKey = tuple[str, str]

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")
HISTORY_VISIBILITY: StateKey = ("m.room.history_visibility", "")


def member(user_id: str) -> StateKey:
    """The state key of a user's membership."""
    return ("m.room.member", user_id)


@dataclass(frozen=True, slots=True)
class StateEvent:
    """One entry of a room's state. `content` is whatever the peer sent: nothing about it is assured."""

    event_id: str
    type: str
    state_key: str
    sender: str
    content: Mapping[str, Any]


State = Mapping[StateKey, StateEvent]


def membership(state: State, user_id: str) -> str:
    """The user's membership; without a member event that is `leave` (draft, "m.room.member")."""
    event = state.get(member(user_id))
    if event is None:
        return "leave"
    value = event.content.get("membership")
    return value if isinstance(value, str) else "leave"


def join_rule(state: State) -> str:
    """The room's join rule; `invite` when the event or its key is absent (decision 45).

    A value that is not a string is answered as the empty string, which no rule allows.
    """
    event = state.get(JOIN_RULES)
    if event is None or "join_rule" not in event.content:
        return "invite"
    value = event.content["join_rule"]
    return value if isinstance(value, str) else ""
