"""A process dies at the worst moment: nothing that was accepted is lost, and nothing happens twice.

The moments are reached from outside. A process that is to die before it commits waits for a lock that the test holds;
one that is to die between its commit and what follows waits for a Valkey that is frozen, or for a peer's answer. Then
it gets SIGKILL. What it had claimed is free for others when its lease has run out, which the test does not wait for:
it turns the lease back.
"""

import psutil
import pytest

from linmatrix.stack.driver import Driver, Refused
from linmatrix.stack.errors import StackError
from linmatrix.transport.errors import TransportError
from tests.scenarios import records
from tests.scenarios.faults import (
    Background,
    empty,
    in_line,
    let_leases_run_out,
    locked,
    room_locked,
    waiting_for_locks,
)
from tests.scenarios.verdict import Promise
from tests.scenarios.waiting import eventually


def caught_before_commit(server, room_id, work, *, part="web", freeze=None):
    """Run work that appends to a room, and kill the process that does so: before it commits, or, with `freeze`, when
    it has committed and waits for that part. What came of the work."""
    with room_locked(server, room_id):
        running = Background(work)
        eventually(lambda: waiting_for_locks(server) == 1, "the append waits for the room")
        head = records.head(server, room_id)
        if freeze is None:
            server.kill(part)
        else:
            server.pause(freeze)
    if freeze is not None:
        eventually(lambda: records.head(server, room_id) != head, "the append was committed")
        server.kill(part)
        server.resume(freeze)
    outcome = running.result()
    server.start_part(part)
    let_leases_run_out(server)
    return outcome


@pytest.mark.parametrize("freeze", [None, "valkey"], ids=["before its commit", "after its commit, before its answer"])
def test_a_web_process_killed_while_it_takes_an_event_leaves_it_in_the_line_once(freeze, story, make_senders):
    (sender,) = make_senders("peer")
    story.agree(sender)
    lpdu = sender.message()
    outcome = caught_before_commit(
        story.hub, story.room_id, lambda: sender.attempt(lpdu, txn_id="killed"), freeze=freeze
    )
    assert isinstance(outcome, TransportError)
    assert in_line(story.hub, story.room_id, lpdu.lpdu_id) == (0 if freeze is None else 1)
    sender.insist(lpdu, txn_id="killed")
    assert in_line(story.hub, story.room_id, lpdu.lpdu_id) == 1
    story.talk("after it")
    story.agree(sender)


def test_a_web_process_of_a_participant_killed_while_it_takes_a_transaction_gets_it_again(story):
    with room_locked(story.participant, story.room_id):
        story.talk("is on its way")
        eventually(lambda: waiting_for_locks(story.participant) == 1, "the participant takes the transaction")
        story.participant.kill("web")
    story.participant.start_part("web")
    let_leases_run_out(story.participant)
    story.talk("after it")
    story.agree()


@pytest.mark.parametrize("freeze", [None, "valkey"], ids=["before the hub's commit", "after the hub's commit"])
def test_a_user_whose_join_the_hub_died_of_joins_the_next_time(freeze, story):
    story.at_participant.run("leave", story.room_id, "alice")
    story.agree()
    outcome = caught_before_commit(
        story.hub,
        story.room_id,
        lambda: story.at_participant.run("join", story.room_id, "alice"),
        freeze=freeze,
    )
    assert isinstance(outcome, Refused)
    # When the hub has the join, these are sent to a server that knows nothing of it: it finds them as history.
    for text in ("one", "two"):
        story.promises.append(
            Promise(story.hub.server_name, story.room_id, story.at_hub.run("send", story.room_id, "hugo", text)[0])
        )
    story.at_participant.run("join", story.room_id, "alice")
    story.talk("together again")
    story.agree()


def test_a_joining_process_that_dies_holds_the_room_up_no_longer_than_its_lease(story):
    story.at_participant.run("leave", story.room_id, "alice")
    story.agree()
    with room_locked(story.hub, story.room_id), Driver(story.participant) as driver:
        joining = Background(lambda: driver.run("join", story.room_id, "alice"))
        eventually(lambda: waiting_for_locks(story.hub) == 1, "the hub takes the join")
        driver.kill()
        assert isinstance(joining.result(), StackError)
    eventually(lambda: records.stays(story.hub, story.room_id).get(story.participant.server_name), "the hub has it")
    story.at_participant.run("join", story.room_id, "alice")
    story.talk("together again")
    story.agree()


def test_a_hub_that_dies_while_an_invited_server_thinks_invites_the_next_time(story, make_senders):
    (sender,) = make_senders("peer")
    bob = f"@bob:{story.participant.server_name}"
    story.at_participant.run("leave", story.room_id, "alice")
    story.agree(sender)
    invite = sender.peer.lpdu(
        story.hub.server_name,
        story.room_id,
        type="m.room.member",
        state_key=bob,
        content={"membership": "invite"},
    )

    def ask():
        return sender.peer.invite(story.hub.server_name, invite)

    story.participant.pause("web")
    asking = Background(ask)
    eventually(lambda: established(story.hub, story.participant), "the hub asks the invited server")
    (said,) = story.at_hub.run("send", story.room_id, "hugo", "nobody waits for the invited server")
    story.promises.append(Promise(story.hub.server_name, story.room_id, said))
    assert asking.running
    story.hub.kill("web")
    story.participant.resume("web")
    assert isinstance(asking.result(), TransportError)
    story.hub.start_part("web")
    let_leases_run_out(story.hub)
    assert in_line(story.hub, story.room_id, invite.lpdu_id) == 0

    assert ask().status == 200
    assert in_line(story.hub, story.room_id, invite.lpdu_id) == 1
    story.at_participant.run("join", story.room_id, "bob")
    story.agree(sender)


def established(one, other):
    """Whether a server's web process has a connection to another server."""
    (web,) = (child for child in psutil.Process().children() if str(one.port) in child.cmdline())
    processes = [web, *web.children(recursive=True)]
    return any(
        connection.raddr and connection.raddr.port == other.port
        for process in processes
        for connection in process.net_connections("tcp")
    )


def test_a_worker_killed_while_it_notes_an_acknowledgement_sends_the_same_bytes_again(story, make_senders):
    (sender,) = make_senders("peer")
    story.agree(sender)
    before = len(sender.peer.deliveries)
    stay = "SELECT FROM rooms_roomserver WHERE room_id = %s AND server = %s FOR UPDATE"
    with locked(story.hub, stay, [story.room_id, sender.peer.name]):
        story.talk("acknowledged, but not noted")
        eventually(lambda: len(sender.peer.deliveries) > before, "the peer has the transaction")
        eventually(lambda: waiting_for_locks(story.hub), "the worker notes the acknowledgement")
        story.hub.kill("worker")
    story.talk("after it")
    story.hub.start_part("worker")
    let_leases_run_out(story.hub)
    story.agree(sender)
    first, again = sender.peer.deliveries[before : before + 2]
    assert (again.target, again.body) == (first.target, first.body)


def test_when_beat_and_every_wake_up_are_lost_a_new_beat_has_all_of_it_delivered(story):
    for server in story.servers:
        server.kill("beat")
        empty(server)
    story.talk("nobody is woken for this")
    for server in story.servers:
        server.start_part("valkey")
        server.start_part("beat")
    story.agree()
