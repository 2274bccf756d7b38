"""Two complete servers talk: one hosts the room, the other takes part in it, and both have the same line at the end.

The participant is not always there: history precedes its join, and later all of it is stopped while the hub goes on.
"""

import json

import pytest

from linmatrix.stack.certificates import Authority
from linmatrix.stack.driver import Driver, Refused
from tests.scenarios.conftest import make_server
from tests.scenarios.waiting import eventually

HUGO, ALICE = "hugo", "alice"
HISTORY = 130
"""Messages before the join: more than one page of backfill holds."""


@pytest.fixture(scope="module")
def alpha(authority, tmp_path_factory):
    """A second server, which trusts the hub and is trusted by it."""
    with make_server("alpha", tmp_path_factory.mktemp("alpha"), authority) as server:
        yield server


@pytest.fixture
def at_alpha(alpha):
    """Acts on it."""
    with Driver(alpha) as driver:
        yield driver


@pytest.fixture
def room(console):
    """A room of the hub's."""
    (room_id,) = console.run("create_room", "--creator", HUGO, "--name", "Launch")
    return room_id


def line(driver, room_id):
    """A room's line as a server shows it: ids, verdicts and whole events."""
    rows = [json.loads(row) for row in driver.run("timeline", room_id, "--all", "--json")]
    return [(row["event_id"], row["verdict"], row["event"]) for row in rows]


def have_the_same_line(one, other, room_id):
    """Whether two servers do; while one is still fetching, they do not."""
    return line(one, room_id) == line(other, room_id)


def messages(driver, room_id):
    """The texts in a room, in order."""
    return [event["content"]["body"] for *_, event in line(driver, room_id) if event["type"] == "m.room.message"]


def bring_in(alice_at, console, alpha, room_id):
    """Alice of alpha is invited by Hugo of the hub, joins, and can read all that was said before."""
    console.run("invite", room_id, HUGO, f"@{ALICE}:{alpha.server_name}")
    alice_at.run("join", room_id, ALICE)
    eventually(lambda: have_the_same_line(console, alice_at, room_id), "history was fetched")


def test_row93_an_invited_user_joins_and_both_sides_read_each_other(console, alpha, at_alpha, room):
    console.run("send", room, HUGO, "before")
    bring_in(at_alpha, console, alpha, room)
    console.run("send", room, HUGO, "from the hub")
    at_alpha.run("send", room, ALICE, "from alpha")
    console.run("send", room, HUGO, "from the hub again")
    eventually(lambda: have_the_same_line(console, at_alpha, room), "both servers have the same line")
    assert messages(at_alpha, room) == ["before", "from the hub", "from alpha", "from the hub again"]
    assert {verdict for _, verdict, _ in line(at_alpha, room)} == {"accepted"}


def test_row106_history_from_before_the_join_is_fetched_whole(console, alpha, at_alpha, room):
    for number in range(HISTORY):
        console.run("send", room, HUGO, f"{number}")
    bring_in(at_alpha, console, alpha, room)
    assert messages(at_alpha, room) == [f"{number}" for number in range(HISTORY)]


def test_row94_a_server_that_was_stopped_gets_what_it_missed_and_can_answer(console, alpha, room):
    with Driver(alpha) as driver:
        bring_in(driver, console, alpha, room)
        driver.run("send", room, ALICE, "good night")
    alpha.stop()
    missed = [f"while you were away {number}" for number in range(3)]
    for text in missed:
        console.run("send", room, HUGO, text)
    alpha.start()
    with Driver(alpha) as driver:
        driver.run("send", room, ALICE, "good morning")
        eventually(lambda: have_the_same_line(console, driver, room), "both servers have the same line")
        assert messages(driver, room) == ["good night", *missed, "good morning"]


def test_what_a_participant_says_while_the_hub_does_not_answer_arrives_later(hub, console, alpha, at_alpha, room):
    bring_in(at_alpha, console, alpha, room)
    hub.stop_part("web")
    try:
        at_alpha.run("send", room, ALICE, "is anybody there?", "--no-wait")
    finally:
        hub.start_part("web")
    # A sign of life, after which alpha need not wait until its next attempt is due.
    console.run("send", room, HUGO, "back again")
    eventually(lambda: "is anybody there?" in messages(console, room), "the hub has the message")
    eventually(lambda: have_the_same_line(console, at_alpha, room), "both servers have the same line")


def test_a_server_with_a_certificate_of_another_authority_is_not_talked_to(
    hub, console, room, make_participants, tmp_path
):
    (stranger,) = make_participants("stranger", authority=Authority(tmp_path / "elsewhere"))
    with pytest.raises(Refused, match="could not be reached"):
        console.run("invite", room, HUGO, stranger.user("user"))
    assert stranger.requests == []
    answer = stranger.send(hub.server_name, [], txn_id="1")
    assert (answer.status, answer.errcode) == (401, "M_FORBIDDEN")
    assert stranger.requests == []


def test_the_same_server_with_a_certificate_that_is_trusted_is_talked_to(hub, console, room, make_participants):
    """The twin of the test above: only the authority of the certificate differs."""
    (neighbour,) = make_participants("neighbour")
    with pytest.raises(Refused, match="no such endpoint"):
        console.run("invite", room, HUGO, neighbour.user("user"))
    assert any(request.method == "POST" for request in neighbour.requests)
    assert neighbour.send(hub.server_name, [], txn_id="1").status == 200
