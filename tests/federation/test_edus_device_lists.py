"""Device list updates: to exactly the servers that share a room with the user, each change once, whole lists to new
ones, nothing after the last shared room."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module
from itertools import count
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from federation import tasks
from federation.client import Answer
from federation.delivery import step
from federation.edus import spreading
from federation.edus.device_lists import CHUNK_BYTES
from federation.edus.outgoing import settle
from federation.edus.spreading import spread
from federation.gathering import MAX_EDUS
from federation.isolation import send_again
from federation.models import Destination, DeviceListCursor, DeviceListNotice, OutboundTransaction
from keys.devices.storing import delete_device
from keys.models import Device, DeviceList
from linmatrix.protocol import canonical_json
from linmatrix.protocol.events import Pdu
from rooms.append import open_line
from rooms.creation import create_room
from rooms.models import Room, RoomServer
from tests.scenarios.waiting import eventually
from tests.support.edus import make_device
from tests.support.hosted import CREATOR, membership, send_join
from tests.support.lines import in_thread, somebody_waits, wait_until_blocked
from tests.support.peers import Peer
from tests.support.remote import UNREACHABLE, Remote
from tests.support.stepping import run

ALICE, CAROL = "@alice:hub.example.org", "@carol:hub.example.org"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def room(transactional_db: None) -> Room:
    return public("a")


@pytest.fixture
def bob(transactional_db: None) -> Peer:
    return Peer("bob.example.org").publish()


def public(name: str) -> Room:
    return create_room(creator=CREATOR, now=timezone.now(), join_rule="public", name=name)


def join(peer: Peer, room: Room, localpart: str = "user") -> None:
    response = send_join(peer, peer.join(room.room_id, localpart), f"{room.room_id[1:9]}{localpart}{timezone.now()}")
    assert response.status_code == 200, response.content


def leave(peer: Peer, room: Room, localpart: str = "user") -> None:
    membership(room, peer.user(localpart), "leave")


def join_ours(room: Room, user_id: str) -> None:
    membership(room, user_id, "join", sender=user_id)


def updates(server: str) -> list[tuple[str, list[str], list[str]]]:
    """What is sent to a server now: user, changed and removed devices of each update."""
    remote = Remote()
    run(remote, server)
    return contents(remote)


def contents(remote: Remote) -> list[tuple[str, list[str], list[str]]]:
    edus = [edu for request in remote.acknowledged for edu in canonical_json.loads(request.body)["edus"]]
    assert all(edu["sender"] == edu["sender_id"] and edu["type"] == "m.device_list_update" for edu in edus)
    return [
        (
            edu["sender"],
            [device["device_id"] for device in edu["content"]["changed"]],
            edu["content"]["removed"],
        )
        for edu in edus
    ]


def work() -> None:
    """Go through all notices, as a worker does."""
    while spread():
        pass
    assert not DeviceListNotice.objects.exists()


def test_a_change_is_told_to_a_server_that_shares_a_room_and_to_no_other(room: Room, bob: Peer) -> None:
    other = Peer("other.example.org").publish()
    join(bob, room)
    join(other, public("without alice"))
    join_ours(room, ALICE)
    work()
    assert updates(bob.name) == [], "no devices, nothing to tell"
    value = make_device(ALICE)
    work()
    remote = Remote()
    run(remote, bob.name)
    assert contents(remote) == [(ALICE, ["PHONE"], [])]
    (edu,) = canonical_json.loads(remote.acknowledged[0].body)["edus"]
    assert edu["content"]["changed"] == [value], "as the device signed it"
    assert updates(bob.name) == updates(other.name) == []


def test_each_change_is_told_once_and_only_what_changed(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR, "A")
    make_device(CREATOR, "B")
    work()
    assert updates(bob.name) == [(CREATOR, ["A", "B"], [])]
    make_device(CREATOR, "A", generation=1)
    work()
    assert updates(bob.name) == [(CREATOR, ["A"], [])]
    delete_device(CREATOR, "B", now=timezone.now())
    work()
    assert updates(bob.name) == [(CREATOR, [], ["B"])]
    assert updates(bob.name) == []


def test_a_server_that_newly_shares_a_room_gets_the_whole_list_of_everybody_there(room: Room, bob: Peer) -> None:
    make_device(CREATOR, "A")
    make_device(CREATOR, "GONE")
    delete_device(CREATOR, "GONE", now=timezone.now())
    join_ours(room, ALICE)
    make_device(ALICE, "B")
    make_device(CAROL, "ELSEWHERE")
    work()
    join(bob, room)
    work()
    assert updates(bob.name) == [(ALICE, ["B"], []), (CREATOR, ["A"], ["GONE"])]
    join(bob, room, "second")
    work()
    assert updates(bob.name) == [], "the server was there already"


def test_a_name_that_postgresql_cannot_read_keeps_nobody_from_being_told(room: Room, bob: Peer) -> None:
    join(bob, room)
    for user_id, membership_ in ((ALICE, "join"), (CAROL, "leave")):
        content = {"displayname": 'a\0"\\', "membership\n": "join", "membership": membership_}
        with open_line(room.room_id, now=timezone.now()) as line:
            line.append(_member(room, user_id, content))
        make_device(user_id)
    make_device(CREATOR)
    work()
    assert updates(bob.name) == [(ALICE, ["PHONE"], []), (CREATOR, ["PHONE"], [])]


def test_a_user_of_ours_who_joins_is_told_of_to_all_servers_there(room: Room, bob: Peer) -> None:
    other = Peer("other.example.org").publish()
    make_device(ALICE)
    for peer in (bob, other):
        join(peer, room)
    work()
    assert updates(bob.name) == []
    join_ours(room, ALICE)
    work()
    assert updates(bob.name) == updates(other.name) == [(ALICE, ["PHONE"], [])]


@pytest.mark.parametrize("who", ["the server", "the user"])
def test_nothing_is_told_after_the_last_shared_room_is_left(room: Room, bob: Peer, who: str) -> None:
    second = public("second")
    for each in (room, second):
        join(bob, each)
        join_ours(each, ALICE)
    make_device(ALICE, "A")
    work()
    assert updates(bob.name) == [(ALICE, ["A"], [])]
    _part(room, bob, who)
    make_device(ALICE, "B")
    work()
    assert updates(bob.name) == [(ALICE, ["B"], [])], "they share a room still"
    _part(second, bob, who)
    make_device(ALICE, "C")
    work()
    assert updates(bob.name) == []
    assert not DeviceListCursor.objects.filter(user_id=ALICE).exists()


def _part(room: Room, bob: Peer, who: str) -> None:
    if who == "the server":
        leave(bob, room)
    else:
        membership(room, ALICE, "leave", sender=ALICE)


def test_what_was_due_when_the_last_shared_room_was_left_is_not_told_although_no_worker_has_seen_the_leave(
    room: Room, bob: Peer
) -> None:
    join(bob, room)
    join_ours(room, ALICE)
    make_device(ALICE)
    work()
    leave(bob, room)
    assert DeviceListNotice.objects.exists()
    assert updates(bob.name) == []
    assert not Destination.objects.get(server=bob.name).pending


def test_a_server_that_shares_a_room_again_gets_the_whole_list_again(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR, "A")
    make_device(CREATOR, "B")
    work()
    assert updates(bob.name) == [(CREATOR, ["A", "B"], [])]
    leave(bob, room)
    work()
    delete_device(CREATOR, "B", now=timezone.now())
    join(bob, room)
    work()
    assert updates(bob.name) == [(CREATOR, ["A"], ["B"])]


def test_a_server_that_shares_a_room_again_while_an_update_is_under_way_gets_the_whole_list(
    room: Room, bob: Peer
) -> None:
    join(bob, room)
    make_device(CREATOR)
    work()

    def leaves_and_joins() -> None:
        leave(bob, room)
        work()
        join(bob, room)
        work()

    remote = Remote.answering(leaves_and_joins)
    run(remote, bob.name)
    assert contents(remote) == 2 * [(CREATOR, ["PHONE"], [])]


@pytest.mark.parametrize("first", ["the server", "the user"])
def test_both_leave_one_right_after_the_other_and_nothing_is_left_behind(room: Room, bob: Peer, first: str) -> None:
    join(bob, room)
    join_ours(room, ALICE)
    make_device(ALICE)
    work()
    updates(bob.name)
    _part(room, bob, first)
    _part(room, bob, "the user" if first == "the server" else "the server")
    work()
    assert not DeviceListCursor.objects.filter(user_id=ALICE).exists()


def test_a_server_that_is_away_is_told_once_of_all_that_changed_meanwhile(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR, "A")
    work()
    updates(bob.name)
    for generation in range(1, 6):
        make_device(CREATOR, "A", generation=generation)
        make_device(CREATOR, "B", generation=generation)
        work()
    delete_device(CREATOR, "B", now=timezone.now())
    work()
    assert DeviceListCursor.objects.count() == 1, "nothing piles up"
    assert updates(bob.name) == [(CREATOR, ["A"], ["B"])]


def test_what_changes_while_an_update_is_under_way_is_in_the_next_one(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR, "A")
    work()
    remote = Remote.answering(UNREACHABLE)
    run(remote, bob.name)
    make_device(CREATOR, "B")
    work()
    Destination.objects.update(next_attempt=None)
    run(remote, bob.name)
    assert remote.received[0].body == remote.received[1].body
    assert contents(remote) == [(CREATOR, ["A"], []), (CREATOR, ["B"], [])]


def test_an_update_that_a_peer_does_not_take_is_set_aside_and_later_ones_are_told(room: Room, bob: Peer) -> None:
    refuse_device(bob, room, "A")
    make_device(CREATOR, "B")
    work()
    assert updates(bob.name) == [(CREATOR, ["B"], [])]


def test_an_update_that_is_sent_again_is_followed_by_all_that_changed_since_it_was_made(room: Room, bob: Peer) -> None:
    refuse_device(bob, room, "A")
    make_device(CREATOR, "B")
    delete_device(CREATOR, "A", now=timezone.now())
    work()
    assert updates(bob.name) == [(CREATOR, ["B"], ["A"])]
    assert send_again(OutboundTransaction.objects.all()) == 1
    assert updates(bob.name) == [(CREATOR, ["A"], []), (CREATOR, ["B"], ["A"])]
    assert updates(bob.name) == []


def test_an_update_in_a_transaction_of_an_earlier_version_is_noted_by_its_cursor(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR)
    work()
    run(Remote.answering(UNREACHABLE), bob.name)
    row = OutboundTransaction.objects.get()
    [[cursor, told]] = row.edus
    OutboundTransaction.objects.update(edus=[7, [CREATOR, told], [ALICE, told]])
    with connection.cursor() as statements:
        statements.execute(import_module("federation.migrations.0007_marks_by_cursor")._BY_CURSOR)
    row.refresh_from_db()
    assert row.edus == [7, [cursor, told], [0, told]]


def refuse_device(peer: Peer, room: Room, device_id: str) -> None:
    """Have a server that joins refuse the update of a new device until that is set aside."""
    join(peer, room)
    work()
    updates(peer.name)
    make_device(CREATOR, device_id)
    work()
    minutes = count(1)
    started = timezone.now()
    refusing = Remote.answering(*[Answer(500, {})] * 3, lambda: None, Answer(500, {}))
    while not OutboundTransaction.objects.filter(set_aside_at__isnull=False).exists():
        step(peer.name, holder="w", send=refusing, clock=lambda: started + timedelta(minutes=next(minutes)))
    Destination.objects.update(lease_until=None, next_attempt=None)


def test_a_long_list_is_told_in_parts_none_of_which_is_left_out(room: Room, bob: Peer) -> None:
    join(bob, room)
    ids = devices(CREATOR, number=40, size=10_000)
    work()
    remote = Remote()
    run(remote, bob.name)
    told = contents(remote)
    assert [device_id for _, changed, _ in told for device_id in changed] == ids
    assert all(sum(10_000 for _ in changed) <= CHUNK_BYTES for _, changed, _ in told)
    assert all(len(request.body) <= settings.LIMITS.transaction_bytes for request in remote.acknowledged)
    assert updates(bob.name) == []


def test_more_users_than_places_are_told_of_in_several_transactions(room: Room, bob: Peer) -> None:
    users = [f"@u{number:03}:hub.example.org" for number in range(110)]
    join(bob, room)
    with open_line(room.room_id, now=timezone.now()) as line:
        for user_id in users:
            line.append(_member(room, user_id))
    for user_id in users:
        devices(user_id, number=1, size=100)
    work()
    told = [user_id for user_id, _, _ in updates(bob.name)]
    assert told == users


def test_users_of_whom_nothing_is_left_to_tell_do_not_keep_others_waiting(room: Room, bob: Peer) -> None:
    join(bob, room)
    users = [f"@a{number:03}:hub.example.org" for number in range(2 * MAX_EDUS)]
    with open_line(room.room_id, now=timezone.now()) as line:
        for user_id in users:
            line.append(_member(room, user_id))
    assert updates(bob.name) == []
    make_device(CREATOR)
    DeviceList.objects.bulk_create(DeviceList(user_id=user_id, stream_id=1) for user_id in users)
    work()
    assert updates(bob.name) == [(CREATOR, ["PHONE"], [])]
    assert not DeviceListCursor.objects.filter(told__lt=F("wanted")).exists()


def devices(user_id: str, *, number: int, size: int) -> list[str]:
    """Devices as rows that nobody has signed, and what follows when they change."""
    ids = [f"D{position:03}" for position in range(number)]
    rows = [
        Device(
            user_id=user_id,
            device_id=device_id,
            json=canonical_json.dumps({"device_id": device_id, "x": "x" * size}).decode(),
            stream_id=stream_id,
            changed_at=timezone.now(),
        )
        for stream_id, device_id in enumerate(ids, start=1)
    ]
    with transaction.atomic():
        Device.objects.bulk_create(rows)
        DeviceList.objects.create(user_id=user_id, stream_id=number)
        spreading.note_change(user_id)
    return ids


def test_a_room_that_another_server_hosts_is_shared_as_well(bob: Peer) -> None:
    room = Room.objects.create(room_id=f"!theirs:{bob.name}", version="I.1", role="participant", hub_server=bob.name)
    for server in (bob.name, "third.example.org", settings.SERVER_NAME):
        RoomServer.objects.create(room=room, server=server, joined_position=1, sent_position=0, joined_users=1)
    with open_line(room.room_id, now=timezone.now()) as line:
        line.append(_member(room, ALICE))
    make_device(ALICE)
    work()
    assert updates(bob.name) == updates("third.example.org") == [(ALICE, ["PHONE"], [])]


def _member(room: Room, user_id: str, content: dict[str, str] | None = None) -> Any:
    event = {
        "room_id": room.room_id,
        "type": "m.room.member",
        "state_key": user_id,
        "sender": user_id,
        "content": content or {"membership": "join"},
        "origin_server_ts": 1,
    }
    return Pdu(
        event=event,
        event_id=f"${user_id[1:].partition(':')[0]}",
        lpdu_id=None,
        redacted=False,
        encoded=canonical_json.dumps(event),
    )


# Going through notices


def test_a_notice_is_gone_through_in_batches_and_from_where_a_worker_died(room: Room, bob: Peer) -> None:
    servers = [f"s{number:04}.example.org" for number in range(1_100)]
    stays(room, servers)
    make_device(CREATOR)
    assert spread(seconds=0.0001)
    first = DeviceListCursor.objects.count()
    assert first == spreading.PAIRS
    work()
    assert set(DeviceListCursor.objects.values_list("destination_id", flat=True)) == set(servers)
    assert Destination.objects.filter(pending=True).count() == len(servers)


def test_pairs_of_many_users_and_servers_are_all_gone_through(room: Room) -> None:
    users = [f"@u{number:03}:hub.example.org" for number in range(60)]
    servers = [f"s{number:04}.example.org" for number in range(30)]
    stays(room, servers)
    with open_line(room.room_id, now=timezone.now()) as line:
        for user_id in users:
            line.append(_member(room, user_id))
    DeviceListNotice.objects.all().delete()
    DeviceList.objects.bulk_create(DeviceList(user_id=user_id, stream_id=1) for user_id in users)
    spreading.note_moves(room.room_id, since_position=1, users=users, servers=[])
    assert DeviceListNotice.objects.count() == 1
    work()
    assert DeviceListCursor.objects.count() == len(users) * len(servers)


def test_a_server_that_comes_to_more_users_than_a_batch_has_is_told_of_all(room: Room, bob: Peer) -> None:
    users = [f"@u{number:04}:hub.example.org" for number in range(2 * spreading.PAIRS + 1)]
    stays(room, [bob.name])
    with open_line(room.room_id, now=timezone.now()) as line:
        for user_id in users:
            line.append(_member(room, user_id))
    DeviceListNotice.objects.all().delete()
    DeviceList.objects.bulk_create(DeviceList(user_id=user_id, stream_id=1) for user_id in users)
    spreading.note_moves(room.room_id, since_position=1, users=[], servers=[bob.name])
    work()
    assert DeviceListCursor.objects.count() == len(users)


def stays(room: Room, servers: Iterable[str]) -> None:
    RoomServer.objects.bulk_create(
        RoomServer(room=room, server=server, joined_position=1, sent_position=room.head_position, joined_users=1)
        for server in servers
    )


def test_what_a_worker_did_before_it_could_note_its_progress_is_done_again_without_harm(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR)
    notices = list(DeviceListNotice.objects.all())
    work()
    assert updates(bob.name) == [(CREATOR, ["PHONE"], [])]
    DeviceListNotice.objects.bulk_create(notices)
    work()
    assert updates(bob.name) == []


def test_a_mark_is_not_lost_when_a_worker_dies_between_what_is_due_and_the_mark(room: Room, bob: Peer) -> None:
    join(bob, room)
    work()
    updates(bob.name)
    make_device(CREATOR)
    work()
    Destination.objects.update(pending=False)  # as if it had died there; the notice is still there then
    spreading.note_change(CREATOR)
    work()
    assert Destination.objects.get(server=bob.name).pending


def test_a_notice_that_fails_does_not_keep_others_waiting_and_is_gone_through_later(room: Room, bob: Peer) -> None:
    join(bob, room)
    work()
    make_device(CREATOR)
    join_ours(room, ALICE)
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE federation_devicelistcursor ADD CONSTRAINT fails CHECK (user_id <> '{CREATOR}') NOT VALID"
        )
    try:
        make_device(ALICE)
        assert spread(seconds=5) is False
        assert updates(bob.name) == [(ALICE, ["PHONE"], [])]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE federation_devicelistcursor DROP CONSTRAINT fails")
    work()
    assert updates(bob.name) == [(CREATOR, ["PHONE"], [])]


def test_a_notice_of_many_pairs_does_not_keep_others_waiting(room: Room) -> None:
    stays(room, [f"s{number:04}.example.org" for number in range(3 * spreading.PAIRS)])
    make_device(CREATOR)
    DeviceListNotice.objects.all().delete()
    spreading.note_change(CREATOR)
    spreading.note_change(ALICE)
    looked_at: list[str] = []

    def note(execute: Callable[..., Any], statement: str, parameters: Any, *rest: Any) -> Any:
        if isinstance(parameters, dict):
            looked_at.append(parameters["user"])
        return execute(statement, parameters, *rest)

    with connection.execute_wrapper(note):
        work()
    assert looked_at == [CREATOR, ALICE, CREATOR, CREATOR, CREATOR]


@pytest.mark.parametrize("who", ["a worker", "an answer"])
def test_cursors_are_locked_in_the_order_of_their_users(room: Room, bob: Peer, who: str) -> None:
    users = [f"@{name}:hub.example.org" for name in "abcd"]
    join(bob, room)
    for user_id in users[1:]:
        join_ours(room, user_id)
        make_device(user_id)
    work()
    DeviceListCursor.objects.create(destination_id=bob.name, user_id=users[0], wanted=1)
    marks = [[pk, 1] for pk in DeviceListCursor.objects.order_by("-user_id").values_list("pk", flat=True)]
    with open_line(room.room_id, now=timezone.now()) as line:
        line.append(_member(room, users[0], {"membership": "leave"}))
    spreading.note_moves(room.room_id, since_position=1, users=[], servers=[bob.name])
    with ExitStack() as threads, transaction.atomic():
        rows = DeviceListCursor.objects.select_for_update(nowait=True)
        rows.get(user_id=users[0])
        threads.enter_context(in_thread(work if who == "a worker" else lambda: settle(marks)))
        wait_until_blocked()  # at the first of them
        assert len(rows.filter(user_id__in=users[1:])) == 3, "it has locked none that comes after"


def test_one_worker_at_a_time_goes_through_notices(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [spreading._LOCK])
        results: list[bool] = []
        with in_thread(lambda: results.append(spread())):
            pass
    assert results == [False]
    assert DeviceListNotice.objects.exists()
    assert spread(seconds=5) is False
    assert updates(bob.name) == [(CREATOR, ["PHONE"], [])]


def test_of_many_who_come_at_once_the_whole_room_is_noted(room: Room) -> None:
    DeviceListNotice.objects.all().delete()
    users = [f"@u{number}:hub.example.org" for number in range(spreading.NAMED_AT_MOST + 1)]
    spreading.note_moves(room.room_id, since_position=5, users=users, servers=[])
    assert DeviceListNotice.objects.values_list("user_id", "room_id", "server", "since_position").get() == (
        "",
        room.room_id,
        "",
        5,
    )


def test_a_message_in_a_room_notes_nothing_and_a_join_one_row(joined: Room, peer: Peer) -> None:
    work()
    peer.send([peer.lpdu(joined.room_id).event])
    assert not DeviceListNotice.objects.exists()
    join(Peer("new.example.org").publish(), joined)
    assert DeviceListNotice.objects.values_list("server", "user_id").get() == ("new.example.org", "")


def test_a_user_whose_name_changes_has_not_moved(joined: Room, peer: Peer) -> None:
    work()
    membership(joined, CREATOR, "join")
    assert not DeviceListNotice.objects.exists()


def test_the_sweep_finds_notices_that_nobody_was_woken_for(room: Room) -> None:
    make_device(CREATOR)
    assert spreading.notices_wait()
    tasks.spread_device_lists(5.0)
    assert not spreading.notices_wait()


def test_who_shares_a_room_again_while_an_update_finds_that_it_does_not_is_told(room: Room, bob: Peer) -> None:
    join(bob, room)
    make_device(CREATOR)
    work()
    updates(bob.name)
    leave(bob, room)
    DeviceListCursor.objects.update(told=0)
    Destination.objects.update(pending=True)

    def come_back() -> None:
        join(bob, room)
        work()

    def before_it_is_forgotten(execute: Callable[..., Any], statement: str, *rest: Any) -> Any:
        if "SET told = 0, wanted = 0" in statement:
            coming = comers.enter_context(in_thread(come_back))
            eventually(lambda: not coming.is_alive() or somebody_waits(), "it has come back, or waits for us")
        return execute(statement, *rest)

    with ExitStack() as comers, connection.execute_wrapper(before_it_is_forgotten):
        told = updates(bob.name)
    assert told + updates(bob.name) == [(CREATOR, ["PHONE"], [])]
