"""The authorization rules once more, as naively as they can be said: what tests hold the product's own against.

Written from the draft's sections "State Events", "Auth Events Selection", "Calculating Power Levels" and "Auth Rules
Algorithm" and from decisions 42 to 54, sentence by sentence. It shares nothing with `linmatrix.protocol`, looks up
every piece of state by going through the whole line from its end, and knows no speed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIELDS = ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"]
USER_ID = re.compile(r"@[0-9a-z\-.=_/+]+:[0-9A-Za-z\-.]+(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Entry:
    """An event in a line: its members, its id, and whether it takes effect there."""

    event: Mapping[str, Any]
    event_id: str
    rejected: bool = False


Line = Sequence[Entry]


def current(line: Line, type: str, state_key: str) -> Entry | None:
    """The most recent state event of a type and state key, in the order of the line."""
    for entry in reversed(line):
        if not entry.rejected and entry.event["type"] == type and entry.event.get("state_key") == state_key:
            return entry
    return None


def state(line: Line) -> dict[tuple[str, str], str]:
    """Ids of the current state's events."""
    found = {}
    for entry in line:
        if "state_key" in entry.event and not entry.rejected:
            found[entry.event["type"], entry.event["state_key"]] = entry.event_id
    return found


def selection(event: Mapping[str, Any], line: Line) -> list[str]:
    """The `auth_events` that an event must have after this line (draft, "Auth Events Selection")."""
    if event["type"] == "m.room.create":
        return []
    entries = [current(line, *key) for key in _selected_keys(event)]
    return [entry.event_id for entry in entries if entry is not None]


def auth_chain(ids: Sequence[str], line: Line) -> list[Entry]:
    """Auth events and theirs in turn, in the order of the line."""
    wanted = set(ids)
    for entry in reversed(line):
        if entry.event_id in wanted:
            wanted |= set(entry.event["auth_events"])
    return [entry for entry in line if entry.event_id in wanted]


def allows(event: Mapping[str, Any], line: Line, *, version: str) -> bool:
    """Whether the rules allow an LPDU or PDU after this line; signatures (rules 1 and 2) are not looked at."""
    if event["type"] == "m.room.create":
        return _create_allowed(event, line, version)
    create = current(line, "m.room.create", "")
    if create is None:
        return False
    if "auth_events" in event and not _citations_allowed(event, line):
        return False
    if create.event["content"].get("m.federate") is False and domain(event["sender"]) != domain(create.event["sender"]):
        return False
    if event["type"] == "m.room.member":
        return _membership_allowed(event, line, create)
    if membership(line, event["sender"]) != "join":
        return False
    if required(line, event) > level(line, event["sender"]):
        return False
    state_key = event.get("state_key")
    if state_key is not None and state_key.startswith("@") and state_key != event["sender"]:
        return False
    if event["type"] == "m.room.power_levels":
        return _power_levels_allowed(event, line, version)
    return True


def _create_allowed(event: Mapping[str, Any], line: Line, version: str) -> bool:
    """Rule 3, and the section "m.room.create"."""
    if line or event.get("prev_events") or event.get("auth_events"):
        return False
    if domain(event["room_id"]) != domain(event["sender"]):
        return False
    return event["content"].get("room_version") == version and event.get("state_key") == ""


def _selected_keys(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", event["sender"])]
    if event["type"] == "m.room.member" and "state_key" in event:
        if event["state_key"] != event["sender"]:
            keys.append(("m.room.member", event["state_key"]))
        if event["content"].get("membership") in ("join", "invite"):
            keys.append(("m.room.join_rules", ""))
    return keys


def _citations_allowed(event: Mapping[str, Any], line: Line) -> bool:
    """Rule 4, and decision 42: what is cited is known, and so of the room."""
    by_id = {entry.event_id: entry.event for entry in line}
    seen = []
    for event_id in event["auth_events"]:
        if event_id not in by_id:
            return False
        key = (by_id[event_id]["type"], by_id[event_id].get("state_key"))
        if key in seen or key not in _selected_keys(event):
            return False
        seen.append(key)
    return ("m.room.create", "") in seen


def _membership_allowed(event: Mapping[str, Any], line: Line, create: Entry) -> bool:  # noqa: PLR0912  one branch for a sentence of the draft
    """Rule 5."""
    sender, target = event["sender"], event.get("state_key")
    wanted = event["content"].get("membership")
    if target is None or not is_user_id(target):
        return False
    before = membership(line, target)
    if wanted == "join":
        first = line[-1].event_id == create.event_id
        if first and target == create.event["sender"] and sender == target:  # decision 44
            return True
        if sender != target or before == "ban":
            return False
        rule = join_rule(line)
        return rule == "public" or (rule in ("invite", "knock") and before in ("invite", "join"))
    if wanted == "invite":
        if membership(line, sender) != "join" or before in ("join", "ban"):
            return False
        return level(line, sender) >= action(line, "invite")
    if wanted == "leave":
        if sender == target:
            return before in ("knock", "join", "invite")
        if membership(line, sender) != "join":
            return False
        if before == "ban" and level(line, sender) < action(line, "ban"):
            return False
        return level(line, sender) >= action(line, "kick") and level(line, target) < level(line, sender)
    if wanted == "ban":
        if membership(line, sender) != "join":
            return False
        return level(line, sender) >= action(line, "ban") and level(line, target) < level(line, sender)
    if wanted == "knock":
        return join_rule(line) == "knock" and sender == target and before not in ("ban", "join")
    return False


def _power_levels_allowed(event: Mapping[str, Any], line: Line, version: str) -> bool:  # noqa: PLR0912  one branch for a sentence of the draft
    """Rule 9; decisions 49 and 52."""
    new = event["content"]
    if not all(is_integer(new[field]) for field in FIELDS if field in new):
        return False
    for part in ("events", "users"):
        if part in new and not (isinstance(new[part], dict) and all(map(is_integer, new[part].values()))):
            return False
    if not all(map(is_user_id, new.get("users", {}))):
        return False
    before = current(line, "m.room.power_levels", "")
    if before is None:
        return True
    old, own = before.event["content"], level(line, event["sender"])
    for _, old_level, new_level in _alterations(old, new, FIELDS):
        if (old_level is not None and old_level > own) or (new_level is not None and new_level > own):
            return False
    old_events, new_events = old.get("events", {}), new.get("events", {})
    for _, old_level, new_level in _alterations(old_events, new_events, [*old_events, *new_events]):
        if (old_level is not None and old_level > own) or (new_level is not None and new_level > own):
            return False
    old_users, new_users = old.get("users", {}), new.get("users", {})
    for user, old_level, new_level in _alterations(old_users, new_users, [*old_users, *new_users]):
        if user != event["sender"] and old_level is not None:
            if old_level > own:
                return False
            if old_level == own and version != "I.1":
                return False
        if new_level is not None and new_level > own:
            return False
    return True


def _alterations(
    old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]
) -> Iterator[tuple[str, int | None, int | None]]:
    for name in names:
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def membership(line: Line, user: str) -> Any:
    """A user's membership; without an event it is leave."""
    entry = current(line, "m.room.member", user)
    return "leave" if entry is None else entry.event["content"]["membership"]


def join_rule(line: Line) -> Any:
    """The join rule (decision 45)."""
    entry = current(line, "m.room.join_rules", "")
    return "invite" if entry is None else entry.event["content"].get("join_rule", "invite")


def level(line: Line, user: str) -> int:
    """A user's power level (decision 51)."""
    entry = current(line, "m.room.power_levels", "")
    if entry is None:
        create = current(line, "m.room.create", "")
        return 100 if create is not None and create.event["sender"] == user else 0
    content = entry.event["content"]
    if user in content.get("users", {}):
        return content["users"][user]
    return content.get("users_default", 0)


def action(line: Line, name: str) -> int:
    """The level that an action needs."""
    return _power_levels(line).get(name, 0 if name == "invite" else 50)


def required(line: Line, event: Mapping[str, Any]) -> int:
    """The level that sending an event needs."""
    content = _power_levels(line)
    if event["type"] in content.get("events", {}):
        return content["events"][event["type"]]
    if "state_key" in event:
        return content.get("state_default", 50)
    return content.get("events_default", 0)


def _power_levels(line: Line) -> Mapping[str, Any]:
    entry = current(line, "m.room.power_levels", "")
    return {} if entry is None else entry.event["content"]


def domain(identifier: str) -> str:
    """The server of a user or room id."""
    return identifier[identifier.index(":") + 1 :]


def is_user_id(value: object) -> bool:
    """Whether a value is a user id of the draft's grammar."""
    return isinstance(value, str) and len(value) <= 255 and USER_ID.fullmatch(value) is not None


def is_integer(value: object) -> bool:
    """Whether a value is an integer that JSON carries safely; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
