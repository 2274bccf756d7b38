"""Device objects: what holds, and each thing that does not, as a twin that differs in it alone."""

import datetime

import pytest

from linmatrix.protocol import canonical_json
from linmatrix.protocol.devices import (
    MAX_ALGORITHMS,
    MAX_DEVICE_BYTES,
    MLS_ALGORITHM,
    MLS_CREDENTIAL,
    check_device,
)
from linmatrix.protocol.encoding import decode_either_base64, encode_base64
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.mls.credential import Credential, read_credential
from tests.support.devices import DeviceMaker

ALICE, MALLORY = "@alice:example.org", "@mallory:example.org"
BOTH = DeviceMaker(ALICE)
MLS, OLM = f"{MLS_CREDENTIAL}:DEVICE", "ed25519:DEVICE"


def check(value, user_id=ALICE, device_id="DEVICE"):
    return check_device(value, user_id=user_id, device_id=device_id)


@pytest.mark.parametrize(("mls", "olm"), [(True, True), (True, False), (False, True)])
def test_a_device_that_speaks_mls_or_olm_or_both_holds(mls, olm):
    maker = DeviceMaker(ALICE, mls=mls, olm=olm)
    checked = check(maker.object())
    assert checked.json == canonical_json.dumps(maker.object()).decode()
    assert checked.credential == (maker.credential if mls else None)
    assert checked.ed25519_key == (bytes(maker.ed25519.verify_key) if olm else None)


def test_what_is_not_signed_is_left_out_and_what_is_signed_besides_stays():
    told = BOTH.object(name="phone")
    assert check({**told, "unsigned": {"device_display_name": "x"}}) == check(told)
    assert canonical_json.loads(check(told).json.encode())["name"] == "phone"


def without(name):
    value = BOTH.unsigned_object()
    del value[name]
    return BOTH.sign(value)


def with_keys(**changes):
    """The keys with some replaced, by algorithm, or taken away; signed."""
    keys = BOTH.unsigned_object()["keys"]
    for name, value in changes.items():
        key_id = f"{name}:DEVICE"
        keys.pop(key_id, None)
        if value is not None:
            keys[key_id] = value
    return BOTH.object(keys=keys)


def unsigned_by(key_id):
    value = BOTH.object()
    del value["signatures"][ALICE][key_id]
    return value


def with_signature(key_id, signature):
    value = BOTH.object()
    value["signatures"][ALICE][key_id] = signature
    return value


def credential_of(user_id=ALICE, device_id="DEVICE"):
    return encode_base64(Credential(user_id, device_id, BOTH.in_mls.public_key).to_bytes())


MALFORMED = {
    "a list": [],
    "nothing": None,
    "no user_id": without("user_id"),
    "no device_id": without("device_id"),
    "no algorithms": without("algorithms"),
    "no keys": without("keys"),
    "no signatures": BOTH.unsigned_object(),
    "another user": DeviceMaker(MALLORY).object(),
    "another device": DeviceMaker(ALICE, "OTHER").object(),
    "algorithms no list": BOTH.object(algorithms="m.olm"),
    "an algorithm that is a number": BOTH.object(algorithms=[1]),
    "an empty algorithm": BOTH.object(algorithms=[""]),
    "too many algorithms": BOTH.object(algorithms=[f"a{number}" for number in range(MAX_ALGORITHMS + 1)]),
    "keys no object": BOTH.object(keys=[]),
    "a key of another device": BOTH.object(keys={**BOTH.unsigned_object()["keys"], "x:OTHER": "aa"}),
    "a key without a device": BOTH.object(keys={**BOTH.unsigned_object()["keys"], "x": "aa"}),
    "a key of no algorithm": BOTH.object(keys={**BOTH.unsigned_object()["keys"], ":DEVICE": "aa"}),
    "a key that is an object": with_keys(x={"key": "aa"}),
    "an ed25519 key of 31 bytes": with_keys(ed25519=encode_base64(bytes(31))),
    "a curve25519 key that is no base64": with_keys(curve25519="*"),
    "mls without a credential": with_keys(**{MLS_CREDENTIAL: None}),
    "a credential of another user": with_keys(**{MLS_CREDENTIAL: credential_of(user_id=MALLORY)}),
    "a credential of another device": with_keys(**{MLS_CREDENTIAL: credential_of(device_id="OTHER")}),
    "a credential with a byte more": with_keys(**{MLS_CREDENTIAL: encode_base64(BOTH.credential.to_bytes() + b"\0")}),
    "a credential that is no base64": with_keys(**{MLS_CREDENTIAL: "*"}),
    "no key that signs": BOTH.object(
        keys={"curve25519:DEVICE": BOTH.unsigned_object()["keys"]["curve25519:DEVICE"]}, algorithms=[]
    ),
    "signatures no object": {**BOTH.object(), "signatures": []},
    "a signature that is a number": with_signature("x:y", 1),
    "too large": BOTH.object(more="x" * MAX_DEVICE_BYTES),
    "too deep": BOTH.object(more=canonical_json.loads(b"[" * 120 + b"]" * 120)),
    "a lone surrogate": {**BOTH.object(), "more": "\ud800"},
    "a time": {**BOTH.object(), "more": datetime.timedelta(1)},
    "bytes": {**BOTH.object(), "more": b"x"},
    "an integer beyond what all read alike": {**BOTH.object(), "more": 2**53},
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_device_object_is_refused(value):
    with pytest.raises(Malformed):
        check(value)


BADLY_SIGNED = {
    "not by the credential's key": unsigned_by(MLS),
    "not by the ed25519 key": unsigned_by(OLM),
    "no signature of the user's": {**BOTH.object(), "signatures": {MALLORY: BOTH.object()["signatures"][ALICE]}},
    "no base64": with_signature(OLM, "*"),
    "63 bytes": with_signature(OLM, encode_base64(bytes(63))),
    "another signature": with_signature(OLM, BOTH.object(more=1)["signatures"][ALICE][OLM]),
    "by the other key": with_signature(MLS, BOTH.object()["signatures"][ALICE][OLM]),
    "changed after it was signed": {**BOTH.object(), "algorithms": [MLS_ALGORITHM]},
    "a key of small order": with_keys(ed25519=encode_base64(b"\1" + bytes(31))),
}


@pytest.mark.parametrize("value", BADLY_SIGNED.values(), ids=BADLY_SIGNED)
def test_each_signing_key_must_have_signed(value):
    with pytest.raises(BadSignature):
        check(value)


def test_a_key_for_agreement_need_not_sign_nor_one_of_an_unknown_kind():
    assert check(with_keys(**{"org.example.key": "aa"}))


@pytest.mark.parametrize("device_id", ["", "A B", "A:B", "Ä", "A" * 256])
def test_a_device_id_has_its_grammar(device_id):
    with pytest.raises(Malformed):
        check(DeviceMaker(ALICE, device_id, mls=False).object(), device_id=device_id)


def test_a_device_of_the_largest_size_holds_and_one_byte_more_does_not():
    spare = MAX_DEVICE_BYTES - len(canonical_json.dumps(BOTH.object(more="")))
    assert check(BOTH.object(more="x" * spare))
    with pytest.raises(Malformed, match=f"has {MAX_DEVICE_BYTES + 1} bytes"):
        check(BOTH.object(more="x" * (spare + 1)))


@pytest.mark.parametrize("length", [63, 64, 200])
def test_a_credential_is_read_as_it_was_written(length):
    credential = Credential(f"@{'a' * (length - 13)}:example.org", "D" * length, bytes(range(32)))
    assert read_credential(credential.to_bytes()) == credential


def test_a_credential_of_another_form_is_refused():
    user, device, key = b"@a:b.c", b"D", bytes(32)
    good = bytes([6]) + user + bytes([1]) + device + bytes([32]) + key
    assert read_credential(good) == Credential("@a:b.c", "D", key)
    bad = [
        b"",
        good[:-1],
        good + b"\0",
        b"\x40\x06" + good[1:],  # a longer form of the same length
        b"\x80\x00\x00\x06" + good[1:],
        b"\xff" + good[1:],
        bytes([6]) + b"@a:b.\xff" + good[7:],
        bytes([5]) + b"a:b.c" + good[7:],
        bytes([6]) + user + bytes([1]) + b"-" + bytes([32]) + key,
        bytes([6]) + user + bytes([1]) + device + bytes([31]) + key[:31],
        *(good[:cut] for cut in range(len(good))),
    ]
    for data in bad:
        with pytest.raises(Malformed):
            read_credential(data)


@pytest.mark.parametrize("text", ["-_-_", "+/+/", "-_-_AA", "-_-_AA=="])
def test_either_alphabet_is_read_with_or_without_padding(text):
    assert decode_either_base64(text, at_most=4)[:3] == b"\xfb\xff\xbf"


@pytest.mark.parametrize("text", ["A", "AA\n", "A A=", "*", 1, None, "AAAAAAAA", "A" * 10_000])
def test_what_is_no_base64_or_too_long_is_refused(text):
    with pytest.raises(Malformed):
        decode_either_base64(text, at_most=4)
