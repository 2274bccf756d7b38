"""What an operator does in the first hour, with a browser and nothing else; the pictures of it are kept."""

from collections.abc import Callable

from linmatrix.stack.server import Server
from tests.browser.operator import Operator

Seat = Callable[[Server], Operator]


def test_an_operator_hosts_a_conversation_and_sees_what_becomes_of_it(
    servers: tuple[Server, Server], at_console: Seat
) -> None:
    our_server, their_server = servers
    ours, theirs = at_console(our_server), at_console(their_server)
    bob = f"@bob:{their_server.server_name}"

    # A new server: nothing is wrong, and nothing has happened.
    ours.sees("Everything that was sent has arrived")
    ours.picture("dashboard-new")

    # A room, and somebody of another server in it.
    ours.choose("Rooms")
    ours.press("Create a room")
    ours.fill("Creator", "alice")
    ours.fill("Name", "Launch")
    ours.picture("create-a-room")
    ours.submit("Create a room")
    ours.sees("Launch")
    room = ours.page.url
    ours.press("Invite")
    ours.fill("Invite", bob)
    ours.submit("Invite")
    theirs.choose("Invites and knocks")
    theirs.sees(bob)
    theirs.picture("invites")
    theirs.press("Accept")
    theirs.submit("Join a room")
    theirs.sees("Launch")
    their_room = theirs.page.url

    # What is said here is read there.
    ours.page.goto(room)
    say(ours, "The doors are open")
    theirs.page.goto(their_room)
    theirs.sees_after_reloading("The doors are open")
    theirs.picture("timeline-there")

    # They are away: the console says so, says what waits, and what became of it.
    their_server.stop_part("web")
    say(ours, "Is anybody there?")
    ours.picture("timeline")
    ours.choose("Dashboard")
    ours.sees("not been reached")
    ours.picture("dashboard-failing")
    ours.choose("Destinations")
    ours.press(their_server.server_name)
    ours.sees("failing")
    destination = ours.page.url
    ours.picture("destination-failing")
    their_server.start_part("web")
    ours.press("Retry now")
    theirs.page.goto(their_room)
    theirs.sees_after_reloading("Is anybody there?")
    ours.page.goto(destination)
    ours.sees_after_reloading("healthy")
    ours.choose("Dashboard")
    ours.sees("Everything that was sent has arrived", seconds=60)

    # A new signing key: what is signed with it is taken there.
    ours.choose("Our keys")
    ours.picture("keys")
    ours.press("Rotate the signing key")
    ours.picture("rotate")
    ours.submit("Rotate")
    ours.sees("This server signs with")
    ours.page.goto(room)
    say(ours, "Signed with the new key")
    theirs.page.goto(their_room)
    theirs.sees_after_reloading("Signed with the new key")

    # Enough of them: blocked, and taken back.
    ours.page.goto(destination)
    ours.press("Block server")
    ours.fill("Reason", "They send nonsense")
    ours.submit("Next")
    ours.sees("answered 403")
    ours.picture("block")
    ours.submit("Block")
    ours.sees("is blocked")
    blocked = ours.page.url
    ours.page.goto(destination)
    ours.sees("blocked")
    ours.picture("destination-blocked")
    theirs.page.goto(their_room)
    say(theirs, "Nobody hears this yet")
    theirs.picture("sent-in-vain")
    ours.page.goto(blocked)
    ours.press("Unblock")
    ours.submit("Unblock")
    ours.sees("is not blocked any more")
    ours.page.goto(room)
    ours.sees_after_reloading("Nobody hears this yet")

    assert ours.complaints == []
    assert theirs.complaints == []


def say(operator: Operator, text: str) -> None:
    """Have a member of the room on the page say something."""
    operator.press("Send a notice")
    operator.fill("Text", text)
    operator.submit("Send a notice")
