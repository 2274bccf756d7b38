"""Every way to enter and leave a room, on three complete servers: its hub, one that takes part, one that is outside.

Each story ends with the memberships that every server shows of the room, and with what the outside server knows of
invites and knocks. What the rules forbid is a table: who tries what, from where, and which rule says no.
"""

from functools import partial
from types import SimpleNamespace

import pytest

from linmatrix.stack.driver import Driver, Refused
from tests.scenarios.conftest import make_server
from tests.scenarios.waiting import eventually

HUGO, ALICE, BOB, CAROL = "hugo", "alice", "bob", "carol"


@pytest.fixture(scope="module")
def inside(authority, tmp_path_factory):
    """A server whose Alice takes part in the rooms."""
    with make_server("inside", tmp_path_factory.mktemp("inside"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def outside(authority, tmp_path_factory):
    """A server whose Bob wants in."""
    with make_server("outside", tmp_path_factory.mktemp("outside"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def at(hub, inside, outside):
    """Acts on each of them."""
    with Driver(hub) as first, Driver(inside) as second, Driver(outside) as third:
        yield SimpleNamespace(hub=first, inside=second, outside=third)


@pytest.fixture
def ids(hub, inside, outside):
    """The ids of their users."""
    return SimpleNamespace(
        hugo=f"@{HUGO}:{hub.server_name}",
        alice=f"@{ALICE}:{inside.server_name}",
        bob=f"@{BOB}:{outside.server_name}",
        carol=f"@{CAROL}:{outside.server_name}",
    )


@pytest.fixture
def make_room(at, ids):
    """Makes rooms of Hugo's that Alice is in, who may do there what he may; others need an invite, or may knock."""

    def make(join_rule="knock"):
        (room,) = at.hub.run("create_room", "--creator", HUGO, "--join-rule", join_rule, "--name", "Launch")
        at.hub.run("invite", room, HUGO, ids.alice)
        at.inside.run("join", room, ALICE)
        levels = f'{{"users": {{"{ids.hugo}": 100, "{ids.alice}": 50}}}}'
        at.hub.run("send", room, HUGO, "--type", "m.room.power_levels", "--state-key", "", "--content", levels)
        return room

    return make


WORDS = {"join": "joined", "invite": "invited", "knock": "asks to be let in", "ban": "banned", "leave": "left"}


def shows(driver, room, user, membership):
    """Whether a server's copy of the room says so; one that does not know the room says nothing."""
    try:
        return f"{user}\t{WORDS[membership]}" in driver.run("members", room, "--all")
    except Refused:
        return False


def become(room, user, membership, *drivers):
    """Wait until these servers show the membership."""
    for driver in drivers:
        eventually(partial(shows, driver, room, user, membership), f"{user} is {membership} on {driver.server_name}")


def waiting(driver, room):
    """The invites and knocks that a server knows of: (kind, user)."""
    lists = {kind: driver.run(kind) for kind in ("invites", "knocks")}
    return [(kind, row.split("\t")[2]) for kind, rows in lists.items() for row in rows if row.startswith(room)]


def ended(driver, room):
    """Wait until a server knows of no invite or knock for the room."""
    eventually(lambda: waiting(driver, room) == [], f"{driver.server_name} has heard that it ended")


INVITERS = ["hub", "inside"]


def by(who, at):
    """A driver and a user who may decide: Hugo at the hub, or Alice as participant."""
    return (at.hub, HUGO) if who == "hub" else (at.inside, ALICE)


@pytest.mark.parametrize("who", INVITERS)
def test_row21_row42_row43_row87_an_invite_is_accepted_and_the_room_left_again(who, at, ids, make_room):
    room = make_room("invite")
    driver, user = by(who, at)
    driver.run("invite", room, user, ids.bob)
    become(room, ids.bob, "invite", at.hub, at.inside)
    assert [row.split("\t")[1:3] for row in at.outside.run("invites") if row.startswith(room)] == [["Launch", ids.bob]]
    at.outside.run("join", room, BOB)
    become(room, ids.bob, "join", at.hub, at.inside, at.outside)
    assert waiting(at.outside, room) == []
    at.outside.run("leave", room, BOB, "--reason", "train")
    become(room, ids.bob, "leave", at.hub, at.inside, at.outside)


@pytest.mark.parametrize("who", INVITERS)
def test_row86_an_invite_is_rejected_and_given_again(who, at, ids, make_room):
    room = make_room("invite")
    driver, user = by(who, at)
    for _ in range(2):
        driver.run("invite", room, user, ids.bob)
        at.outside.run("leave", room, BOB)
        assert waiting(at.outside, room) == []
        become(room, ids.bob, "leave", at.hub, at.inside)


def test_row44_an_invite_is_rejected_while_the_hub_is_away_which_hears_of_it_later(at, ids, hub, make_room):
    room = make_room("invite")
    at.hub.run("invite", room, HUGO, ids.bob)
    hub.stop_part("web")
    try:
        at.outside.run("leave", room, BOB)
        assert waiting(at.outside, room) == []
        assert shows(at.hub, room, ids.bob, "invite")
    finally:
        hub.start_part("web")
    become(room, ids.bob, "leave", at.hub, at.inside)


@pytest.mark.parametrize("who", INVITERS)
@pytest.mark.parametrize(("verb", "membership"), [("kick", "leave"), ("ban", "ban")])
def test_row89_an_invite_is_taken_back(verb, membership, who, at, ids, make_room):
    room = make_room("invite")
    driver, user = by(who, at)
    driver.run("invite", room, user, ids.bob)
    assert waiting(at.outside, room) == [("invites", ids.bob)]
    become(room, ids.bob, "invite", at.inside)
    driver.run(verb, room, user, ids.bob)
    become(room, ids.bob, membership, at.hub, at.inside)
    ended(at.outside, room)
    with pytest.raises(Refused, match=r"M_FORBIDDEN rule 5\.2\."):
        at.outside.run("join", room, BOB)


@pytest.mark.parametrize("who", INVITERS)
def test_row96_a_knock_is_accepted(who, at, ids, hub, make_room):
    room = make_room()
    driver, user = by(who, at)
    at.outside.run("knock", room, BOB, hub.server_name, "--reason", "please")
    assert waiting(at.outside, room) == [("knocks", ids.bob)]
    become(room, ids.bob, "knock", at.hub, at.inside)
    with pytest.raises(Refused, match=r"rule 5\.2\.4"):
        at.outside.run("join", room, BOB)
    driver.run("invite", room, user, ids.bob)
    eventually(lambda: waiting(at.outside, room) == [("invites", ids.bob)], "the knock is answered")
    at.outside.run("join", room, BOB)
    become(room, ids.bob, "join", at.hub, at.inside, at.outside)


@pytest.mark.parametrize("who", INVITERS)
@pytest.mark.parametrize(("verb", "membership"), [("kick", "leave"), ("ban", "ban")])
def test_row96_a_knock_is_denied(verb, membership, who, at, ids, make_room):
    room = make_room()
    driver, user = by(who, at)
    at.outside.run("knock", room, BOB)
    become(room, ids.bob, "knock", at.hub, at.inside)
    driver.run(verb, room, user, ids.bob)
    become(room, ids.bob, membership, at.hub, at.inside)
    ended(at.outside, room)
    if verb == "kick":
        at.outside.run("knock", room, BOB)
        become(room, ids.bob, "knock", at.hub, at.inside)
    else:
        with pytest.raises(Refused, match=r"rule 5\.6\.4"):
            at.outside.run("knock", room, BOB)


def test_row96_a_knock_is_taken_back_and_made_again(at, ids, make_room):
    room = make_room()
    for _ in range(2):
        at.outside.run("knock", room, BOB)
        become(room, ids.bob, "knock", at.hub, at.inside)
        at.outside.run("leave", room, BOB)
        assert waiting(at.outside, room) == []
        become(room, ids.bob, "leave", at.hub, at.inside)


@pytest.mark.parametrize("who", INVITERS)
def test_row85_kicked_banned_and_let_in_again(who, at, ids, make_room):
    room = make_room("public")
    driver, user = by(who, at)
    everybody = (at.hub, at.inside, at.outside)
    at.outside.run("join", room, BOB)
    become(room, ids.bob, "join", *everybody)
    driver.run("kick", room, user, ids.bob, "--reason", "spam")
    become(room, ids.bob, "leave", *everybody)
    at.outside.run("join", room, BOB)
    become(room, ids.bob, "join", *everybody)
    driver.run("ban", room, user, ids.bob)
    become(room, ids.bob, "ban", *everybody)
    with pytest.raises(Refused, match=r"M_FORBIDDEN rule 5\.2\.3"):
        at.outside.run("join", room, BOB)
    with pytest.raises(Refused, match=r"rule 5\.3\.2"):
        driver.run("invite", room, user, ids.bob)
    driver.run("kick", room, user, ids.bob)
    become(room, ids.bob, "leave", at.hub, at.inside)
    at.outside.run("join", room, BOB)
    become(room, ids.bob, "join", *everybody)


def test_row88_users_of_a_server_in_the_room_need_no_handshake(at, ids, make_room):
    room = make_room()
    everybody = (at.hub, at.inside, at.outside)
    at.hub.run("invite", room, HUGO, ids.bob)
    at.outside.run("join", room, BOB)
    become(room, ids.bob, "join", *everybody)
    at.outside.run("knock", room, CAROL)
    become(room, ids.carol, "knock", *everybody)
    at.outside.run("leave", room, CAROL)
    become(room, ids.carol, "leave", *everybody)
    for answer in ("leave", "join"):
        at.outside.run("invite", room, BOB, ids.carol)
        become(room, ids.carol, "invite", *everybody)
        at.outside.run(answer, room, CAROL)
        become(room, ids.carol, answer, *everybody)
    assert waiting(at.outside, room) == []


# Who, where, what, about whom, and the rule that refuses it; Bob's membership before.
FORBIDDEN = [
    ("leave", "outside", BOB, "join", None, "5.2.4"),
    ("leave", "outside", BOB, "leave", None, "5.4.1"),
    ("leave", "outside", BOB, "invite", "carol", "does not know that room"),
    ("leave", "outside", BOB, "kick", "hugo", "does not know that room"),
    ("leave", "hub", "stranger", "invite", "bob", "5.3.1"),
    ("leave", "hub", "stranger", "kick", "alice", "5.4.2"),
    ("leave", "hub", "stranger", "ban", "bob", "5.5.1"),
    ("leave", "inside", ALICE, "kick", "hugo", "5.4.5"),
    ("leave", "inside", ALICE, "ban", "hugo", "5.5.3"),
    ("leave", "inside", ALICE, "invite", "hugo", "5.3.2"),
    ("leave", "inside", ALICE, "knock", None, "5.6.4"),
    ("knock", "outside", BOB, "join", None, "5.2.4"),
    ("join", "outside", BOB, "knock", None, "5.6.4"),
    ("join", "outside", BOB, "kick", "alice", "5.4.5"),
    ("join", "outside", BOB, "ban", "alice", "5.5.3"),
    ("join", "inside", ALICE, "invite", "bob", "5.3.2"),
    ("ban", "outside", BOB, "join", None, "5.2.3"),
    ("ban", "outside", BOB, "knock", None, "5.6.4"),
    ("ban", "outside", BOB, "leave", None, "5.4.1"),
    ("ban", "hub", HUGO, "invite", "bob", "5.3.2"),
]


@pytest.fixture(scope="module")
def rooms():
    """The rooms of the table by Bob's membership there: what is refused changes nothing, so one each will do."""
    return {}


@pytest.fixture
def room_where(rooms, make_room, at, ids):
    """Gives the room where Bob has a membership."""

    def give(membership):
        if membership not in rooms:
            room = rooms[membership] = make_room()
            if membership == "join":
                at.hub.run("invite", room, HUGO, ids.bob)
                at.outside.run("join", room, BOB)
            elif membership == "knock":
                at.outside.run("knock", room, BOB)
            elif membership == "ban":
                at.hub.run("ban", room, HUGO, ids.bob)
            become(room, ids.alice, "join", at.hub, at.inside)
            if membership != "leave":
                become(room, ids.bob, membership, at.hub, at.inside)
        return rooms[membership]

    return give


@pytest.mark.parametrize(
    ("membership", "where", "user", "verb", "target", "told"),
    FORBIDDEN,
    ids=["-".join(str(word) for word in row if word) for row in FORBIDDEN],
)
def test_row90_what_is_forbidden_is_refused_by_its_rule(
    membership, where, user, verb, target, told, at, ids, room_where
):
    room = room_where(membership)
    driver = getattr(at, where)
    before = at.hub.run("members", room, "--all")
    words = [verb, room, user, *([getattr(ids, target)] if target else [])]
    rule = told if " " in told else f"rule {told}:"
    with pytest.raises(Refused, match=rule.replace(".", r"\.")):
        driver.run(*words)
    assert at.hub.run("members", room, "--all") == before
