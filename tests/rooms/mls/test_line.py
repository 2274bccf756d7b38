"""What is prepared before the room's lock holds under it, or is made good there; whoever came first has won."""

import gc
import threading
from contextlib import ExitStack
from functools import partial
from weakref import ref

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from linmatrix.protocol.encryption import COMMIT
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.mls import Group, first_group, read_group_info
from rooms.append import create_line, open_line
from rooms.hub import _appends, append_own, append_own_to, complete_own
from rooms.mls import stored
from rooms.mls.line import MAX_UNPREPARED, commits_of
from rooms.mls.preparing import MAX_GROUPS_TRIED, MAX_TREES, prepare
from rooms.models import MlsCommit, Room
from tests.scenarios.waiting import eventually
from tests.support.lines import in_thread, wait_until_blocked
from tests.support.mls_rooms import ALICE, BOB, CAROL, PEER, PHONE, EncryptedRoom, own_event
from tests.support.mls_writer import MlsDevice, WrittenGroup

pytestmark = pytest.mark.django_db


@pytest.fixture
def room():
    return EncryptedRoom(BOB, CAROL).begin(BOB)


def forget_groups():
    """What a new process remembers: nothing. One group as large as the memory puts all others out."""
    group = WrittenGroup.create(b"!other", ALICE)
    read = first_group(read_group_info(group.group_info(ALICE)), group_id=b"!other")
    stored.groups.put(read, size=settings.LIMITS.cached_group_bytes)


def take(room, event, prepared):
    """Append an event of our own, for which this was prepared some time ago; the rule that refuses it."""
    try:
        with open_line(room.room_id, now=timezone.now()) as line:
            if prepared is not None:
                commits_of(line).know(prepared)
            line.load_state_for([event])
            line.append(complete_own(line, event))
    except Rejected as refusal:
        return refusal.rule
    return None


@pytest.mark.django_db(transaction=True)
def test_two_commits_that_race_have_one_winner(room):
    """Of two processes, each with what it prepared for the same group: connections of their own meet at the row."""
    events = [room.own_commit(room.group.copy().commit(ALICE, adds=[device])) for device in (PHONE, CAROL)]
    prepared = [prepare(room.room_id, [event]) for event in events]
    meet, rules = threading.Barrier(2, timeout=20), [None, None]

    def race(index):
        meet.wait()
        rules[index] = take(room, events[index], prepared[index])

    with in_thread(lambda: race(0)), in_thread(lambda: race(1)):
        pass
    assert sorted(rules, key=str) == [None, "mls.epoch"]
    assert (room.stored.epoch, room.stored.devices) == (2, 3)
    winner = (PHONE, CAROL)[rules.index(None)]
    assert MlsCommit.objects.get(verdict="accepted", epoch=1).added == [f"{winner.user_id} {winner.device_id}"]


@pytest.mark.django_db(transaction=True)
def test_of_requests_that_are_appended_together_each_commit_has_its_own_check(room):
    """All were prepared for the same group, by the time that the first of them had not come."""
    ours = room.group.copy()
    chain = [ours.commit(BOB, adds=[PHONE]), ours.commit(BOB)]
    requests = [
        [room.lpdu(BOB.user_id, "m.room.message", {"body": "keeps the others waiting"})],
        [room.lpdu(BOB.user_id, "m.room.message", {"body": "is the first of the others"})],
        [room.commit_lpdu(BOB.user_id, written) for written in chain],
        [room.commit_lpdu(BOB.user_id, written, ts=1) for written in chain[:1]],
        [room.commit_lpdu(BOB.user_id, room.group.copy().commit(BOB, adds=[PHONE]))],
        [room.commit_lpdu(CAROL.user_id, room.group.copy().external(CAROL))],
        [room.commit_lpdu(BOB.user_id, ours.commit(BOB))],
    ]
    rules = {}

    def send(number):
        outcomes = room.append(*requests[number])
        rules[number] = [outcome.refusal.rule if outcome.refusal else "" for outcome in outcomes]

    with ExitStack() as sending, open_line(room.room_id, now=timezone.now()):
        sending.enter_context(in_thread(partial(send, 0)))
        wait_until_blocked()  # for the room's row
        for number in range(1, len(requests)):
            sending.enter_context(in_thread(partial(send, number)))
            eventually(lambda number=number: _appends.waiting(room.room_id) == number, "the others for the first")
    assert [rules[number] for number in sorted(rules)] == [[""], [""], ["", ""], *[["mls.epoch"]] * 3, [""]]
    assert (room.stored.epoch, room.stored.devices, bytes(room.stored.digest)) == (4, 3, digest_of(room, ours))


def digest_of(room, written):
    """What names the group as its devices know it."""
    return first_group(read_group_info(written.group_info(ALICE)), group_id=room.room_id.encode()).digest


def test_the_group_goes_on_in_a_process_that_has_never_seen_it(room):
    digest = bytes(room.stored.digest)
    assert stored.groups.get(digest) is not None
    forget_groups()
    assert stored.groups.get(digest) is None
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE]))
    assert room.stored.epoch == 2
    assert Group.from_bytes(bytes(room.stored.state)).digest == bytes(room.stored.digest)


def test_a_commit_is_refused_for_what_changed_after_it_was_looked_at(room):
    event = room.own_commit(room.group.copy().commit(ALICE, adds=[CAROL]))
    prepared = prepare(room.room_id, [event])
    room.member(CAROL.user_id, "leave")
    assert take(room, event, prepared) == "mls.add"


def test_a_commit_is_taken_for_what_changed_after_it_was_looked_at(room):
    room.member(CAROL.user_id, "leave")
    event = room.own_commit(room.group.commit(ALICE, adds=[CAROL]))
    prepared = prepare(room.room_id, [event])
    room.member(CAROL.user_id, "join")
    assert take(room, event, prepared) is None


def test_a_room_that_is_opened_to_all_meanwhile_has_guests(room):
    room.member(CAROL.user_id, "leave")
    event = room.own_commit(room.group.commit(ALICE, adds=[CAROL]))
    prepared = prepare(room.room_id, [event])
    visible = own_event(
        room.room_id, "m.room.history_visibility", {"history_visibility": "world_readable"}, state_key=""
    )
    append_own(room.room_id, [visible], now=timezone.now())
    assert take(room, event, prepared) is None


def test_a_commit_for_a_group_that_came_about_meanwhile_is_applied_under_the_lock(room):
    first = room.own_commit(room.group.commit(ALICE, adds=[PHONE]))
    next_ones = [room.own_commit(room.group.commit(ALICE)) for _ in range(MAX_UNPREPARED + 1)]
    prepared = prepare(room.room_id, next_ones)
    append_own(room.room_id, [first], now=timezone.now())
    with open_line(room.room_id, now=timezone.now()) as line:
        commits_of(line).know(prepared)
        line.load_state_for(next_ones)
        for event in next_ones[:-1]:
            line.append(complete_own(line, event))
        with pytest.raises(Rejected, match="send it again"):
            complete_own(line, next_ones[-1])
    assert room.stored.epoch == 2 + MAX_UNPREPARED
    append_own(room.room_id, next_ones[-1:], now=timezone.now())


def test_a_commit_made_for_another_group_of_the_epoch_is_not_applied_under_the_lock(room):
    """It was right for what its own batch would have made of the group, so it is wrong for what there is."""
    ours = room.group.copy()
    batch = [room.own_commit(ours.commit(ALICE, adds=[PHONE])), room.own_commit(ours.commit(ALICE))]
    prepared = prepare(room.room_id, batch)
    room.accept(BOB, room.group.commit(BOB, adds=[CAROL]))
    assert take(room, batch[0], prepared) == "mls.epoch"
    assert take(room, batch[1], prepared) == "mls.epoch"
    assert MlsCommit.objects.filter(verdict="accepted").count() == 2


def test_commits_of_one_epoch_and_what_follows_each_are_told_apart(room):
    """A batch in which two go different ways, the first of which is refused: the second's next one holds."""
    ways = [room.group.copy(), room.group]
    refused = ways[0].commit(BOB, adds=[PHONE], removes=[ALICE])
    batch = [refused, ways[1].commit(BOB, adds=[PHONE]), ways[0].commit(BOB), ways[1].commit(BOB, adds=[CAROL])]
    outcomes = room.append(*(room.commit_lpdu(BOB.user_id, written) for written in batch))
    assert [bool(outcome.pdu) for outcome in outcomes] == [False, True, False, True]
    assert room.stored.devices == 4


def test_a_commit_is_applied_to_no_more_groups_of_its_epoch_than_so_many(room):
    """A batch in which many go different ways, and one that goes on from the first of them."""
    devices = [MlsDevice(PEER.user("bob"), f"DEVICE{number}") for number in range(MAX_GROUPS_TRIED + 1)]
    ways = [room.group.copy() for _ in devices]
    batch = [way.commit(BOB, adds=[device]) for way, device in zip(ways, devices, strict=True)]
    events = [room.commit_lpdu(BOB.user_id, written).event for written in (*batch, ways[0].commit(BOB))]
    *first, last = prepare(room.room_id, events).checked.values()
    assert [len(check.applied) for check in first] == [1] * len(devices)
    assert len(last.applied) == MAX_GROUPS_TRIED


def test_no_more_trees_of_a_batch_are_checked_than_so_many():
    room = EncryptedRoom()
    wrong = []
    for _ in range(MAX_TREES):
        group = WrittenGroup.create(room.group.group_id, ALICE)
        wrong.append(room.own_commit(group.commit(ALICE, adds=[BOB])))
    right = room.own_commit(room.group.commit(ALICE))
    checked = list(prepare(room.room_id, [*wrong, right]).checked.values())
    assert [check.beginning is not None for check in checked] == [True] * MAX_TREES + [False]
    assert take(room, right, prepare(room.room_id, [*wrong, right])) == "mls.epoch"
    append_own(room.room_id, [right], now=timezone.now())


def test_what_was_prepared_is_forgotten_with_the_batch_that_it_was_for(room):
    """An import appends a whole room to one line; a group for each of its commits would fill the memory."""
    events = [room.own_commit(room.group.commit(ALICE)) for _ in range(2)]
    prepared = prepare(room.room_id, events)
    passing = ref(next(change for change in next(iter(prepared.checked.values())).applied.values()).group)
    with open_line(room.room_id, now=timezone.now()) as line:
        commits_of(line).know(prepared)
        del prepared
        line.load_state_for(events)
        for event in events:
            line.append(complete_own(line, event))
        assert passing() is not None
        line.write()
        gc.collect()
        assert passing() is None
    assert room.stored.epoch == 3


class Statements:
    """Counts statements by the table that they are about."""

    def __init__(self):
        self.texts = []

    def __call__(self, execute, sql, params, many, context):
        self.texts.append(sql)
        return execute(sql, params, many, context)


def test_messages_of_an_encrypted_room_cost_what_they_cost_in_any_other(room):
    plain = EncryptedRoom(BOB, encryption="")
    counts = []
    for each in (plain, room):
        message = {"algorithm": "m.mls.v1.x", "ciphertext": "AAAA"}
        lpdus = [each.lpdu(BOB.user_id, "m.room.encrypted", {**message, "n": number}) for number in range(4)]
        each.append(lpdus.pop())  # so that the process remembers the room's state
        with connection.execute_wrapper(statements := Statements()):
            outcomes = each.append(*lpdus)
        assert all(outcome.pdu for outcome in outcomes)
        assert not [text for text in statements.texts if "mls" in text]
        counts.append(len(statements.texts))
    assert counts[0] == counts[1]


def test_memberships_are_read_before_the_lock_and_not_again(room):
    """Of a commit that meets what it was prepared for, no membership is asked for under the lock but the sender's."""
    event = room.own_commit(room.group.commit(ALICE, adds=[CAROL]))
    prepared = prepare(room.room_id, [event])
    with connection.execute_wrapper(statements := Statements()):
        assert take(room, event, prepared) is None
    asked = [text for text in statements.texts if "rooms_stateentry" in text and text.startswith("SELECT")]
    assert len(asked) == 1


def test_commits_of_a_ciphersuite_that_cannot_be_checked_are_refused():
    """Such a room is not created here; one that came to be hosted all the same is not hosted blindly."""
    room_id = "!elsewhere:hub.example.org"
    content = {"room_version": "I.1", "encryption": {"algorithm": "m.mls.v1.dhkemp256-aes128gcm-sha256-p256"}}
    with transaction.atomic():
        row = Room(room_id=room_id, version="I.1", role=Room.Role.HUB, hub_server="hub.example.org")
        line = create_line(row, now=timezone.now())
        create = own_event(room_id, "m.room.create", content, state_key="")
        join = own_event(room_id, "m.room.member", {"membership": "join"}, state_key=ALICE.user_id)
        append_own_to(line, [create, join])
        line.write()
    commit = own_event(room_id, COMMIT, {})
    with pytest.raises(Rejected) as refusal:
        append_own(room_id, [commit], now=timezone.now())
    assert refusal.value.rule == "mls.ciphersuite"
    append_own(room_id, [{**commit, "type": "m.room.encrypted"}], now=timezone.now())


@pytest.mark.parametrize("encryption", ["", "m.megolm.v1.aes-sha2", "org.example.own"])
def test_in_a_room_without_mls_a_commit_is_an_event_like_any_other(encryption):
    room = EncryptedRoom(BOB, encryption=encryption)
    (outcome,) = room.append(room.lpdu(BOB.user_id, COMMIT, {"message": "anything"}))
    assert outcome.pdu is not None
    assert not MlsCommit.objects.exists()


def test_the_encryption_is_what_the_create_event_says_for_good(room):
    """An event that turns encryption on in Matrix, or would turn it off, has no effect."""
    plain = EncryptedRoom(BOB, encryption="")
    algorithms = {plain: "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519", room: "m.megolm.v1.aes-sha2"}
    for each, algorithm in algorithms.items():
        event = own_event(each.room_id, "m.room.encryption", {"algorithm": algorithm}, state_key="")
        append_own(each.room_id, [event], now=timezone.now())
    (outcome,) = plain.append(plain.lpdu(BOB.user_id, COMMIT, {}))
    assert outcome.pdu is not None
    (outcome,) = room.append(room.lpdu(BOB.user_id, COMMIT, {}))
    assert outcome.refusal is not None
