"""What people do at a terminal: the commands, what they print, and how they fail."""

import json
import sys
import time
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from federation import gaps, handshakes
from federation.management.acting import STILL_WAITING
from federation.models import OutboundLpdu, PendingLeave
from rooms import pending
from rooms.creation import create_room
from rooms.models import Event, Gap, LocalUser, PendingInvite, Room
from rooms.state import members
from tests.support import broker  # noqa: F401  wake-ups go nowhere
from tests.support.lines import append, in_thread, make_room
from tests.support.peer_rooms import PeerRoom

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


def run(*words, **options):
    """The lines that a command prints."""
    out = StringIO()
    call_command(*words, stdout=out, stderr=out, **options)
    return out.getvalue().splitlines()


def failure(*words):
    """Why a command fails, which must be one line."""
    with pytest.raises(CommandError) as caught:
        run(*words)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def room():
    return create_room(creator=ALICE, now=timezone.now(), name="Launch", join_rule="public")


@pytest.fixture
def elsewhere(tls_peer):
    """A room hosted by a peer, with Alice joined to it."""
    hosted = PeerRoom(tls_peer)
    tls_peer.host(hosted)
    handshakes.join(room_id=hosted.room_id, user_id=ALICE)
    return Room.objects.get(room_id=hosted.room_id)


def test_creating_a_room_prints_its_id():
    (room_id,) = run("create_room", "--creator", "alice", "--name", "Launch", "--topic", "When?")
    assert run("rooms") == [f"{room_id}\tLaunch\thub\thub.example.org\t1"]
    assert members(room_id) == {ALICE: "join"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--creator", "@a:elsewhere.example"], "@a:elsewhere.example is a user of elsewhere.example"),
        (["--creator", "Alice"], "'@Alice:hub.example.org' is not a user id"),
        (["--creator", "alice", "--join-rule", "private"], "invalid choice: 'private'"),
        ([], "the following arguments are required: --creator"),
    ],
)
def test_a_room_that_cannot_be_created(options, reason):
    assert reason in str(failure("create_room", *options))
    assert not Room.objects.exists()


def test_a_message_is_sent_and_shown(room):
    (event_id,) = run("send", room.room_id, "alice", "Good morning")
    assert Event.objects.get(event_id=event_id).sender == ALICE
    *_, line = run("timeline", room.room_id)
    assert line.split("  ")[-2:] == [ALICE, "Good morning"]


def test_any_event_can_be_sent(room):
    run("send", room.room_id, ALICE, "--type", "m.room.topic", "--state-key", "", "--content", '{"topic": "Tea"}')
    assert run("timeline", room.room_id, "--limit", "1")[0].endswith('changed the topic to "Tea"')


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "Give either a text or --content."),
        (["text", "--content", "{}"], "Give either a text or --content."),
        (["--content", "{"], "--content is not JSON"),
        (["--content", "[]"], "--content must be a JSON object."),
        (["--content", '{"n": 9007199254740992}'], "2^53"),
    ],
)
def test_content_that_cannot_be_sent(room, words, reason):
    assert reason in str(failure("send", room.room_id, "alice", *words))


def test_the_room_may_be_named_by_its_beginning(room):
    (event_id,) = run("send", room.room_id[1:6], "alice", "Hello")
    assert Event.objects.get(event_id=event_id).room_id == room.room_id


def test_a_beginning_that_fits_two_rooms_or_none(room):
    make_room("twin-a")  # no id that is made by chance has a hyphen
    make_room("twin-b")
    assert str(failure("members", "twin-")) == (
        "More than one room begins with !twin-: !twin-a:hub.example.org, !twin-b:hub.example.org"
    )
    assert "No room begins with !nothing" in str(failure("members", "nothing"))
    assert "does not know that room" in str(failure("members", "!nothing:hub.example.org"))


def test_what_the_rules_refuse_is_told_with_the_rule(room):
    assert str(failure("send", room.room_id, "bob", "Hello")).startswith("rule 6: ")
    assert failure("send", room.room_id, "bob", "Hello").returncode == 1


def test_a_deactivated_user_cannot_act(room):
    LocalUser.objects.create(localpart="alice", deactivated=True)
    assert str(failure("send", room.room_id, "alice", "Hello")) == f"{ALICE} does not exist on this server"


def test_coming_and_going(room):
    run("join", room.room_id, "bob")
    run("invite", room.room_id, "alice", "carol")
    run("join", room.room_id, "mallory")
    run("kick", room.room_id, "alice", "mallory", "--reason", "spam")
    run("ban", room.room_id, "alice", "mallory")
    run("leave", room.room_id, "bob", "--reason", "train")
    assert run("members", room.room_id) == [
        f"{ALICE}\tjoined",
        "@carol:hub.example.org\tinvited",
        "@mallory:hub.example.org\tbanned",
    ]
    assert run("members", room.room_id, "--all")[-1] == "@bob:hub.example.org\tleft"
    assert [line.rpartition("  ")[2] for line in run("timeline", room.room_id, "--limit", "3")] == [
        "removed @mallory:hub.example.org (spam)",
        "banned @mallory:hub.example.org",
        "left (train)",
    ]


def test_a_server_that_cannot_be_reached_is_named(room):
    assert str(failure("join", "!a:gone.localhost:1", "alice")).startswith("gone.localhost:1: connection refused")
    assert (
        str(failure("invite", room.room_id, "alice", "@x:gone.localhost:1")) == "gone.localhost:1 could not be reached."
    )


def test_joining_elsewhere_prints_the_event(tls_peer):
    hosted = PeerRoom(tls_peer)
    tls_peer.host(hosted)
    (event_id,) = run("join", hosted.room_id, "alice")
    assert Room.objects.get(room_id=hosted.room_id).head_event_id == event_id
    lines = run("timeline", hosted.room_id)
    assert lines[0] == "What came before is still to be fetched."
    assert (lines[1].split("  ")[-1], len(lines)) == ("joined", 2)


def test_a_participant_numbers_the_whole_line_as_the_hub_does(elsewhere):
    gaps.fill_gap(Gap.objects.get().pk)
    lines = run("timeline", elsewhere.room_id, "--all")
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0].endswith("created the room")
    assert run("timeline", elsewhere.room_id, "--limit", "2") == lines[-2:]


def settle(**changes):
    """Wait until an LPDU is queued, as a worker would, and settle it."""
    deadline = time.monotonic() + 10
    while not (lpdu := OutboundLpdu.objects.first()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lpdu is not None
    if changes:
        OutboundLpdu.objects.filter(pk=lpdu.pk).update(**changes)
        return
    append(Room.objects.get(room_id=lpdu.room_id), "the echo")
    echo = Event.objects.order_by("-received_at")[:1]
    Event.objects.filter(pk__in=echo.values("pk")).update(lpdu_id=lpdu.lpdu_id)


def test_as_participant_the_echo_is_waited_for(elsewhere):
    with in_thread(settle):
        (event_id,) = run("send", elsewhere.room_id, "alice", "Hello")
    assert Event.objects.get(event_id=event_id).lpdu_id == OutboundLpdu.objects.get().lpdu_id


def test_as_participant_the_hubs_refusal_is_told(elsewhere):
    with in_thread(lambda: settle(status="refused", reason="rule 7: needs 50, has 0")):
        error = failure("send", elsewhere.room_id, "alice", "Hello")
    assert (str(error), error.returncode) == ("The hub refused it: rule 7: needs 50, has 0", 1)


def test_a_hub_that_does_not_answer_in_time(elsewhere):
    error = failure("send", elsewhere.room_id, "alice", "Hello", "--timeout", "0.1")
    lpdu = OutboundLpdu.objects.get()
    assert (error.returncode, lpdu.status) == (STILL_WAITING, "queued")
    assert str(error) == (
        f"The hub has not answered within 0.1 s. It will be asked again: {lpdu.lpdu_id} stays queued."
    )


def test_without_waiting_the_lpdus_id_is_printed(elsewhere):
    assert run("send", elsewhere.room_id, "alice", "Hello", "--no-wait") == [OutboundLpdu.objects.get().lpdu_id]


def test_pending_invites_are_listed():
    PendingInvite.objects.create(
        room_id="!a:peer.example",
        user_id=ALICE,
        hub_server="peer.example",
        room_version="I.1",
        event_id="$x",
        json='{"sender": "@bob:peer.example"}',
        stripped_state='[{"type": "m.room.name", "content": {"name": "Their\\u001b[0mroom"}}]',
    )
    assert run("invites") == [f"!a:peer.example\tTheir\ufffd[0mroom\t{ALICE}\t@bob:peer.example"]


def test_a_timeline_as_json_goes_on_where_one_left_off(room):
    rows = [json.loads(line) for line in run("timeline", room.room_id, "--json", "--after", "4")]
    assert [(row["position"], row["happened"]) for row in rows] == [
        (5, "set the history visibility to shared"),
        (6, 'named the room "Launch"'),
    ]
    assert rows[0]["event"]["sender"] == ALICE


def test_a_verdict_is_shown(room):
    append(room, "Hello", verdict=Event.Verdict.REJECTED)
    assert run("timeline", room.room_id, "--limit", "1")[0].endswith("Hello  [rejected]")


def test_following_shows_what_comes_until_it_is_interrupted(room):
    class Terminal(StringIO):
        def write(self, text):
            if "created the room" in text:
                append(room, "came later")
            super().write(text)
            if "came later" in text:
                raise KeyboardInterrupt
            return len(text)

    out = Terminal()
    call_command("timeline", room.room_id, "--follow", stdout=out)
    assert out.getvalue().splitlines()[-1].endswith("came later")


def test_colours_only_where_they_are_wanted(room):
    assert "\x1b" not in "".join(run("timeline", room.room_id))
    assert "\x1b[" in "".join(run("timeline", room.room_id, "--force-color"))
    assert "Launch" in "".join(run("rooms", "--force-color"))


def test_the_console_runs_line_by_line(room, monkeypatch):
    lines = [f"send {room.room_id} alice 'Good morning'", "nonsense", "send", "members '", "", "members --help", "help"]
    monkeypatch.setattr(sys, "stdin", StringIO("\n".join(lines) + "\n"))
    answers = [line for line in run("console", "--status") if line.startswith("---")]
    assert answers == [
        "--- 0",
        "--- 1 There is no command 'nonsense'; `help` lists them.",
        "--- 1 Error: the following arguments are required: room, user",
        "--- 1 No closing quotation.",
        "--- 0",
        "--- 0",
        "--- 0",
    ]
    assert run("timeline", room.room_id, "--limit", "1")[0].endswith("Good morning")


def test_row96_knocking_and_what_comes_of_it(room):
    run("send", room.room_id, "alice", "--type", "m.room.join_rules", "--state-key", "", "--content", KNOCK)
    run("knock", room.room_id, "bob", "--reason", "I know Alice")
    assert run("timeline", room.room_id, "--limit", "1")[0].endswith("asked to be let in (I know Alice)")
    assert run("members", room.room_id)[1] == "@bob:hub.example.org\tasks to be let in"
    assert "rule 5.2.4" in str(failure("join", room.room_id, "bob"))
    run("invite", room.room_id, "alice", "bob")
    run("join", room.room_id, "bob")
    assert "rule 5.6.4" in str(failure("knock", room.room_id, "bob"))


KNOCK = '{"join_rule": "knock"}'


def test_row96_knocks_elsewhere_are_listed_and_taken_back_without_the_hub():
    for user, membership in (("alice", "knock"), ("bob", "invite")):
        event = {
            "room_id": "!a:gone.localhost:1",
            "sender": f"@{user}:hub.example.org",
            "state_key": f"@{user}:hub.example.org",
            "content": {"membership": membership},
        }
        name = {"type": "m.room.name", "state_key": "", "sender": "@x:gone.localhost", "content": {"name": "Closed"}}
        pending.keep(event, event_id=f"${user}", hub="gone.localhost:1", version="I.1", shown=[name])
    assert run("knocks") == [f"!a:gone.localhost:1\tClosed\t{ALICE}\tgone.localhost:1"]
    assert [line.split("\t")[2] for line in run("invites")] == ["@bob:hub.example.org"]
    assert run("leave", "!a", "alice") == ["Done here; the hub is told as soon as it can be reached."]
    assert run("knocks") == []
    assert PendingLeave.objects.get().user_id == ALICE


def test_a_server_may_be_named_to_knock_at(tls_peer):
    answer = (403, {"errcode": "M_FORBIDDEN", "error": "rule 5.6.1: the join rule is 'invite', not knock"})
    tls_peer.endpoints["GET", "make_knock"] = lambda _request: answer
    told = str(failure("knock", "!a:gone.localhost:1", "alice", tls_peer.name))
    assert told.startswith(f"{tls_peer.name} refused: HTTP 403 M_FORBIDDEN rule 5.6.1")
    assert "gone.localhost:1: connection refused" in told
