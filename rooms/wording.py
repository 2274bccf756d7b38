"""Events in words, one line each: for timelines at a terminal and for lists in the console.

What other servers send is shown as text and nothing else: characters that could steer a terminal or turn the
direction of writing are replaced, and long texts are cut.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from rooms.models import Event

MAX_SHOWN = 200
"""Characters shown of any text."""

_SETTINGS: Mapping[str, tuple[str, str]] = {
    "m.room.name": ("name", 'named the room "{}"'),
    "m.room.topic": ("topic", 'changed the topic to "{}"'),
    "m.room.join_rules": ("join_rule", "set the join rule to {}"),
    "m.room.history_visibility": ("history_visibility", "set the history visibility to {}"),
}
"""State events that are told by one field of their content."""


def shown(text: object, *, limit: int = MAX_SHOWN) -> str:
    """Text from outside as one harmless line."""
    cut = str(text)[: limit + 1]
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def moment(origin_server_ts: int) -> datetime | None:
    """When an event's sender says that it was made; None for a time outside of the calendar."""
    try:
        return datetime.fromtimestamp(origin_server_ts / 1000, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return None


def happened(event: Event) -> str:
    """What an event's sender did, to be read after the sender's name."""
    content = orjson.loads(event.json)["content"]
    if not content and event.type != "m.room.create":
        return f"{shown(event.type, limit=60)} (its content was removed)"
    tell = _WORDS.get(event.type)
    if tell is not None:
        return tell(event, content)
    if event.type in _SETTINGS:
        field, words = _SETTINGS[event.type]
        return words.format(shown(content.get(field, "")))
    key = f" {shown(event.state_key, limit=60)}" if event.state_key else ""
    return f"{shown(event.type, limit=60)}{key} {shown(orjson.dumps(content).decode())}"


def _membership(event: Event, content: Mapping[str, Any]) -> str:
    user = shown(event.state_key)
    oneself = event.state_key == event.sender
    words = {
        "join": "joined",
        "invite": f"invited {user}",
        "leave": "left" if oneself else f"removed {user}",
        "ban": f"banned {user}",
        "knock": "asked to be let in",
    }
    membership = content.get("membership")
    text = words.get(membership, "") if isinstance(membership, str) else ""
    reason = f" ({shown(content['reason'])})" if content.get("reason") else ""
    return (text or f"set the membership of {user} to {shown(membership)}") + reason


def _message(event: Event, content: Mapping[str, Any]) -> str:
    return shown(content["body"]) if "body" in content else shown(orjson.dumps(content).decode())


_WORDS: Mapping[str, Callable[[Event, Mapping[str, Any]], str]] = {
    "m.room.create": lambda event, content: "created the room",
    "m.room.power_levels": lambda event, content: "changed the power levels",
    "m.room.member": _membership,
    "m.room.message": _message,
}
