"""A room's file: what is in it, byte for byte, and that it is the room at one moment."""

import hashlib
import json
from io import BytesIO

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys import local
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.hashes import event_id_of, signed_bytes
from rooms.creation import create_room
from rooms.export.writing import PAGE, export_room
from rooms.findings import record
from rooms.history import insert_history
from rooms.hub import append_own
from rooms.models import Event, Gap, Room
from rooms.participant import begin_stay
from tests.support.files import exported, lines_of, problems
from tests.support.hosted import CREATOR
from tests.support.lines import in_thread
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import US, Peer, now_ms
from tests.support.reading import append_event

pytestmark = pytest.mark.django_db(transaction=True)

HUB, WE = Peer("elsewhere.example.org"), Peer(US)


class Interrupted(BytesIO):
    """A file during whose first line something happens elsewhere."""

    def __init__(self, meanwhile):
        super().__init__()
        self._meanwhile = meanwhile

    def write(self, line):
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            with in_thread(meanwhile):
                pass
        return super().write(line)


@pytest.fixture
def taking_part(transactional_db, settings, tmp_path):
    """A room on another hub that Alice has joined; its history is missing."""
    HUB.publish()
    room = PeerRoom(HUB)
    for number in range(4):
        room.add(content={"n": number})
    state = room.state_before(len(room.line))
    pdu = room.add(lpdu=WE.join(room.room_id, "alice", hub=HUB.name))
    begin_stay(
        room_id=room.room_id, hub=HUB.name, version=room.version, state=state, auth_chain=[], join=pdu,
        now=timezone.now(),
    )  # fmt: skip
    # Alice's join was signed by the peer of our name: its key is ours.
    settings.SIGNING_KEY_FILE = tmp_path / "signing.key"
    seed = hashlib.sha256(US.encode()).digest()
    settings.SIGNING_KEY_FILE.write_text(f"ed25519 1 {encode_base64(seed)}\n")
    settings.SIGNING_KEY_FILE.chmod(0o600)
    return room


def fill(room, **options):
    insert_history(Gap.objects.get(), room.line, now=timezone.now(), **options)


def export_of(room_id, folder):
    path = folder / "room.jsonl"
    with path.open("wb") as file:
        export_room(room_id, file, now=timezone.now())
    return path


def kinds(path):
    return [line["kind"] for line in lines_of(path)]


def test_the_line_is_there_in_order_byte_for_byte(joined, tmp_path):
    path = exported(joined, tmp_path)
    texts = Event.objects.order_by("position").values_list("json", flat=True)
    events = [line for line in path.read_bytes().splitlines() if b'"kind":"event"' in line]
    assert [line.partition(b',"event":')[2][:-1].decode() for line in events] == list(texts)


def test_the_last_line_has_the_digest_of_all_before_it(joined, tmp_path):
    *lines, last = exported(joined, tmp_path).read_bytes().splitlines(keepends=True)
    assert json.loads(last)["sha256"] == hashlib.sha256(b"".join(lines)).hexdigest()
    assert json.loads(last)["counts"]["event"] == Room.objects.get().head_position


def test_what_is_exported_holds(joined, peer, tmp_path):
    first = append_event(joined)
    append_event(joined, "m.room.redaction", {"redacts": first})
    assert problems(exported(joined, tmp_path)) == []


def test_it_ends_with_the_event_that_was_last_when_it_began(joined, tmp_path):
    head = Room.objects.get().head_event_id
    out = Interrupted(lambda: append_event(joined))
    export_room(joined.room_id, out, now=timezone.now())
    assert Room.objects.get().head_event_id != head
    path = tmp_path / "room.jsonl"
    path.write_bytes(out.getvalue())
    assert [line["event_id"] for line in lines_of(path) if line["kind"] == "event"][-1] == head
    assert problems(path) == []


def test_a_redaction_meanwhile_takes_nothing_out_of_it(joined, tmp_path):
    message = append_event(joined, content={"body": "regretted"})
    out = Interrupted(lambda: append_event(joined, "m.room.redaction", {"redacts": message}))
    export_room(joined.room_id, out, now=timezone.now())
    assert "regretted" not in Event.objects.get(event_id=message).json
    path = tmp_path / "room.jsonl"
    path.write_bytes(out.getvalue())
    assert b"regretted" in path.read_bytes()
    assert problems(path) == []


def test_keys_that_sign_no_more_come_with_their_time(settings, peer, tmp_path, hosted):
    settings.SIGNING_KEY_FILE = tmp_path / "signing.key"
    room = create_room(creator="@creator:hub.example.org", now=timezone.now())
    old = local.signing_key().key_id
    local.rotate(replaced=old, now_ms=now_ms())
    append_event(room)
    path = exported(room, tmp_path)
    keys = {line["key_id"]: line["expired_ts"] for line in lines_of(path) if line["kind"] == "key"}
    assert keys[old] is not None
    assert keys[local.signing_key().key_id] is None
    assert problems(path) == []


def test_history_that_is_missing_is_named_where_it_is(taking_part, tmp_path):
    path = export_of(taking_part.room_id, tmp_path)
    assert problems(path) == []
    assert kinds(path)[:1] == ["header"]
    assert kinds(path).count("outlier") == len(taking_part.state_before(len(taking_part.line) - 1))
    index = kinds(path).index("gap")
    assert lines_of(path)[index]["missing_event_id"] == taking_part.line[-2].event_id
    assert lines_of(path)[index + 1]["event_id"] == taking_part.line[-1].event_id


def test_with_its_history_a_participants_copy_is_complete(taking_part, tmp_path):
    fill(taking_part)
    path = export_of(taking_part.room_id, tmp_path)
    assert problems(path) == []
    assert {"gap", "outlier", "server"}.isdisjoint(kinds(path))
    assert kinds(path).count("event") == len(taking_part.line)


def test_events_that_were_passed_over_are_named_where_they_were(taking_part, tmp_path):
    passed, before = taking_part.line[6], taking_part.line[5]
    room = Room.objects.get()
    record(room, "invalid", passed.event_id, "no event", predecessor=before.event_id)
    rest = [pdu for pdu in taking_part.line if pdu is not passed]
    insert_history(Gap.objects.get(), rest, now=timezone.now(), passed_over={passed.event_id: before.event_id})
    path = export_of(taking_part.room_id, tmp_path)
    index = kinds(path).index("passed_over")
    assert lines_of(path)[index] == {
        "kind": "passed_over", "event_id": passed.event_id, "predecessor": before.event_id,
    }  # fmt: skip
    assert lines_of(path)[index - 1]["event_id"] == before.event_id
    assert problems(path) == []


def test_a_stranger_can_recompute_an_id_from_the_line_alone(joined, tmp_path):
    for line in lines_of(exported(joined, tmp_path)):
        if line["kind"] == "event":
            assert event_id_of(signed_bytes(line["event"])) == line["event_id"]


def test_a_later_page_is_read_by_the_same_statement_as_an_earlier_one(joined):
    now = timezone.now()
    message = WE.event(joined.room_id)
    events = [{**message, "sender": CREATOR, "content": {"n": number}} for number in range(2 * PAGE + 1)]
    append_own(joined.room_id, events, now=now)
    with CaptureQueriesContext(connection) as captured:
        export_room(joined.room_id, BytesIO(), now=now)
    pages = [query["sql"] for query in captured if f"LIMIT {PAGE}" in query["sql"]]
    assert len(pages) > 3
    assert {sql.count('"position" >') for sql in pages[1:]} == {1}


def test_a_room_that_is_not_known_is_not_exported(transactional_db):
    with pytest.raises(Room.DoesNotExist):
        export_room("!none:hub.example.org", BytesIO(), now=timezone.now())
