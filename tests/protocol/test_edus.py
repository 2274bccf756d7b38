"""EDUs in the shapes that peers send, twins that differ in one thing; and ours, byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linmatrix.protocol import canonical_json
from linmatrix.protocol.edus import (
    MAX_LISTED,
    MAX_MESSAGE_BYTES,
    MAX_TARGETS,
    DeviceListUpdate,
    Spoofed,
    ToDevice,
    Unknown,
    device_list,
    read_edu,
    to_device,
)
from linmatrix.protocol.errors import Malformed

ORIGIN = "example.org"
ALICE, BOB, EVE = "@alice:example.org", "@bob:hub.example.org", "@eve:other.example.org"
MESSAGE = {"ciphertext": "é😀"}
TEXT = canonical_json.dumps(MESSAGE).decode()
DEVICE = {"user_id": ALICE, "device_id": "ABCD"}
DIRECT = {"target": BOB, "target_device": "WXYZ", "message_type": "m.room.encrypted", "message": MESSAGE}
MATRIX_DIRECT = {"sender": ALICE, "type": "m.room.encrypted", "message_id": "1", "messages": {BOB: {"WXYZ": MESSAGE}}}
MATRIX_CHANGE = {"user_id": ALICE, "device_id": "ABCD", "stream_id": 5, "prev_id": [4]}


def read(value):
    return read_edu(value, origin=ORIGIN)


def direct(sender=ALICE, **changes):
    return {"type": "m.direct_to_device", "sender": sender, "content": {**DIRECT, **changes}}


def matrix(sender=ALICE, **changes):
    return {"edu_type": "m.direct_to_device", "content": {**MATRIX_DIRECT, "sender": sender, **changes}}


def listed(sender=ALICE, **changes):
    return {"type": "m.device_list_update", "sender": sender, "content": {"changed": [], "removed": [], **changes}}


def change(user_id=ALICE, **changes):
    return {"edu_type": "m.device_list_update", "content": {**MATRIX_CHANGE, "user_id": user_id, **changes}}


@pytest.mark.parametrize(
    "edu",
    [
        direct(),
        {"edu_type": "m.direct_to_device", "sender": ALICE, "content": DIRECT},
        {"type": "m.direct_to_device", "edu_type": "m.direct_to_device", "sender": ALICE, "content": DIRECT},
        {"type": "m.direct_to_device", "sender_id": ALICE, "content": DIRECT},
        {**direct(), "sender_id": ALICE},
    ],
)
def test_a_message_in_the_drafts_shape_is_read_whatever_names_its_type_and_sender(edu):
    assert read(edu) == [ToDevice(ALICE, BOB, "WXYZ", "m.room.encrypted", TEXT)]


def test_a_message_in_matrixs_shape_is_read_for_every_device_that_it_names():
    edu = matrix(messages={BOB: {"ONE": MESSAGE, "*": {}}, "@carol:hub.example.org": {"TWO": {}}})
    assert read(edu) == [
        ToDevice(ALICE, BOB, "ONE", "m.room.encrypted", TEXT, "1"),
        ToDevice(ALICE, BOB, "*", "m.room.encrypted", "{}", "1"),
        ToDevice(ALICE, "@carol:hub.example.org", "TWO", "m.room.encrypted", "{}", "1"),
    ]


def test_what_is_no_device_is_left_out_of_matrixs_map_alone():
    large = {"x": "x" * MAX_MESSAGE_BYTES}
    edu = matrix(messages={"bob": {"A": {}}, BOB: {"": {}, "a b": {}, "BAD": 5, "BIG": large, "WXYZ": {}}, EVE: []})
    assert [(message.user_id, message.device_id) for message in read(edu)] == [(BOB, "WXYZ")]


@pytest.mark.parametrize("edu", [direct(EVE), matrix(EVE), listed(EVE), change(EVE), {**listed(), "sender_id": EVE}])
def test_nobody_speaks_for_users_of_another_server(edu):
    with pytest.raises(Spoofed):
        read(edu)


@pytest.mark.parametrize(
    "edu",
    [
        {**direct(), "sender_id": "@other:example.org"},
        {**matrix(), "sender": "@other:example.org"},
        {**change(), "sender": "@other:example.org"},
    ],
)
def test_two_senders_must_be_one(edu):
    with pytest.raises(Spoofed, match="two senders"):
        read(edu)


def test_two_types_must_be_one():
    with pytest.raises(Malformed, match="twice, and differently"):
        read({**direct(), "edu_type": "m.typing"})


@pytest.mark.parametrize(
    "edu",
    [
        None,
        [],
        "m.direct_to_device",
        {},
        {"type": 5, "content": {}},
        {"type": "m.direct_to_device", "sender": ALICE},
        {"type": "m.direct_to_device", "sender": ALICE, "content": []},
        {"type": "m.direct_to_device", "content": DIRECT},
        direct(5),
        direct("@Alice:example.org"),
        direct(target="bob"),
        direct(target_device="*"),
        direct(target_device=""),
        direct(target_device=None),
        direct(message_type=""),
        direct(message_type="x" * 256),
        direct(message_type="a\0b"),
        direct(message=[]),
        direct(message=None),
        matrix(type=None),
        matrix(message_id=5),
        matrix(message_id="x" * 256),
        matrix(messages=[]),
        listed(changed={}),
        listed(removed="ABCD"),
        change(device_id="a b"),
        change(device_id=None),
    ],
)
def test_what_is_none_of_the_shapes_is_refused(edu):
    with pytest.raises(Malformed):
        read(edu)


def test_a_message_of_the_largest_size_is_read_and_one_byte_more_is_not():
    room = MAX_MESSAGE_BYTES - len('{"x":""}')
    (message,) = read(direct(message={"x": "x" * room}))
    assert len(message.json) == MAX_MESSAGE_BYTES
    with pytest.raises(Malformed, match="65537 bytes"):
        read(direct(message={"x": "x" * (room + 1)}))


def test_one_edu_addresses_so_many_devices():
    devices = {f"D{number}": {} for number in range(MAX_TARGETS)}
    assert len(read(matrix(messages={BOB: devices}))) == MAX_TARGETS
    with pytest.raises(Malformed, match="more than 10000 devices"):
        read(matrix(messages={BOB: {**devices, "ONE": {}}}))


def test_an_update_names_so_many_devices():
    assert len(read(listed(removed=["ABCD"] * MAX_LISTED)).removed) == MAX_LISTED
    with pytest.raises(Malformed, match="more than 1000 devices"):
        read(listed(changed=[{}], removed=["ABCD"] * MAX_LISTED))


@pytest.mark.parametrize(
    "edu",
    [
        listed(changed=[DEVICE], removed=["GONE", 5, "not one"]),
        {
            "type": "m.device_list_update",
            "sender_id": ALICE,
            "content": {"changed": [DEVICE], "removed": ["GONE"]},
        },
        {
            "edu_type": "m.device_list_update",
            "content": {"changed": [DEVICE], "removed": ["GONE"], "sender_id": ALICE},
        },
    ],
)
def test_a_device_list_in_the_drafts_shape_is_read(edu):
    assert read(edu) == DeviceListUpdate(ALICE, [DEVICE], ["GONE"])


def test_a_change_in_matrixs_shape_is_one_device():
    assert read(change(keys=DEVICE)) == DeviceListUpdate(ALICE, [DEVICE], [])
    assert read(change(deleted=True, keys=DEVICE)) == DeviceListUpdate(ALICE, [], ["ABCD"])
    assert read(change(deleted=False)) == DeviceListUpdate(ALICE, [DEVICE], []), "without keys it is to be asked for"


@pytest.mark.parametrize("type_", ["m.typing", "m.receipt", "m.signing_key_update", "x"])
def test_other_types_are_of_no_use_whoever_sent_them(type_):
    assert read({"edu_type": type_, "content": 5}) == Unknown(type_)


def test_our_message_is_canonical_and_reads_as_it_was():
    message = ToDevice(ALICE, BOB, "WXYZ", "m.room.encrypted", TEXT)
    encoded = to_device(message)
    assert canonical_json.dumps(canonical_json.loads(encoded)) == encoded
    assert canonical_json.loads(encoded) == direct()
    assert read(canonical_json.loads(encoded)) == [message]


def test_our_device_list_is_canonical_and_names_its_sender_twice():
    text = canonical_json.dumps(DEVICE).decode()
    for changed, removed in (([text, text], ["GONE"]), ([], []), ([], ["A", "B"])):
        encoded = device_list(ALICE, changed=changed, removed=removed)
        assert canonical_json.dumps(canonical_json.loads(encoded)) == encoded
        assert canonical_json.loads(encoded) == {
            "type": "m.device_list_update",
            "sender": ALICE,
            "sender_id": ALICE,
            "content": {"changed": [DEVICE] * len(changed), "removed": removed},
        }
        assert read(canonical_json.loads(encoded)) == DeviceListUpdate(ALICE, [DEVICE] * len(changed), removed)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.sampled_from([ALICE, BOB, EVE, "*", "WXYZ", "", "m.typing"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*MATRIX_DIRECT, BOB, "*"]), inner),
    max_leaves=6,
)


@given(
    base=st.sampled_from([direct(), matrix(), listed(changed=[DEVICE]), change(keys=DEVICE)]),
    member=st.sampled_from(["type", "edu_type", "sender", "sender_id", "content"]),
    inner=st.sampled_from([*DIRECT, *MATRIX_DIRECT, *MATRIX_CHANGE, "changed", "removed", "sender_id"]),
    value=_JSON,
    within=st.booleans(),
)
def test_whatever_stands_in_an_edu_it_is_read_or_refused(base, member, inner, value, within):
    edu = {**base, "content": {**base["content"], inner: value}} if within else {**base, member: value}
    try:
        found = read(edu)
    except Malformed:
        return
    if isinstance(found, Unknown):
        return
    senders = [found.user_id] if isinstance(found, DeviceListUpdate) else [each.sender for each in found]
    assert set(senders) <= {ALICE}
