"""A conversation encrypted with MLS among users of three servers, by real clients, whose servers never hold a secret.

The clients are ts-mls and mls-rs. They reach each other by what their servers offer and nothing else: devices and key
packages over federation, commits by way of the room's hub, welcomes over to-device messages.
"""

from contextlib import ExitStack
from importlib import import_module
from itertools import count

import pytest

from tests.clients.home import Home, Refused
from tests.clients.mls import ALGORITHM
from tests.clients.mls import Refused as Unreadable
from tests.clients.mls_user import MlsUser
from tests.scenarios.waiting import eventually

pytest.importorskip("mls_rs_uniffi", reason="there is no wheel of mls-rs for this machine")
mls_rs = import_module("tests.clients.mls_rs")

NAMES = count(1)


@pytest.fixture(scope="module")
def homes(hub, pair, tmp_path_factory):
    """The hub, and two servers that take part in its rooms."""
    folder = tmp_path_factory.mktemp("homes")
    with ExitStack() as stack:
        yield [stack.enter_context(Home(server, folder / f"{server.hostname}.log")) for server in (hub, *pair)]


@pytest.fixture
def new_user(node):
    """Makes a client of a server's, with ts-mls or else mls-rs, of a user who is new: servers remember keys."""

    def make(home, *, library=None, user_id="", device_id="FIRST"):
        user_id = user_id or home.user(f"mls{next(NAMES)}")
        return MlsUser(home, library(user_id, device_id) if library else node.new(user_id, device_id))

    return make


@pytest.fixture
def alice(homes, new_user):
    """A user of the hub, on ts-mls."""
    return new_user(homes[0])


@pytest.fixture
def bob(homes, new_user):
    """A user of the second server, on mls-rs."""
    return new_user(homes[1], library=mls_rs.Client)


@pytest.fixture
def carol(homes, new_user):
    """A user of the third server, on ts-mls."""
    return new_user(homes[2])


@pytest.fixture
def room(homes, alice, bob, carol):
    """A room of Alice's, whose group has all three in it."""
    for user in (alice, bob, carol):
        user.publish(key_packages=3)
    room_id = homes[0].create_room(alice.device.user_id, encryption=ALGORITHM)
    alice.create_group(room_id)
    for user in (bob, carol):
        user.enter(room_id, via=homes[0].server_name)
    alice.add(bob.device, carol.device)
    for user in (bob, carol):
        arrives(user, lambda user=user: user.in_group())
    return room_id


def arrives(user, look):
    """Wait until a client sees something of what its server has got for it."""

    def synced():
        user.sync()
        return look()

    eventually(synced, f"{user.device} has it")


def hears(user, text):
    """Wait until a client has read a message."""
    arrives(user, lambda: text in user.read)


def follow(*users, epoch):
    """Wait until clients are in an epoch."""
    for user in users:
        arrives(user, lambda user=user: user.client.epoch() == epoch)


def servers_follow(homes, room_id, *users):
    """Wait until every server keeps the group that these clients are in; none holds anything against the hub."""
    client = users[0].client
    assert all(user.client.epoch() == client.epoch() for user in users)
    for home in homes:
        expected = {"epoch": client.epoch(), "devices": len(client.members()), "findings": 0}

        def follows(home=home, expected=expected):
            return home.call("group", room_id=room_id).items() >= expected.items()

        eventually(follows, f"{home.server_name} keeps the group")


def test_three_servers_users_read_each_other_and_one_who_left_is_removed_and_reads_no_more(
    homes, new_user, alice, bob, carol, room
):
    alice.say("hello")
    for user in (bob, carol):
        hears(user, "hello")
    bob.say("from mls-rs")
    for user in (alice, carol):
        hears(user, "from mls-rs")

    # A second device of Bob's comes into the group by a commit of his first, through the hub.
    second = new_user(bob.home, library=mls_rs.Client, user_id=bob.device.user_id, device_id="SECOND")
    second.publish(key_packages=1)
    second.watch(room)
    bob.add(second.device)
    arrives(second, second.in_group)
    follow(alice, carol, epoch=bob.client.epoch())
    carol.say("to every device")
    for user in (alice, bob, second):
        hears(user, "to every device")
    servers_follow(homes, room, alice, bob, carol, second)

    carol.leave()
    eventually(lambda: not alice.home.call("is_joined", room_id=room, user_id=carol.device.user_id), "Carol has left")
    with pytest.raises(Refused, match=carol.device.user_id):
        alice.renew()
    alice.remove(carol.device)
    follow(bob, second, epoch=alice.client.epoch())
    sent = alice.say("without Carol")
    for user in (bob, second):
        hears(user, "without Carol")
    servers_follow(homes[:2], room, alice, bob, second)
    with pytest.raises(Unreadable):
        carol.client.decrypt(alice.ciphertext(sent))


def test_a_commit_that_adds_who_is_not_in_the_room_is_refused_by_the_hub_and_the_group_goes_on(
    homes, new_user, alice, bob, carol, room
):
    dave = new_user(homes[2])
    dave.publish(key_packages=2)
    epoch = bob.client.epoch()
    with pytest.raises(Refused, match=r"mls\.add"):
        bob.add(dave.device)
    assert bob.client.epoch() == epoch
    bob.say("still here")
    hears(alice, "still here")

    # The twin: only Dave's membership differs.
    dave.enter(room)
    bob.add(dave.device)
    arrives(dave, dave.in_group)
    follow(alice, carol, epoch=epoch + 1)
    dave.say("now I may")
    for user in (alice, bob, carol):
        hears(user, "now I may")


def test_who_has_joined_the_room_lets_himself_into_the_group_by_the_public_state_in_the_line(
    homes, new_user, alice, bob, carol, room
):
    erin = new_user(homes[1])
    erin.publish(key_packages=0)
    erin.watch(room)
    with pytest.raises(Refused):
        erin.join_external()
    erin.enter(room)
    erin.join_external()
    follow(alice, bob, carol, epoch=erin.client.epoch())
    erin.say("nobody let me in")
    for user in (alice, bob, carol):
        hears(user, "nobody let me in")
    servers_follow(homes, room, alice, bob, carol, erin)


def test_of_two_commits_for_one_epoch_the_hub_takes_one_and_the_other_is_told(alice, bob, carol, room):
    alice.renew()
    with pytest.raises(Refused, match="epoch"):
        carol.renew()
    follow(bob, carol, epoch=alice.client.epoch())
    carol.renew()
    follow(alice, bob, epoch=carol.client.epoch())
    bob.say("of one mind")
    hears(alice, "of one mind")


def test_a_hub_whose_processes_were_killed_goes_on_with_the_group(homes, hub, alice, bob, carol, room):
    bob.renew()
    hub.kill("web")
    hub.start_part("web")
    bob.renew()
    with pytest.raises(Refused, match="epoch"):
        carol.renew()
    follow(alice, carol, epoch=bob.client.epoch())
    carol.renew()
    follow(alice, bob, epoch=carol.client.epoch())
    servers_follow(homes, room, alice, bob, carol)
