"""A room's line checked once more, from the bytes of its events and the keys of their servers alone.

Nothing that the server concluded is taken for granted: hashes, signatures, ids, predecessors, auth events and the
authorization rules are gone through as a participant that gets the line from its beginning would.
"""

from collections.abc import Iterable, Mapping

from linmatrix.protocol import auth_rules, canonical_json
from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent, select_auth_events
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.events import Pdu, check_schema
from linmatrix.protocol.receipt import receive_pdu
from linmatrix.protocol.request_auth import parse_authorization, request_bytes
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.signing import KnownKeys, VerifyKey
from linmatrix.protocol.state import CREATE, StateEvent, StateKey


def published_keys(response: bytes) -> KnownKeys:
    """The keys in a server's answer to `GET /_matrix/key/v2/server`."""
    answer = canonical_json.loads_object(response)
    return {
        (answer["server_name"], key_id): [
            VerifyKey.from_bytes(decode_base64(item["key"], length=32), valid_until_ts=answer["valid_until_ts"])
        ]
        for key_id, item in answer["verify_keys"].items()
    }


def verify_line(texts: Iterable[str], *, hub: str, keys: KnownKeys) -> list[Pdu]:
    """Check a line given as its events' JSON texts in order; the events as their bytes define them."""
    state: dict[StateKey, StateEvent] = {}
    cited: dict[str, CitedEvent] = {}
    events: list[Pdu] = []
    for text in texts:
        pdu = receive_pdu(check_schema(canonical_json.loads(text.encode())), hub=hub, keys=keys)
        assert not pdu.redacted, f"a hash does not match: {text}"
        assert pdu.encoded.decode() == text, "the stored text is not canonical JSON"
        assert pdu.event["prev_events"] == [event.event_id for event in events[-1:]]
        _check_authorization(pdu, state, cited, follows_create=len(events) == 1)
        events.append(pdu)
        cited[pdu.event_id] = CitedEvent(pdu.event["room_id"], pdu.event["type"], pdu.event.get("state_key"))
        if "state_key" in pdu.event:
            key = (pdu.event["type"], pdu.event["state_key"])
            state[key] = StateEvent(pdu.event_id, *key, pdu.event["sender"], pdu.event["content"])
    return events


def _check_authorization(
    pdu: Pdu, state: Mapping[StateKey, StateEvent], cited: Mapping[str, CitedEvent], *, follows_create: bool
) -> None:
    event = AuthorizedEvent.of(pdu.event)
    selected = select_auth_events(
        type=event.type, state_key=event.state_key, sender=event.sender, content=event.content, state=state
    )
    assert list(event.auth_events) == selected
    create = pdu.event if event.type == CREATE[0] else {"content": state[CREATE].content}
    auth_rules.check(
        event,
        state=state,
        room_version=ROOM_VERSIONS[create["content"]["room_version"]],
        previous_is_create=follows_create,
        auth_events=cited,
    )


def state_after(events: Iterable[Pdu]) -> dict[StateKey, Pdu]:
    """The state that a line without refused events leads to."""
    return {(pdu.event["type"], pdu.event["state_key"]): pdu for pdu in events if "state_key" in pdu.event}


def verify_request(
    *, method: str, target: str, authorization: str, body: bytes, origin: str, destination: str, keys: KnownKeys
) -> None:
    """Check that `origin` signed a request, as it arrived, for `destination`."""
    (credentials,) = parse_authorization(authorization)
    assert (credentials.origin, credentials.destination) == (origin, destination)
    covered = request_bytes(method=method, uri=target, origin=origin, destination=destination, content=body)
    assert any(key.verifies(covered, credentials.signature) for key in keys[origin, credentials.key_id])
