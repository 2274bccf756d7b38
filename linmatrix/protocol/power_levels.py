"""Power levels: what a user has and what an action or an event needs.

Draft sections "m.room.power_levels" and "Calculating Power Levels"; decision 51. Rule 9 keeps malformed
levels out of a room, but the state may come from a hub that does not apply it: whatever is not an
integer counts as absent here, so reading never fails and never grants more than the default.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeGuard

from linmatrix.protocol.canonical_json import MAX_SAFE_INTEGER
from linmatrix.protocol.state import CREATE, POWER_LEVELS, State

Action = Literal["ban", "kick", "redact", "invite"]

ACTION_DEFAULTS: Final[Mapping[Action, int]] = {"ban": 50, "kick": 50, "redact": 50, "invite": 0}
"""The level an action needs when the power levels do not say."""

CREATOR_LEVEL: Final = 100
"""What the room's creator has while the room has no power levels event."""

USERS_DEFAULT: Final = 0
EVENTS_DEFAULT: Final = 0
STATE_DEFAULT: Final = 50

_NOTHING: Final[Mapping[str, Any]] = {}


def is_level(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer as power levels require (decision 52).

    `isinstance(True, int)` holds in Python, hence the exact type. Beyond 2^53 - 1 JSON parsers
    disagree on which integer was sent (decision 33).
    """
    return type(value) is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def user_level(state: State, user_id: str) -> int:
    """The user's power level."""
    event = state.get(POWER_LEVELS)
    if event is None:
        create = state.get(CREATE)
        return CREATOR_LEVEL if create is not None and create.sender == user_id else USERS_DEFAULT
    level = _entry(event.content.get("users"), user_id)
    return _field(event.content, "users_default", USERS_DEFAULT) if level is None else level


def action_level(state: State, action: Action) -> int:
    """The power level needed to ban, kick, invite, or redact what others sent."""
    return _field(_content(state), action, ACTION_DEFAULTS[action])


def event_level(state: State, type: str, *, is_state: bool) -> int:
    """The power level needed to send an event of this type; `is_state`: the event has a state key."""
    content = _content(state)
    level = _entry(content.get("events"), type)
    if level is not None:
        return level
    if is_state:
        return _field(content, "state_default", STATE_DEFAULT)
    return _field(content, "events_default", EVENTS_DEFAULT)


def _content(state: State) -> Mapping[str, Any]:
    event = state.get(POWER_LEVELS)
    return _NOTHING if event is None else event.content


def _field(content: Mapping[str, Any], name: str, default: int) -> int:
    level = content.get(name)
    return level if is_level(level) else default


def _entry(levels: object, name: str) -> int | None:
    """One entry of `users` or `events`, or None where there is no usable one."""
    if not isinstance(levels, dict):
        return None
    level = levels.get(name)
    return level if is_level(level) else None
