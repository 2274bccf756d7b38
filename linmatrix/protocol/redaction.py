"""Redaction: what of an event is kept for good (draft section "Event Redactions", decisions 29, 30).

Signatures and event ids cover the redacted event, so this list is part of every event's identity.
"""

from typing import Any

KEPT_FIELDS = frozenset(
    (
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "origin_server_ts",
        "hashes",
        "signatures",
        "prev_events",
        "auth_events",
        "hub_server",
    )
)

KEPT_CONTENT: dict[str, frozenset[str]] = {
    "m.room.member": frozenset(("membership",)),
    "m.room.join_rules": frozenset(("join_rule",)),
    "m.room.power_levels": frozenset(
        (
            "ban",
            "events",
            "events_default",
            "kick",
            "redact",
            "state_default",
            "users",
            "users_default",
            "invite",
        )
    ),
    "m.room.history_visibility": frozenset(("history_visibility",)),
}
"""Fields of `content` kept per event type; `m.room.create` keeps all, types not named keep none."""


def redact(event: dict[str, Any]) -> dict[str, Any]:
    """The event with only the fields that redaction keeps. The argument is not changed."""
    kept = event.copy()
    for field in event.keys() - KEPT_FIELDS:
        del kept[field]
    if event["type"] != "m.room.create":
        names = KEPT_CONTENT.get(event["type"])
        kept["content"] = {key: event["content"][key] for key in names & event["content"].keys()} if names else {}
    return kept
