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

KEPT_ELSEWHERE: dict[str, frozenset[str]] = {
    "m.room.join_rules": frozenset(("allow",)),
    "m.room.member": frozenset(("join_authorised_via_users_server",)),
    "m.room.redaction": frozenset(("redacts",)),
}
"""What redaction keeps beside the draft's list at servers that follow Matrix's; their events' ids cover it."""


def redact_as_elsewhere(event: dict[str, Any]) -> dict[str, Any]:
    """The event as those servers redact it. Only for knowing the ids that they give: here it counts for nothing."""
    kept = redact(event)
    for field in KEPT_ELSEWHERE.get(event["type"], frozenset()) & event["content"].keys():
        kept["content"][field] = event["content"][field]
    third_party = event["content"].get("third_party_invite")
    if event["type"] == "m.room.member" and isinstance(third_party, dict) and "signed" in third_party:
        kept["content"]["third_party_invite"] = {"signed": third_party["signed"]}
    return kept


def redact(event: dict[str, Any]) -> dict[str, Any]:
    """The event with only the fields that redaction keeps. The argument is not changed."""
    kept = event.copy()
    for field in event.keys() - KEPT_FIELDS:
        del kept[field]
    if event["type"] != "m.room.create":
        names = KEPT_CONTENT.get(event["type"])
        kept["content"] = {key: event["content"][key] for key in names & event["content"].keys()} if names else {}
    return kept
