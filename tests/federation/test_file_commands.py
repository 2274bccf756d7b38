"""Rooms as files at a terminal: what the commands print, what they refuse, and how they show that they are at work."""

import json
import stat
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from federation import handshakes
from federation.gaps import RETRY_DELAYS
from federation.management.progress import LINE_SECONDS, Lines
from rooms.models import Event, Gap, Room
from tests.support import broker  # noqa: F401  wake-ups go nowhere
from tests.support.files import change_lines, forget, respliced
from tests.support.peer_rooms import PeerRoom

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


def run(*words):
    """The lines that a command prints."""
    out = StringIO()
    call_command(*map(str, words), stdout=out, stderr=out)
    return out.getvalue().splitlines()


def failure(*words):
    """Why a command fails, which must be one line."""
    with pytest.raises(CommandError) as caught:
        run(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(joined, tmp_path):
    path = tmp_path / "room.jsonl"
    (line,) = run("export_room", joined.room_id, "--output", path)
    assert line == f"{path}\t{json.loads(path.read_bytes().splitlines()[-1])['sha256']}"
    return path


@pytest.fixture
def elsewhere(tls_peer):
    """A room hosted by a peer, with Alice joined to it; its history is missing."""
    hosted = PeerRoom(tls_peer)
    tls_peer.host(hosted)
    handshakes.join(room_id=hosted.room_id, user_id=ALICE)
    return hosted


def test_a_file_is_for_its_owner_only_and_nothing_lies_beside_it(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.glob(".room*")) == []


def test_a_file_that_exists_is_not_overwritten(path, joined):
    before = path.read_bytes()
    assert "exists already" in failure("export_room", joined.room_id, "--output", path)
    assert path.read_bytes() == before


def test_a_room_that_is_not_known_leaves_no_file(tmp_path, transactional_db):
    failure("export_room", "!none:hub.example.org", "--output", tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told_of(joined, tmp_path):
    assert "cannot be written" in failure("export_room", joined.room_id, "--output", tmp_path / "no" / "room")


def test_a_file_that_holds_is_said_to(path, joined):
    lines = run("verify_export", path)
    assert lines[0].split()[:2] == ["room", f"{joined.room_id},"]
    assert lines[-1].startswith("holds")


def test_what_does_not_hold_is_told_by_line(path):
    def change(lines):
        event = json.loads(lines[6])["event"]
        event["content"]["name"] = "other"
        lines[6] = respliced(lines[6], event=event)

    change_lines(path, change)
    out = StringIO()
    with pytest.raises(CommandError, match="does not hold: 1 problems"):
        call_command("verify_export", str(path), stdout=out)
    assert out.getvalue().startswith("line 7: content: $")


@pytest.mark.parametrize("command", ["verify_export", "import_room"])
def test_a_file_that_is_none_is_told_of(command, tmp_path, transactional_db):
    assert "cannot be read" in failure(command, tmp_path / "none")
    (tmp_path / "other").write_text("{}\n")
    assert "no exported room" in failure(command, tmp_path / "other")


def test_hosting_a_room_again_takes_a_word_more(path, joined):
    forget(joined.room_id)
    out = StringIO()
    with pytest.raises(CommandError, match="repeat the command with --i-know"):
        call_command("import_room", str(path), stdout=out, stderr=out)
    assert "the room parts in two" in out.getvalue()
    count = json.loads(path.read_bytes().splitlines()[-1])["counts"]["event"]
    assert run("import_room", path, "--i-know") == [f"{joined.room_id}: {count} events, hosted here."]
    assert run("import_room", path) == [f"{joined.room_id}: all of it is here already."]


def test_history_is_fetched_when_it_is_asked_for(elsewhere):
    assert run("backfill", elsewhere.room_id) == ["The history is complete."]
    assert Event.objects.filter(position__isnull=False).count() == len(elsewhere.line)
    assert run("backfill", elsewhere.room_id) == ["Nothing is missing."]


def test_what_is_missing_is_shown_and_nothing_is_asked(elsewhere):
    Gap.objects.update(failures=len(RETRY_DELAYS), last_error="it was away")
    (line,) = run("backfill", elsewhere.room_id, "--show")
    gap = Gap.objects.get()
    assert line.split("\t")[:2] == [str(gap.before_position), gap.missing_event_id]
    assert line.split("\t")[-1] == "it was away"


def test_history_that_cannot_be_fetched_is_told_of(elsewhere):
    Room.objects.update(hub_server="nobody.localhost:1")
    assert "cannot be fetched now" in failure("backfill", elsewhere.room_id)


def test_a_participants_copy_comes_back_and_goes_on(elsewhere, tmp_path, tls_peer):
    run("backfill", elsewhere.room_id)
    path = tmp_path / "copy.jsonl"
    run("export_room", elsewhere.room_id, "--output", path)
    forget(elsewhere.room_id)
    (line,) = run("import_room", path)
    assert (
        line
        == f"{elsewhere.room_id}: {len(elsewhere.line)} events, this server takes part; its hub is {tls_peer.name}."
    )
    missed, sent = elsewhere.add(content={"body": "missed"}), elsewhere.add(content={"body": "sent"})
    assert tls_peer.send([sent.event]).json() == {"failed_pdus": {}}
    assert [Event.objects.get(event_id=pdu.event_id).verdict for pdu in (missed, sent)] == ["accepted", "accepted"]


def test_joining_tells_how_far_it_has_come(tls_peer):
    hosted = PeerRoom(tls_peer)
    tls_peer.host(hosted)
    told = []
    handshakes.join(room_id=hosted.room_id, user_id=ALICE, progress=lambda *note: told.append(note))
    stages = list(dict.fromkeys(stage for stage, *_ in told))
    assert stages == [
        "finding the hub", "waiting for the hub's answer", "checking the state", "checking what it rests on",
        "checking the join", "storing the room's state",
    ]  # fmt: skip
    assert ("checking the state", 4, 4) in told


def test_short_work_says_nothing_and_long_work_a_line_now_and_then():
    now, out = [0.0], StringIO()
    progress = Lines(out, clock=lambda: now[0])
    progress("exporting", 0, 3000)
    now[0] = LINE_SECONDS - 1
    progress("exporting", 1000, 3000)
    assert out.getvalue() == ""
    now[0] = 10.0
    progress("exporting", 2000, 3000)
    progress("exporting", 3000, 3000)
    assert out.getvalue() == "exporting 2000 of 3000, 200/s\n"
