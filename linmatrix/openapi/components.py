"""What requests and answers consist of, as JSON schemas: events, keys, errors.

Looser than the code that checks them, for these are for people and for tools that make requests: an event that fits
here may still be refused.
"""

from typing import Any

from linmatrix.protocol.canonical_json import MAX_SAFE_INTEGER
from linmatrix.protocol.events import MAX_REFERENCES, MAX_TYPE_LENGTH
from linmatrix.protocol.identifiers import MAX_EVENT_ID_LENGTH, MAX_ID_LENGTH

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """One of the schemas below."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **limits: int) -> Schema:
    """A list of `items`, with `maxItems` where there is such a limit."""
    return {"type": "array", "items": items, **limits}


def map_of(values: Schema) -> Schema:
    """An object with members of any name."""
    return {"type": "object", "additionalProperties": values}


def record(*required: str, **members: Schema) -> Schema:
    """An object with these members, of which some are required; others may stand beside them."""
    return (
        {"type": "object", "required": list(required), "properties": members}
        if required
        else {
            "type": "object",
            "properties": members,
        }
    )


TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 253}
USER_ID: Schema = {"type": "string", "pattern": r"^@[0-9a-z\-.=_/+]+:[^/]+$", "maxLength": MAX_ID_LENGTH}
ROOM_ID: Schema = {"type": "string", "pattern": r"^![0-9A-Za-z\-.~_]+:[^/]+$", "maxLength": MAX_ID_LENGTH}
EVENT_ID: Schema = {"type": "string", "pattern": r"^\$[A-Za-z0-9_-]+$", "maxLength": MAX_EVENT_ID_LENGTH}
DEVICE_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_]+$", "maxLength": MAX_ID_LENGTH}
TIME: Schema = {"type": "integer", "minimum": -MAX_SAFE_INTEGER, "maximum": MAX_SAFE_INTEGER}
OBJECT: Schema = {"type": "object"}
SIGNATURES = map_of(map_of(TEXT))

_EVENT: dict[str, Schema] = {
    "room_id": ROOM_ID,
    "type": {"type": "string", "maxLength": MAX_TYPE_LENGTH},
    "state_key": {"type": "string", "maxLength": MAX_TYPE_LENGTH},
    "sender": USER_ID,
    "origin_server_ts": TIME,
    "content": OBJECT,
    "signatures": SIGNATURES,
}
_REQUIRED = ("room_id", "type", "sender", "origin_server_ts", "content", "hashes", "signatures")
_REFERENCES = array(EVENT_ID, maxItems=MAX_REFERENCES)
_LPDU_HASH = record("lpdu", lpdu=record("sha256", sha256=TEXT))
_KEY = record("key", key=TEXT)

SCHEMAS: dict[str, Schema] = {
    "LPDU": {
        "description": "An event without its place in the line, as a participant sends it to the room's hub.",
        **record(*_REQUIRED, "hub_server", **_EVENT, hub_server=NAME, hashes=_LPDU_HASH),
    },
    "PDU": {
        "description": "A complete event of a room's line. `hub_server` and the LPDU's hash stand where its sender is "
        "on another server than the hub.",
        **record(
            *_REQUIRED,
            "auth_events",
            "prev_events",
            **_EVENT,
            hub_server=NAME,
            auth_events=_REFERENCES,
            prev_events=_REFERENCES,
            hashes=record("sha256", sha256=TEXT, lpdu=map_of(TEXT)),
        ),
    },
    "Template": {
        "description": "An LPDU to be completed: without a time of its own, hashes and signatures.",
        **record("room_id", "type", "state_key", "sender", "content", **_EVENT, hub_server=NAME),
    },
    "StrippedState": record(
        "type", "state_key", "sender", "content", type=TEXT, state_key=TEXT, sender=USER_ID, content=OBJECT
    ),
    "Device": {
        "description": "What a device says of itself, signed by each of its keys that can sign.",
        **record(
            "user_id",
            "device_id",
            "algorithms",
            "keys",
            "signatures",
            user_id=USER_ID,
            device_id=DEVICE_ID,
            algorithms=array(TEXT),
            keys=map_of(TEXT),
            signatures=SIGNATURES,
            unsigned=record(device_display_name=TEXT),
        ),
    },
    "ServerKeys": record(
        "server_name",
        "valid_until_ts",
        "verify_keys",
        "old_verify_keys",
        "signatures",
        server_name=NAME,
        valid_until_ts=TIME,
        verify_keys=map_of(_KEY),
        old_verify_keys=map_of(record("key", "expired_ts", key=TEXT, expired_ts=TIME)),
        signatures=SIGNATURES,
    ),
    "Error": record("errcode", "error", errcode={"type": "string", "pattern": "^M_[A-Z_]+$"}, error=TEXT),
}
SECURITY = {
    "X-Matrix": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": 'X-Matrix origin="…",destination="…",key="ed25519:…",sig="…": the signature of a server over '
        "the method, the target as it is sent, both names, and the content (draft, Request Authentication).",
    }
}
COMPONENTS = {"schemas": SCHEMAS, "securitySchemes": SECURITY}
