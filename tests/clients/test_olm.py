"""Clients of Olm and Megolm among themselves, with no server between them."""

from importlib import import_module

import pytest

pytest.importorskip("vodozemac", reason="there is no wheel of vodozemac for this machine")
olm = import_module("tests.clients.olm")

ROOM_ID = "!room:a.example"


@pytest.fixture
def alice():
    """A client."""
    return olm.Client("@alice:a.example", "A")


@pytest.fixture
def bob():
    """Another."""
    return olm.Client("@bob:b.example", "B")


def test_a_room_key_goes_by_a_session_that_a_claimed_key_begins_and_opens_the_rooms_messages(alice, bob):
    (key,) = bob.one_time_keys(1).values()
    alice.begin(bob.device_keys(), key)
    sealed = alice.seal(bob.device_keys(), "m.room_key", alice.room_key(ROOM_ID))
    bob.take_room_key(bob.unseal(sealed, sender=alice.device.user_id)["content"])
    content = {"body": "hello"}
    assert bob.decrypt(alice.encrypt(ROOM_ID, "m.room.message", content))["content"] == content


def test_a_key_or_a_device_that_is_not_signed_by_the_device_is_not_used(alice, bob):
    mallory = olm.Client("@bob:b.example", "B")
    (key,) = mallory.one_time_keys(1).values()
    with pytest.raises(ValueError, match="signature"):
        alice.begin(bob.device_keys(), key)
    with pytest.raises(ValueError, match="signature"):
        alice.begin({**bob.device_keys(), "algorithms": []}, key)
