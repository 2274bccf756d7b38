"""Each operation of the federation API by its view: what it takes, what it answers, and how it refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from linmatrix.openapi.components import (
    DEVICE_ID,
    EVENT_ID,
    NAME,
    OBJECT,
    ROOM_ID,
    TEXT,
    TIME,
    USER_ID,
    Schema,
    array,
    map_of,
    record,
    ref,
)


@dataclass(frozen=True, slots=True)
class Operation:
    """What the API document says of an endpoint beside its path and method.

    `query` are its parameters, the required ones marked by `*` after their names. `refusals` are statuses that it has
    besides those of every endpoint.
    """

    summary: str
    answer: Schema
    tag: str
    body: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    refusals: Sequence[int] = ()
    signed: bool = True


PATH_PARAMETERS: Mapping[str, Schema] = {
    "txn_id": {"type": "string", "minLength": 1, "maxLength": 255},
    "event_id": EVENT_ID,
    "room_id": ROOM_ID,
    "user_id": USER_ID,
    "device_id": DEVICE_ID,
    "server_name": NAME,
}

STATUSES: Mapping[int, str] = {
    400: "The request is malformed, or cannot be done here: M_NOT_JSON, M_BAD_JSON, M_INVALID_PARAM, M_WRONG_SERVER, "
    "M_BAD_STATE, M_INCOMPATIBLE_ROOM_VERSION.",
    401: "The request is not signed as it must be: M_FORBIDDEN.",
    403: "The rules of the room, or this server's, do not allow it: M_FORBIDDEN.",
    404: "There is no such thing, or it is not to be known of: M_NOT_FOUND; no such endpoint: M_UNRECOGNIZED.",
    405: "Another method than the endpoint's: M_UNRECOGNIZED.",
    408: "The body did not come in time: M_UNKNOWN.",
    413: "The body, or an event in it, is too large: M_TOO_LARGE.",
    415: "The body is compressed: M_UNKNOWN.",
    429: "Too many requests: M_LIMIT_EXCEEDED, with retry_after_ms.",
    502: "Another server that must be asked answers with an error.",
    503: "Not possible just now: the same request later may fare better.",
    504: "Another server that must be asked does not answer.",
}
ALWAYS = (404, 405, 413, 415)
SIGNED = (400, 401, 403, 429, 503)

_VERSIONS = array(TEXT)
_LIMIT: Schema = {"type": "integer", "minimum": 1}
_ROOMS, _EVENTS, _KEYS, _DEVICES = "Joining and leaving", "Events", "Keys and names", "Devices and their keys"
_TEMPLATE: Schema = {"allOf": [ref("Template"), record("event", "room_version", event=ref("Template"))]}

OPERATIONS: Mapping[str, Operation] = {
    "Send": Operation(
        "Send events: LPDUs to the hub of their room, PDUs to its participants",
        record("failed_pdus", failed_pdus=map_of(record("error", error=TEXT))),
        _EVENTS,
        body=record(
            "pdus", pdus=array({"anyOf": [ref("LPDU"), ref("PDU")]}, maxItems=50), edus=array(OBJECT, maxItems=100)
        ),
    ),
    "GetEvent": Operation("Get one event", ref("PDU"), _EVENTS),
    "Backfill": Operation(
        "Get an event and those before it",
        record("pdus", pdus=array(ref("PDU"))),
        _EVENTS,
        query={"v*": EVENT_ID, "limit*": _LIMIT},
    ),
    "State": Operation(
        "Get a room's state before an event",
        record("pdus", "auth_chain", pdus=array(ref("PDU")), auth_chain=array(ref("PDU"))),
        _EVENTS,
        query={"event_id*": EVENT_ID},
    ),
    "StateIds": Operation(
        "Get the ids of a room's state before an event",
        record("pdu_ids", "auth_chain_ids", pdu_ids=array(EVENT_ID), auth_chain_ids=array(EVENT_ID)),
        _EVENTS,
        query={"event_id*": EVENT_ID},
    ),
    "Invite": Operation(
        "Invite a user: ask the hub to (an LPDU), or as the hub ask the user's server (a PDU)",
        record("pdu", "event", pdu=ref("PDU"), event=ref("PDU")),
        _ROOMS,
        body=record(
            "event",
            event={"anyOf": [ref("LPDU"), ref("PDU")]},
            room_version=TEXT,
            invite_room_state=array(ref("StrippedState")),
        ),
        refusals=(502, 504),
    ),
    "MakeJoin": Operation("Get a template for a join", _TEMPLATE, _ROOMS, query={"ver": _VERSIONS}),
    "SendJoin": Operation(
        "Join",
        record("state", "auth_chain", "event", state=array(ref("PDU")), auth_chain=array(ref("PDU")), event=ref("PDU")),
        _ROOMS,
        body=ref("LPDU"),
    ),
    "MakeKnock": Operation("Get a template for a knock", _TEMPLATE, _ROOMS, query={"ver": _VERSIONS}),
    "SendKnock": Operation(
        "Knock", record("stripped_state", stripped_state=array(ref("StrippedState"))), _ROOMS, body=ref("LPDU")
    ),
    "MakeLeave": Operation(
        "Get a template for a leave",
        record("event", "room_version", event=ref("Template"), room_version=TEXT),
        _ROOMS,
    ),
    "SendLeave": Operation("Leave, or refuse an invite", OBJECT, _ROOMS, body=ref("LPDU")),
    "UserDevice": Operation("Get a user's device", ref("Device"), _DEVICES),
    "UserDevices": Operation(
        "Get all devices of a user (of Matrix, not of the draft)",
        record(
            "user_id",
            "stream_id",
            "devices",
            user_id=USER_ID,
            stream_id={"type": "integer", "minimum": 0},
            devices=array(
                record("device_id", "keys", device_id=DEVICE_ID, keys=ref("Device"), device_display_name=TEXT)
            ),
        ),
        _DEVICES,
    ),
    "UserKeysQuery": Operation(
        "Get devices of many users (of Matrix, not of the draft)",
        record("device_keys", device_keys=map_of(map_of(ref("Device")))),
        _DEVICES,
        body=record("device_keys", device_keys=map_of(array(TEXT))),
    ),
    "UserKeysClaim": Operation(
        "Claim one-time keys of devices, each of which is given once",
        record("one_time_keys", one_time_keys=map_of(map_of(map_of({"anyOf": [TEXT, OBJECT]})))),
        _DEVICES,
        body=record("one_time_keys", one_time_keys=map_of(map_of(TEXT))),
    ),
    "ServerKeysView": Operation("Get this server's keys", ref("ServerKeys"), _KEYS, signed=False),
    "QueryView": Operation(
        "Get a server's keys through this one",
        record("server_keys", server_keys=array(ref("ServerKeys"))),
        _KEYS,
        query={"minimum_valid_until_ts": TIME},
        refusals=(400,),
        signed=False,
    ),
    "BulkQueryView": Operation(
        "Get the keys of many servers through this one",
        record("server_keys", server_keys=array(ref("ServerKeys"))),
        _KEYS,
        body=record(
            "server_keys",
            server_keys=map_of(map_of(record(minimum_valid_until_ts=TIME))),
        ),
        refusals=(400,),
        signed=False,
    ),
    "WellKnownServerView": Operation(
        "Get the name that answers for this server's",
        record("m.server", **{"m.server": NAME}),
        _KEYS,
        signed=False,
    ),
}
