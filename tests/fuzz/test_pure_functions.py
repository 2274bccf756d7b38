"""The protocol's functions on anything a peer may send: a value comes back, or a `ProtocolError`, and nothing else."""

from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linmatrix.protocol import canonical_json, identifiers
from linmatrix.protocol.errors import BadSignature, Malformed, NotJson, ProtocolError
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.hashes import event_id, event_id_elsewhere
from linmatrix.protocol.receipt import receive_lpdu, receive_pdu
from linmatrix.protocol.redaction import KEPT_FIELDS, redact
from linmatrix.protocol.request_auth import authorization, covered_forms, parse_authorization
from linmatrix.protocol.signing import SigningKey, VerifyKey
from tests.fuzz.signing import completed, signed
from tests.support.strategies import HEADER_TEXTS, IDS, JSON, ODD, TEXTS, bodies, events, mutated, x_matrix

HUB, SERVER = "hub.localhost", "part.localhost"
KEY = SigningKey.from_seed("ed25519:1", bytes(32))
KEYS = {(name, KEY.key_id): [VerifyKey.from_bytes(KEY.public_key, valid_until_ts=2**53)] for name in (HUB, SERVER)}
ROOM, USER = f"!room:{HUB}", f"@user:{SERVER}"
PARTS = {"origin": SERVER, "destination": HUB, "key": KEY.key_id, "sig": "A" * 86}

# The same examples in every run, and as many as the time of `make test` allows; `make fuzz` tries others.
many = settings(
    max_examples=500, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


FIELDS = events(rooms=[ROOM], users=[USER])
LPDUS = FIELDS.map(lambda fields: signed(fields, hub=HUB, key=KEY))
PDUS = LPDUS.map(lambda event: completed(event, hub=HUB, key=KEY, auth_events=["$a"], prev_event="$b"))
SENT = LPDUS | PDUS | LPDUS.flatmap(mutated) | PDUS.flatmap(mutated) | ODD


@many
@given(SENT.flatmap(bodies))
def test_a_body_is_read_or_refused_and_what_was_read_has_one_writing(body):
    try:
        value = canonical_json.loads_object(body)
    except (NotJson, Malformed):
        return
    text = canonical_json.dumps(value)
    assert canonical_json.dumps(canonical_json.loads(text)) == text


@many
@given(st.data())
def test_an_event_that_was_read_is_taken_or_refused(data):
    try:
        event = canonical_json.loads(data.draw(SENT.flatmap(bodies)))
        checked = check_schema(event)
    except ProtocolError:
        return
    assert set(redact(checked)) <= KEPT_FIELDS
    assert redact(redact(checked)) == redact(checked)
    assert identifiers.is_event_id(event_id(checked))
    assert identifiers.is_event_id(event_id_elsewhere(checked))
    with suppress(ProtocolError):
        assert receive_lpdu(checked, keys=KEYS).event.get("hub_server")
    with suppress(ProtocolError):
        assert canonical_json.loads(receive_pdu(checked, hub=HUB, keys=KEYS).encoded)


@many
@given(IDS | TEXTS | JSON)
def test_anything_is_an_identifier_or_is_not(value):
    answers = [
        check(value)
        for check in (
            identifiers.is_server_name,
            identifiers.is_user_id,
            identifiers.is_room_id,
            identifiers.is_event_id,
            identifiers.is_key_id,
            identifiers.is_room_version,
        )
    ]
    assert all(answer in (True, False) for answer in answers)
    # What has the form of one kind of id has that of no other that begins with a sigil.
    assert sum(answers[1:4]) <= 1


@many
@given(x_matrix(PARTS) | HEADER_TEXTS)
def test_a_header_is_parsed_or_refused(header):
    try:
        credentials = parse_authorization(header)
    except BadSignature:
        return
    for item in credentials:
        assert identifiers.is_server_name(item.origin)
        assert identifiers.is_key_id(item.key_id)
        assert len(item.signature) == 64
        assert covered_forms(item, method="GET", uri="/", content=None)


@many
@given(
    bodies({"a": 1}) | JSON.map(lambda value: {"a": value}).flatmap(bodies), st.text(alphabet="/%aZ:?&=~", max_size=20)
)
def test_what_was_read_can_be_signed_and_verified(body, uri):
    try:
        content = canonical_json.loads_object(body)
    except ProtocolError:
        return
    header = authorization(method="PUT", uri=uri, origin=SERVER, destination=HUB, content=content, key=KEY)
    (credentials,) = parse_authorization(header)
    (covered,) = covered_forms(credentials, method="PUT", uri=uri, content=content)
    assert KEYS[SERVER, KEY.key_id][0].verifies(covered, credentials.signature)
