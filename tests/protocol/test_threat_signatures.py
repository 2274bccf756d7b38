"""Signatures and keys that other implementations of Ed25519 let pass (threat 27)."""

import pytest
from nacl.signing import SigningKey

from linmatrix.protocol.signing import VerifyKey

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group: adding it to the second half of a signature changes nothing in the equation that is checked."""

MESSAGE = b"message"
KEY = SigningKey(bytes(range(32)))

SMALL_ORDER = [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]
"""Points of order 4, 1 and 2: signatures by them verify over many messages."""


def verify_key(public_key: bytes) -> VerifyKey:
    return VerifyKey.from_bytes(public_key, valid_until_ts=0)


def test_of_two_signatures_that_differ_by_the_groups_order_one_verifies():
    signature = KEY.sign(MESSAGE).signature
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    key = verify_key(bytes(KEY.verify_key))
    assert key.verifies(MESSAGE, signature)
    assert not key.verifies(MESSAGE, signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize("public_key", SMALL_ORDER, ids=["order 4", "order 1", "order 2"])
def test_nothing_verifies_with_a_key_of_small_order(public_key):
    key = verify_key(public_key)
    assert not any(
        key.verifies(bytes([number]), point + bytes(32)) for number in range(64) for point in (public_key, *SMALL_ORDER)
    )
