"""One-time keys: which hold, and each thing that does not."""

import pytest

from linmatrix.protocol.devices import check_device
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.mls import InvalidMls
from linmatrix.protocol.mls.tls import opaque
from linmatrix.protocol.one_time_keys import (
    CLOCK_ERROR_SECONDS,
    KEY_PACKAGE,
    MAX_KEY_BYTES,
    SIGNED_CURVE25519,
    check_key,
    check_value,
    split_key_id,
)
from tests.support.devices import DeviceMaker
from tests.support.mls_writer import BASIC, NOT_AFTER, NOT_BEFORE

ALICE = "@alice:example.org"
MAKER = DeviceMaker(ALICE)
DEVICE = check_device(MAKER.object(), user_id=ALICE, device_id="DEVICE")
NOW = 1_800_000_000


def check(key, *, device=DEVICE, now=NOW, reusable=False):
    name, value = key
    return check_key(name, value, device=device, now=now, reusable=reusable)


def device(maker):
    return check_device(maker.object(), user_id=maker.user_id, device_id=maker.device_id)


def test_an_olm_key_holds():
    key = check(MAKER.olm_key("AAAAHg"))
    assert (key.algorithm, key.key_id, key.reusable, key.expires_at) == (SIGNED_CURVE25519, "AAAAHg", False, None)


def test_an_mls_key_package_holds():
    key = check(MAKER.key_package("abc"))
    assert (key.algorithm, key.key_id, key.reusable, key.expires_at) == (KEY_PACKAGE, "abc", False, NOT_AFTER)


def test_keys_that_may_be_used_more_than_once_say_so():
    assert check(MAKER.olm_key("1", fallback=True), reusable=True).reusable
    assert check(MAKER.key_package("1", last_resort=True), reusable=True).reusable
    for key in (MAKER.olm_key("1"), MAKER.key_package("1")):
        with pytest.raises(Malformed, match="does not say that it may be used more than once"):
            check(key, reusable=True)


def test_a_fallback_key_is_none_for_single_use_and_a_last_resort_package_is_known_wherever_it_stands():
    with pytest.raises(Malformed, match="is a fallback key"):
        check(MAKER.olm_key("1", fallback=True))
    assert check(MAKER.key_package("1", last_resort=True)).reusable


def test_a_key_is_the_same_however_it_is_written():
    name, bare = MAKER.key_package("1")
    package = decode_base64(bare, length=len(bare) * 3 // 4)
    wrapped = encode_base64(b"\0\1\0\5" + package)
    spellings = [bare, wrapped, bare.replace("+", "-").replace("/", "_"), bare + "=" * (-len(bare) % 4)]
    assert len({check((name, value)).identity for value in spellings}) == 1
    assert check(MAKER.olm_key("1")).identity == check(MAKER.olm_key("1", fallback=True), reusable=True).identity
    assert check(MAKER.olm_key("1")).identity != check(MAKER.olm_key("2")).identity


OLM_NAME, OLM_VALUE = MAKER.olm_key("1")
MLS_NAME, MLS_VALUE = MAKER.key_package("1")
OTHER = DeviceMaker(ALICE, "OTHER")
NEXT = DeviceMaker(ALICE, generation=1)
IN_ANOTHER_NAME = BASIC + opaque(MAKER.credential._replace(device_id="OTHER").to_bytes())

REFUSED = {
    "an unknown algorithm": (("curve25519:1", "abc"), Malformed),
    "no id": ((SIGNED_CURVE25519, OLM_VALUE), Malformed),
    "an id with a blank": ((f"{SIGNED_CURVE25519}:a b", OLM_VALUE), Malformed),
    "an id of 256 characters": ((f"{SIGNED_CURVE25519}:{'a' * 256}", OLM_VALUE), Malformed),
    "olm: a string": ((OLM_NAME, "abc"), Malformed),
    "olm: no key": (MAKER.olm_key("1", key=None), Malformed),
    "olm: a key of 31 bytes": (MAKER.olm_key("1", key=encode_base64(bytes(31))), Malformed),
    "olm: fallback a string": (MAKER.olm_key("1", **{"fallback": "yes"}), Malformed),
    "olm: no signature": ((OLM_NAME, {"key": OLM_VALUE["key"]}), BadSignature),
    "olm: another device's signature": ((OLM_NAME, OTHER.olm_key("1")[1]), BadSignature),
    "olm: an older key's signature": ((OLM_NAME, NEXT.olm_key("1")[1]), BadSignature),
    "olm: changed": ((OLM_NAME, {**OLM_VALUE, "key": encode_base64(bytes(32))}), BadSignature),
    "olm: too large": (MAKER.olm_key("1", more="x" * MAX_KEY_BYTES), Malformed),
    "mls: an object": ((MLS_NAME, {}), Malformed),
    "mls: no base64": ((MLS_NAME, "*"), Malformed),
    "mls: a byte more": ((MLS_NAME, MLS_VALUE + "AAAA"), InvalidMls),
    "mls: nothing": ((MLS_NAME, ""), InvalidMls),
    "mls: another device's": ((MLS_NAME, OTHER.key_package("1")[1]), Malformed),
    "mls: by the same key in another device's name": (MAKER.key_package("1", credential=IN_ANOTHER_NAME), Malformed),
    "mls: of an older credential": ((MLS_NAME, NEXT.key_package("1")[1]), Malformed),
    "mls: signed by another key": (MAKER.key_package("1", signed_by=NEXT.in_mls.key), InvalidMls),
    "mls: another suite": (MAKER.key_package("1", suite=b"\0\2"), InvalidMls),
}


@pytest.mark.parametrize(("key", "error"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_hold_is_refused(key, error):
    with pytest.raises(error):
        check(key)


@pytest.mark.parametrize(
    ("now", "holds"),
    [
        (NOT_AFTER - 1, True),
        (NOT_AFTER, False),
        (NOT_BEFORE - CLOCK_ERROR_SECONDS, True),
        (NOT_BEFORE - CLOCK_ERROR_SECONDS - 1, False),
    ],
)
def test_a_key_package_has_its_time(now, holds):
    if holds:
        assert check(MAKER.key_package("1"), now=now)
    else:
        with pytest.raises(Malformed):
            check(MAKER.key_package("1"), now=now)


def test_a_device_has_keys_of_what_it_speaks():
    olm_only, mls_only = DeviceMaker(ALICE, mls=False), DeviceMaker(ALICE, olm=False)
    with pytest.raises(Malformed, match="no credential"):
        check(MAKER.key_package("1"), device=device(olm_only))
    with pytest.raises(BadSignature, match="no ed25519 key"):
        check(MAKER.olm_key("1"), device=device(mls_only))


def test_a_value_is_of_an_algorithm_that_is_known():
    assert check_value(SIGNED_CURVE25519, "1", OLM_VALUE, device=DEVICE, now=NOW)
    with pytest.raises(Malformed, match=r"'org\.example\.key' are not known here"):
        check_value("org.example.key", "1", OLM_VALUE, device=DEVICE, now=NOW)


@pytest.mark.parametrize("key_id", ["AAAAHg", "AAAA+/", "a-b_c", "x" * 255])
def test_ids_are_numbers_in_base64_or_hashes(key_id):
    assert split_key_id(f"{SIGNED_CURVE25519}:{key_id}") == (SIGNED_CURVE25519, key_id)
