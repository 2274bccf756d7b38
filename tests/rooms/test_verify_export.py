"""A room's file that was tampered with: each thing that is wrong is told by its kind and its line.

Files are made without a database, and whoever tampers writes the last line anew, so that its digest tells nothing.
Lines are numbered from 1, the header is the first: the event at an index of the room's line stands in line index + 2.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from linmatrix.protocol import completion
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.redaction import redact
from rooms.export.verifying import NotARoom, verify
from tests.support.files import change_lines, file_of, problems, respliced
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer, now_ms

HUB, PART, STRANGER = Peer("hub.example.com"), Peer("part.example.org"), Peer("third.example.org")
HELLO = 5
"""The index of a message of a user of another server than the hub's."""


@pytest.fixture
def room():
    """Create, join, power levels, join rules, the participant's join, its message and two of the hub's."""
    room = PeerRoom(HUB)
    room.add(lpdu=PART.join(room.room_id, hub=HUB.name))
    room.add(lpdu=PART.lpdu(room.room_id, hub=HUB.name, content={"body": "hello"}))
    room.add(content={"body": "one"})
    room.add(content={"body": "two"})
    return room


@pytest.fixture
def path(room, tmp_path):
    return file_of(room, PART, folder=tmp_path)


def line_of(index):
    return index + 2


def changed(path, index, change):
    """The same file with the event at an index changed; its id in the line stays."""

    def alter(lines):
        event = json.loads(lines[index + 1])["event"]
        change(event)
        lines[index + 1] = respliced(lines[index + 1], event=event)

    return change_lines(path, alter)


def in_line(path, index, **fields):
    def alter(lines):
        lines[index + 1] = respliced(lines[index + 1], **fields)

    return change_lines(path, alter)


def key_line(path, change, *, kind="key", server=HUB.name):
    def alter(lines):
        for number, line in enumerate(lines):
            value = json.loads(line)
            if value["kind"] == kind and value["server"] == server:
                change(value)
                lines[number] = json.dumps(value, separators=(",", ":"), sort_keys=False).encode() + b"\n"

    return change_lines(path, alter)


def report_of(path):
    return verify(path, tell=print)


def test_an_untouched_file_holds_from_the_create_event_on(path):
    report = report_of(path)
    assert not report.problems
    assert (report.complete, report.found["event"]) == (True, 8)


def test_a_changed_content_is_told(path):
    changed(path, HELLO, lambda event: event["content"].update(body="hellp"))
    assert problems(path) == [(line_of(HELLO), "content")]


def test_a_changed_type_makes_another_event_of_it(path):
    changed(path, HELLO, lambda event: event.update(type="m.room.massage"))
    assert problems(path) == [(line_of(HELLO), "id")]


def test_an_id_of_another_event_is_told(path, room):
    in_line(path, HELLO, event_id=room.line[HELLO + 1].event_id)
    assert problems(path)[0] == (line_of(HELLO), "id")


@pytest.mark.parametrize("signer", [HUB, PART], ids=["of the hub", "of the sender's server"])
def test_a_foreign_signature_is_told(path, signer):
    def sign(event):
        event["signatures"][signer.name] = {signer.key.key_id: STRANGER.key.sign(b"something else")}

    changed(path, HELLO, sign)
    assert problems(path) == [(line_of(HELLO), "signature")]


def test_what_is_outside_of_every_signature_is_told(path):
    changed(path, HELLO, lambda event: event.update(unsigned={"body": "never said"}))
    assert problems(path) == [(line_of(HELLO), "schema")]


@pytest.mark.parametrize("signer", [HUB, PART], ids=["of the hub", "of the sender's server"])
def test_a_missing_signature_is_told(path, signer):
    changed(path, HELLO, lambda event: event["signatures"].pop(signer.name))
    assert problems(path) == [(line_of(HELLO), "signature")]


def test_swapped_events_are_told(path):
    def swap(lines):
        lines[7], lines[8] = lines[8], lines[7]

    change_lines(path, swap)
    assert problems(path) == [(8, "chain"), (9, "chain"), (len(path.read_bytes().splitlines()), "chain")]


def test_a_dropped_event_is_told_where_it_is_missing(path):
    change_lines(path, lambda lines: lines.pop(HELLO + 1))
    assert problems(path) == [(line_of(HELLO), "chain")]


def test_a_dropped_last_event_is_told(path):
    change_lines(path, lambda lines: lines.pop(8))
    assert [kind for _, kind in problems(path)] == ["chain"]


def test_an_event_of_another_room_is_told(path):
    elsewhere = PeerRoom(HUB, localpart="elsewhere").line[1]
    in_line(path, HELLO, event=elsewhere.event)
    assert problems(path)[0] == (line_of(HELLO), "schema")


def test_an_object_that_is_no_event_is_told(path):
    in_line(path, HELLO, event={"type": "m.room.message"})
    assert (line_of(HELLO), "schema") in problems(path)


def test_a_position_that_is_not_the_next_is_told(path):
    in_line(path, HELLO, position=70)
    assert problems(path) == [(line_of(HELLO), "position"), (line_of(HELLO + 1), "position")]


def test_content_taken_out_without_a_redaction_is_told(room, tmp_path):
    room.line[HELLO] = completion.redacted_copy(room.line[HELLO])
    path = file_of(room, PART, folder=tmp_path)
    assert problems(path) == [(line_of(HELLO), "redaction")]


def test_content_taken_out_by_a_redaction_is_none(room, tmp_path):
    room.add(type="m.room.redaction", content={"redacts": room.line[HELLO].event_id})
    room.line[HELLO] = completion.redacted_copy(room.line[HELLO])
    assert problems(file_of(room, PART, folder=tmp_path)) == []


def test_content_taken_out_of_what_is_said_to_be_whole_is_told(path):
    def take_out(lines):
        event = redact(json.loads(lines[HELLO + 1])["event"])
        lines[HELLO + 1] = respliced(lines[HELLO + 1], event=event)

    change_lines(path, take_out)
    assert problems(path) == [(line_of(HELLO), "content")]


def test_an_event_that_the_rules_refuse_is_told_with_its_rule(room, tmp_path):
    room.add(lpdu=STRANGER.lpdu(room.room_id, hub=HUB.name))
    path = file_of(room, PART, STRANGER, folder=tmp_path)
    told = []
    verify(path, tell=told.append)
    assert [(problem.line, str(problem.kind)) for problem in told] == [(10, "rules")]
    assert "rule 6" in told[0].reason


def test_the_same_event_rejected_is_in_order(room, tmp_path):
    room.add(lpdu=STRANGER.lpdu(room.room_id, hub=HUB.name))
    assert problems(file_of(room, PART, STRANGER, folder=tmp_path, verdicts={8: "rejected"})) == []


def test_an_allowed_event_that_is_said_to_be_rejected_is_told(room, tmp_path):
    path = file_of(room, PART, folder=tmp_path, verdicts={HELLO: "rejected"})
    assert problems(path) == [(line_of(HELLO), "rules")]


def test_an_lpdu_that_is_used_again_may_be_rejected(room, tmp_path):
    lpdu = PART.lpdu(room.room_id, hub=HUB.name, content={"body": "again"})
    room.add(lpdu=lpdu)
    room.add(lpdu=lpdu)
    assert problems(file_of(room, PART, folder=tmp_path, verdicts={9: "rejected"})) == []


def test_a_changed_key_is_told_and_verifies_nothing(path):
    key_line(path, lambda key: key.update(public_key=encode_base64(STRANGER.key.public_key)), server=PART.name)
    lines = path.read_bytes().splitlines()
    assert problems(path) == [(len(lines) - 1, "key"), (line_of(4), "signature"), (line_of(5), "signature")]


def test_a_key_that_is_made_valid_for_longer_is_told(path):
    key_line(path, lambda key: key.update(valid_until_ts=2**50), server=PART.name)
    assert problems(path)[0][1] == "key"


def test_a_changed_answer_about_keys_is_told(path):
    key_line(path, lambda line: line["response"].update(valid_until_ts=2**50), kind="key_response", server=PART.name)
    assert problems(path)[0][1] == "key"


def test_a_key_that_had_run_out_is_told_apart_from_a_wrong_one(room, tmp_path):
    room.add(content={"body": "late"}, ts=now_ms() + 7_200_000)
    assert problems(file_of(room, PART, folder=tmp_path)) == [(10, "key-time")]


def test_a_file_without_its_end_is_told(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert [kind for _, kind in problems(path)] == ["truncated"]


def test_a_file_that_is_cut_off_is_told_in_the_line_where_it_is(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:7])[:-30])
    assert (7, "truncated") in problems(path)
    assert (7, "form") in problems(path)


def test_a_byte_that_no_signature_covers_is_told_by_the_digest(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"exported_at":0', b'"exported_at":1')
    path.write_bytes(b"".join(lines))
    assert problems(path) == [(len(lines), "digest")]


def test_what_comes_after_the_end_is_told(path):
    path.write_bytes(path.read_bytes() + b'{"kind":"gap","before_position":1,"missing_event_id":"$a"}\n')
    assert problems(path)[0][1] == "form"


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"[]\n",
        b"nonsense\n",
        b'{"kind":"other"}\n',
        b'{"kind":[]}\n',
        b'{"before_position":1,"kind":"gap","missing_event_id":"$a"}\n',
        b"\xff\n",
        b"[" * 5000 + b"\n",
    ],
)
def test_a_line_that_is_none_is_told(path, line):
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(3, line)
    path.write_bytes(b"".join(lines))
    assert (4, "form") in problems(path)


def test_an_event_that_is_not_canonical_is_told(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[HELLO + 1] = lines[HELLO + 1].replace(b'"body":"hello"', b'"body": "hello"')
    path.write_bytes(b"".join(lines))
    assert (line_of(HELLO), "form") in problems(path)


@pytest.mark.parametrize("content", [b"", b"\n", b'{"kind":"header"}\n', b'{"kind":"end"}\n'])
def test_a_file_that_is_no_room_is_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(NotARoom):
        report_of(path)


def test_history_that_is_named_as_missing_is_no_fault_but_the_rules_stay_unchecked(room, tmp_path):
    missing = room.line[HELLO]
    path = file_of(room, PART, folder=tmp_path)

    def name_gap(lines):
        gap = {"kind": "gap", "before_position": HELLO + 2, "missing_event_id": missing.event_id}
        lines[HELLO + 1] = json.dumps(gap, separators=(",", ":")).encode() + b"\n"
        lines[0] = lines[0].replace(b'"exported_by":"hub.example.com"', b'"exported_by":"part.example.org"')

    change_lines(path, name_gap)
    assert problems(path) == []
    assert report_of(path).complete is False


def test_an_event_that_was_passed_over_is_named_and_no_fault(room, tmp_path):
    passed, before = room.line[HELLO].event_id, room.line[HELLO - 1].event_id
    path = file_of(room, PART, folder=tmp_path)

    def name_it(lines):
        over = {"kind": "passed_over", "event_id": passed, "predecessor": before}
        lines[HELLO + 1] = json.dumps(over, separators=(",", ":")).encode() + b"\n"
        lines[0] = lines[0].replace(b'"exported_by":"hub.example.com"', b'"exported_by":"part.example.org"')

    change_lines(path, name_it)
    assert problems(path) == []


def test_it_is_verified_without_settings_or_a_database(path):
    command = [sys.executable, "-m", "rooms.export", "verify", str(path)]
    project = Path(__file__).resolve().parents[2]
    environment = {"PATH": os.environ["PATH"]}
    run = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "holds" in run.stdout
    changed(path, HELLO, lambda event: event["content"].update(body="hellp"))
    run = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout.startswith(f"line {line_of(HELLO)}: content: $")


def test_what_a_file_says_cannot_steer_a_terminal(path):
    in_line(path, HELLO, event_id="$\x1b[31m\nline 1: holds")
    command = [sys.executable, "-m", "rooms.export", "verify", str(path)]
    run = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False)
    assert "\x1b" not in run.stdout
    assert "\nline 1: holds" not in run.stdout
    assert f"line {line_of(HELLO)}: id: $" in run.stdout


def test_verifying_imports_nothing_of_django():
    command = [sys.executable, "-c", "import rooms.export.__main__, sys; sys.exit('django' in sys.modules)"]
    assert subprocess.run(command, cwd=Path(__file__).resolve().parents[2], check=False).returncode == 0
