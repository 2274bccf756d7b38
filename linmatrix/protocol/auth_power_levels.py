"""Rule 9: how a room's power levels may change.

Draft section "Auth Rules Algorithm", rule 9; decisions 49, 50 and 52. Nobody alters a level above their
own or sets one there. A level that is absent has no value to compare, also where a default would apply:
adding one is judged by the new value, removing one by the current.
"""

from collections.abc import Mapping
from typing import Any, Final

from linmatrix.protocol.auth_events import AuthorizedEvent
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.identifiers import is_user_id
from linmatrix.protocol.power_levels import is_level, user_level
from linmatrix.protocol.room_versions import RoomVersion
from linmatrix.protocol.state import POWER_LEVELS, State

FIELDS: Final = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
"""The fields of the content that are one level each, in the draft's order. `notifications` is not among
them and is neither checked nor protected (decision 50)."""


def check_power_levels(event: AuthorizedEvent, *, state: State, room_version: RoomVersion) -> None:
    """Rule 9: the new content is well typed and alters nothing beyond the sender's level, or `Rejected`.

    Without current power levels well typed is enough (rule 9.4): only the creator then has the level that
    state events need (rule 7).
    """
    new = event.content
    _check_field_types(new)
    _check_event_types(new)
    _check_user_types(new)
    current_event = state.get(POWER_LEVELS)
    if current_event is None:
        return
    current, level = current_event.content, user_level(state, event.sender)
    _check_fields(current, new, level)
    _check_events(_levels(current.get("events")), _levels(new.get("events")), level)
    margin = 1 if room_version.equal_power_protects_users else 0
    _check_users(_levels(current.get("users")), _levels(new.get("users")), level, event.sender, margin)


def _check_field_types(content: Mapping[str, Any]) -> None:
    """Rule 9.1: a field that is one level is an integer; null is present, not absent."""
    for field in FIELDS:
        if field in content and not is_level(content[field]):
            raise Rejected("9.1", f"{field} is not an integer")


def _check_event_types(content: Mapping[str, Any]) -> None:
    """Rule 9.2: `events` is an object of integers."""
    if "events" not in content:
        return
    events = content["events"]
    if not isinstance(events, dict):
        raise Rejected("9.2", "events is not an object")
    for type, level in events.items():
        if not is_level(level):
            raise Rejected("9.2", f"the level of events {type:.60} is not an integer")


def _check_user_types(content: Mapping[str, Any]) -> None:
    """Rule 9.3: `users` is an object of integers by user id."""
    if "users" not in content:
        return
    users = content["users"]
    if not isinstance(users, dict):
        raise Rejected("9.3", "users is not an object")
    for user_id, level in users.items():
        if not is_user_id(user_id):
            raise Rejected("9.3", f"users has a key that is not a user id: {user_id[:60]!r}")
        if not is_level(level):
            raise Rejected("9.3", f"the level of {user_id} is not an integer")


def _check_fields(current: Mapping[str, Any], new: Mapping[str, Any], level: int) -> None:
    """Rule 9.5: fields added, changed or removed are within the sender's level before and after."""
    current_fields = {field: current[field] for field in FIELDS if is_level(current.get(field))}
    new_fields = {field: new[field] for field in FIELDS if field in new}
    _check_altered("9.5.1", current_fields, new_fields, level)
    _check_altered("9.5.2", new_fields, current_fields, level)


def _check_events(current: Mapping[str, int], new: Mapping[str, int], level: int) -> None:
    """Rules 9.6 and 9.7: the same for entries of `events`."""
    _check_altered("9.6.1", current, new, level)
    _check_altered("9.7.1", new, current, level)


def _check_users(current: Mapping[str, int], new: Mapping[str, int], level: int, sender: str, margin: int) -> None:
    """Rules 9.8 and 9.9: the same for entries of `users`, but that all may lower or remove their own.

    `margin` is how far above an entry the sender must be to alter it: 0 in I.1, where equals may alter
    each other, 1 in the unstable room version, where they may not (decision 49).
    """
    others = {user_id: entry for user_id, entry in current.items() if user_id != sender}
    _check_altered("9.8.1", others, new, level, margin)
    _check_altered("9.9.1", new, current, level)


def _check_altered(
    rule: str, levels: Mapping[str, int], counterparts: Mapping[str, int], level: int, margin: int = 0
) -> None:
    """Refuse by `rule` when an entry of `levels` has another counterpart, or none, and is beyond `level`."""
    for name, entry in levels.items():
        if counterparts.get(name) != entry and entry + margin > level:
            raise Rejected(rule, f"altering {name:.80} at {entry} needs {entry + margin}, has {level}")


def _levels(entries: object) -> dict[str, int]:
    """The usable entries of `users` or `events`; stored power levels are not assured to be well typed."""
    if not isinstance(entries, dict):
        return {}
    return {name: entry for name, entry in entries.items() if is_level(entry)}
