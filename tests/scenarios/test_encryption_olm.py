"""A conversation encrypted with Olm and Megolm among users of three servers: carried by the same servers, in the shapes
of Matrix, and untouched by what they check of MLS. The clients are vodozemac's.
"""

from contextlib import ExitStack
from importlib import import_module
from itertools import count

import pytest

from tests.clients.home import Home
from tests.scenarios.waiting import eventually

pytest.importorskip("vodozemac", reason="there is no wheel of vodozemac for this machine")
olm = import_module("tests.clients.olm")
olm_user = import_module("tests.clients.olm_user")

ONE_TIME_KEYS = 5

NAMES = count(1)
"""Users are new in each test: the servers remember their devices' keys."""


@pytest.fixture(scope="module")
def homes(hub, pair, tmp_path_factory):
    """The hub, and two servers that take part in its rooms."""
    folder = tmp_path_factory.mktemp("homes")
    with ExitStack() as stack:
        yield [stack.enter_context(Home(server, folder / f"{server.hostname}.log")) for server in (hub, *pair)]


def new_user(home, user_id, device_id="FIRST"):
    """A client that has published its device and keys."""
    user = olm_user.OlmUser(home, olm.Client(user_id, device_id))
    user.publish(one_time_keys=ONE_TIME_KEYS)
    return user


@pytest.fixture
def users(homes):
    """Alice of the hub, Bob and Carol of the others, in one room of Alice's."""
    number = next(NAMES)
    alice, bob, carol = (new_user(home, home.user(f"olm{number}")) for home in homes)
    room_id = homes[0].create_room(alice.device.user_id, encryption=olm.MEGOLM)
    alice.enter(room_id)
    for user in (bob, carol):
        user.enter(room_id, via=homes[0].server_name)
    return alice, bob, carol


def hears(user, text):
    """Wait until a client has read a message."""

    def synced():
        user.sync()
        return text in user.read

    eventually(synced, f"{user.device} has read {text!r}")


def test_three_servers_users_read_each_other_and_not_what_is_said_with_a_key_that_they_were_not_given(users):
    alice, bob, carol = users
    alice.share_room_key(bob.device.user_id, carol.device.user_id)
    alice.say("hello")
    for user in (bob, carol):
        hears(user, "hello")
    bob.share_room_key(alice.device.user_id, carol.device.user_id)
    bob.say("and hello to you")
    for user in (alice, carol):
        hears(user, "and hello to you")

    alice.share_room_key(bob.device.user_id)
    secret = alice.say("not for Carol")
    hears(bob, "not for Carol")
    eventually(lambda: carol.has_event(secret), "Carol's server has the message")
    carol.sync()
    assert carol.read == ["hello", "and hello to you"]


def test_a_one_time_key_goes_to_one_of_those_who_claim_it(users):
    alice, bob, carol = users
    claimed = [user.claim(carol.device)[carol.device]["key"] for user in (alice, bob) for _ in range(2)]
    assert len(set(claimed)) == len(claimed)


def test_a_new_device_is_known_to_the_servers_that_share_a_room_and_gets_the_next_key(users):
    alice, bob, carol = users
    assert list(alice.devices_of(bob.device.user_id)) == [bob.device]
    second = new_user(bob.home, bob.device.user_id, "SECOND")
    second.enter(bob.room_id)
    eventually(
        lambda: set(alice.devices_of(bob.device.user_id)) == {bob.device, second.device}, "Alice's server was told"
    )
    alice.share_room_key(bob.device.user_id, carol.device.user_id)
    alice.say("to all three")
    for user in (bob, second, carol):
        hears(user, "to all three")
