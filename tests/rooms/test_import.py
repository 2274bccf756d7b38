"""Rooms out of files: hosted again, taken part in again, or kept as an archive; never two lines out of one."""

import json

import pytest
from django.utils import timezone

from federation import handshakes
from federation.errors import ApiError
from federation.models import Destination
from keys.models import ServerKey
from linmatrix.protocol.signing import SigningKey
from rooms.importing import NeedsConsent, Refused, import_room
from rooms.models import Event, Redaction, Room, RoomServer, StateEntry
from rooms.state import members
from tests.support import broker  # noqa: F401  wake-ups go nowhere
from tests.support.files import change_lines, exported, file_of, forget, lines_of, problems, respliced
from tests.support.hosted import membership, snapshot
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import US, Peer
from tests.support.reading import append_event, append_state

pytestmark = pytest.mark.django_db(transaction=True)

HUB = Peer("elsewhere.example.org")
EVENT_COLUMNS = (
    "event_id", "position", "lpdu_id", "type", "state_key", "sender", "origin_server_ts", "json", "verdict", "reason",
)  # fmt: skip
STAY_COLUMNS = ("server", "joined_position", "left_position", "sent_position", "joined_users")


def take(path, **options):
    return import_room(path, now=timezone.now(), **options)


def everything(room_id):
    """All of a room but times of our own, row numbers, and what we would send to ourselves."""
    room = Room.objects.values("version", "role", "hub_server", "head_position", "head_event_id", "blocked")
    stays = RoomServer.objects.filter(room=room_id).exclude(server=US)
    entries = StateEntry.objects.filter(room=room_id)
    redactions = Redaction.objects.filter(room=room_id)
    return {
        "room": room.get(pk=room_id),
        "events": list(Event.objects.filter(room=room_id).order_by("position").values_list(*EVENT_COLUMNS)),
        "state": set(entries.values_list("type", "state_key", "event_id", "position", "replaced_at")),
        "redactions": set(redactions.values_list("event_id", "sender", "redacts", "for_all", "applied")),
        "stays": set(stays.values_list(*STAY_COLUMNS)),
    }


@pytest.fixture
def lively(joined, peer):
    """A room that we host in which all kinds of things have happened, with two stays of the peer's."""
    first = append_event(joined)
    append_state(joined, "m.room.topic", {"topic": "before"})
    append_state(joined, "m.room.topic", {"topic": "after"})
    membership(joined, peer.user("user"), "leave")
    append_event(joined, "m.room.redaction", {"redacts": first})
    assert (
        peer.request("POST", "/_matrix/federation/v3/send_join/again", peer.join(joined.room_id).event).status_code
        == 200
    )
    append_event(joined)
    head = Room.objects.get().head_position
    RoomServer.objects.filter(server=peer.name, left_position__isnull=False).update(sent_position=9)
    RoomServer.objects.filter(server=peer.name, left_position__isnull=True).update(sent_position=head - 1)
    return joined


def elsewhere():
    """A room of another server's."""
    room = PeerRoom(HUB)
    room.add(content={"body": "one"})
    return room


def test_a_room_that_we_hosted_is_the_same_again(lively, tmp_path):
    before = everything(lively.room_id)
    path = exported(lively, tmp_path)
    forget(lively.room_id)
    imported = take(path, consent=True)
    assert imported.new_events == len(before["events"])
    assert everything(lively.room_id) == before


def test_its_file_is_the_same_again_but_for_the_time(lively, tmp_path):
    path = exported(lively, tmp_path)
    forget(lively.room_id)
    take(path, consent=True)
    again = exported(lively, tmp_path, name="again.jsonl")
    events = [line for line in lines_of(path) if line["kind"] in ("event", "server")]
    assert [line for line in lines_of(again) if line["kind"] in ("event", "server")] == events


def test_hosting_it_again_takes_the_operators_word_that_nobody_has_more(lively, tmp_path):
    path = exported(lively, tmp_path)
    forget(lively.room_id)
    with pytest.raises(NeedsConsent, match="parts in two"):
        take(path)
    assert not Room.objects.exists()
    assert not Event.objects.exists()


def test_what_a_server_had_not_been_sent_is_sent_after_all(lively, peer, tmp_path):
    path = exported(lively, tmp_path)
    forget(lively.room_id)
    Destination.objects.all().delete()
    take(path, consent=True)
    assert Destination.objects.get(server=peer.name).pending


def test_without_the_hubs_cursors_a_server_is_sent_its_stay_from_the_beginning(lively, peer, tmp_path):
    path = exported(lively, tmp_path)
    change_lines(path, lambda lines: [lines.remove(line) for line in list(lines) if b'"kind":"server"' in line])
    forget(lively.room_id)
    take(path, consent=True)
    stays = RoomServer.objects.filter(server=peer.name)
    assert all(stay.sent_position == stay.joined_position - 1 for stay in stays)


def test_a_participant_that_has_the_old_line_takes_what_follows(lively, peer, tmp_path):
    path = exported(lively, tmp_path)
    head = Room.objects.get().head_event_id
    forget(lively.room_id)
    take(path, consent=True)
    event_id = append_event(lively)
    event = json.loads(Event.objects.get(event_id=event_id).json)
    assert event["prev_events"] == [head]
    lpdu = peer.lpdu(lively.room_id, content={"body": "and on"})
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    assert Event.objects.get(lpdu_id=lpdu.lpdu_id).position == Room.objects.get().head_position


def test_a_second_time_nothing_is_new(lively, tmp_path):
    path = exported(lively, tmp_path)
    forget(lively.room_id)
    take(path, consent=True)
    before = snapshot(lively)
    assert take(path).new_events == 0
    assert snapshot(lively) == before


def test_a_shorter_line_gets_what_it_lacks(lively, tmp_path):
    shorter = exported(lively, tmp_path, name="shorter.jsonl")
    membership(lively, "@bob:hub.example.org", "invite")
    append_event(lively)
    path = exported(lively, tmp_path)
    before = everything(lively.room_id)
    forget(lively.room_id)
    take(shorter, consent=True)
    with pytest.raises(NeedsConsent):
        take(path)
    assert take(path, consent=True).new_events == 2
    assert everything(lively.room_id) == before


def test_a_line_that_has_parted_is_refused_and_nothing_changes(lively, tmp_path):
    shorter = exported(lively, tmp_path, name="shorter.jsonl")
    append_event(lively)
    path = exported(lively, tmp_path)
    forget(lively.room_id)
    take(shorter, consent=True)
    append_event(lively)
    before = snapshot(lively)
    with pytest.raises(Refused, match="parted"):
        take(path, consent=True)
    assert snapshot(lively) == before


def test_an_older_file_changes_nothing(lively, tmp_path):
    path = exported(lively, tmp_path)
    append_event(lively)
    before = snapshot(lively)
    assert take(path).new_events == 0
    assert snapshot(lively) == before


def test_a_file_that_does_not_hold_is_refused(lively, tmp_path):
    path = exported(lively, tmp_path)

    def change(lines):
        event = json.loads(lines[8])["event"]
        event["content"]["body"] = "other"
        lines[8] = respliced(lines[8], event=event)

    change_lines(path, change)
    forget(lively.room_id)
    with pytest.raises(Refused, match="line 9: content") as refused:
        take(path, consent=True)
    assert not isinstance(refused.value, NeedsConsent)
    assert not Room.objects.exists()


def test_events_by_a_key_that_is_not_ours_are_no_room_of_ours(tmp_path):
    room = PeerRoom(Peer(US))
    path = file_of(room, folder=tmp_path)
    assert problems(path) == []
    with pytest.raises(Refused, match=r"ed25519:1, which this server does not have"):
        take(path, consent=True)


def test_a_room_of_another_server_is_an_archive(tmp_path):
    HUB.publish()
    room = elsewhere()
    imported = take(file_of(room, folder=tmp_path))
    assert imported.is_archive
    assert (imported.room.role, imported.room.blocked) == ("participant", True)
    assert list(Event.objects.order_by("position").values_list("event_id", flat=True)) == [
        pdu.event_id for pdu in room.line
    ]
    assert members(room.room_id) == {HUB.user("user"): "join"}
    assert not Destination.objects.exists()


def test_its_keys_are_kept_for_events_and_never_for_requests(tmp_path):
    path = file_of(elsewhere(), folder=tmp_path)
    with pytest.raises(NeedsConsent, match=f"{HUB.name} ed25519:1"):
        take(path)
    assert not ServerKey.objects.exists()
    take(path, consent=True)
    row = ServerKey.objects.get(server=HUB.name)
    assert (row.current, row.notary) == (False, HUB.name)
    assert bytes(row.public_key) == HUB.key.public_key


def test_an_archive_can_be_exported_and_holds(tmp_path):
    room = elsewhere()
    take(file_of(room, folder=tmp_path), consent=True)
    path = exported(Room.objects.get(), tmp_path, name="again.jsonl")
    assert problems(path) == []
    assert [line["kind"] for line in lines_of(path)].count("key") == 1


def test_a_room_signed_anew_by_keys_of_ones_own_takes_the_operators_word(tmp_path):
    HUB.publish()
    forger = Peer(HUB.name)
    forger.key = Peer("forger.example.org").key
    path = file_of(PeerRoom(forger), folder=tmp_path)
    assert problems(path) == []
    with pytest.raises(NeedsConsent, match="does not have"):
        take(path)


def test_a_file_with_gaps_is_refused(tmp_path):
    room = elsewhere()
    path = file_of(room, folder=tmp_path)

    def name_gap(lines):
        gap = {"kind": "gap", "before_position": 5, "missing_event_id": room.line[3].event_id}
        lines[4] = json.dumps(gap, separators=(",", ":")).encode() + b"\n"
        lines[0] = lines[0].replace(b'"exported_by":"elsewhere.example.org"', b'"exported_by":"part.example.org"')

    change_lines(path, name_gap)
    with pytest.raises(Refused, match="gaps"):
        take(path)


def test_a_room_under_another_hub_is_refused(tmp_path):
    room = elsewhere()
    Room.objects.create(room_id=room.room_id, version=room.version, role="participant", hub_server="third.example.org")
    with pytest.raises(Refused, match=r"known with the hub third.example.org"):
        take(file_of(room, folder=tmp_path))


def test_who_goes_on_with_a_room_by_a_key_of_ones_own_takes_the_operators_word(tmp_path):
    HUB.publish()
    room = elsewhere()
    take(file_of(room, folder=tmp_path))
    before = snapshot(Room.objects.get())
    forger = Peer(HUB.name)
    forger.key = SigningKey.from_seed("ed25519:new", b"f" * 32)
    room.hub = forger
    room.add(content={"body": "never said"})
    path = file_of(room, HUB, folder=tmp_path)
    assert problems(path) == []
    with pytest.raises(NeedsConsent, match=f"{HUB.name} ed25519:new"):
        take(path)
    assert snapshot(Room.objects.get()) == before
    assert ServerKey.objects.count() == 1


def test_nobody_takes_part_in_a_room_by_a_join_that_our_keys_have_not_signed(tmp_path):
    HUB.publish()
    we = Peer(US)
    room = elsewhere()
    room.add(lpdu=we.join(room.room_id, "alice", hub=HUB.name))
    path = file_of(room, we, folder=tmp_path)
    assert problems(path) == []
    with pytest.raises(NeedsConsent, match=f"{US} ed25519:1"):
        take(path)
    assert not Room.objects.exists()


def test_what_nobody_has_signed_does_not_come_in_beside_an_event(lively, tmp_path):
    path = exported(lively, tmp_path)

    def change(lines):
        event = json.loads(lines[8])["event"]
        lines[8] = respliced(lines[8], event={**event, "unsigned": {"body": "never said"}})

    change_lines(path, change)
    forget(lively.room_id)
    with pytest.raises(Refused, match="line 9: schema"):
        take(path, consent=True)


def test_one_word_is_given_for_all_risks_so_all_are_named(lively, peer, tmp_path):
    path = exported(lively, tmp_path)
    forget(lively.room_id)
    ServerKey.objects.all().delete()
    with pytest.raises(NeedsConsent, match=rf"{peer.name} ed25519:1.*parts in two"):
        take(path)


def test_an_archive_is_not_joined_while_it_is_blocked(tmp_path):
    room = elsewhere()
    take(file_of(room, folder=tmp_path), consent=True)
    for enter in (handshakes.join, handshakes.knock):
        with pytest.raises(ApiError, match="blocked on this server"):
            enter(room_id=room.room_id, user_id="@alice:hub.example.org")
