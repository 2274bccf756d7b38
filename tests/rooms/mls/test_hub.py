"""The hub refuses commits that are wrong or that the room does not allow; the room is as if they had not come."""

import pytest
from django.utils import timezone

from linmatrix.protocol.encryption import COMMIT
from linmatrix.protocol.errors import Rejected
from rooms.hub import append_own
from rooms.models import Event, MlsCommit, MlsGroup
from tests.support.hosted import CREATOR, membership, snapshot
from tests.support.mls_rooms import ALICE, BOB, CAROL, PEER, PHONE, EncryptedRoom, content, own_event
from tests.support.mls_writer import MlsDevice, Odd, Written, WrittenGroup, by_value, external_init, some_key

pytestmark = pytest.mark.django_db

BY_REFERENCE = b"\2" + b"\x20" + some_key()
REINIT = by_value(5, b"\x01g" + b"\0\1\0\1" + b"\0")


@pytest.fixture
def room():
    """Alice's room with her laptop and Bob's device in the group; Carol and Bob are joined."""
    return EncryptedRoom(BOB, CAROL).begin(BOB)


def group_row(room):
    row = MlsGroup.objects.filter(room_id=room.room_id)
    return row.values_list("standing", "epoch", "digest", "state", "devices", "event_id").first()


def last_commit(room):
    return MlsCommit.objects.filter(room_id=room.room_id).latest("id")


def refusal_of(room, sender, written, **fields):
    """The rule that refuses a commit, with nothing changed but what became of it."""
    before, group, noted = snapshot(room.room_id), group_row(room), MlsCommit.objects.count()
    lpdu = room.commit_lpdu(sender, written, **fields)
    (outcome,) = room.append(lpdu)
    assert isinstance(outcome.refusal, Rejected), outcome
    assert (snapshot(room.room_id), group_row(room)) == (before, group)
    assert MlsCommit.objects.count() == noted + 1
    row = last_commit(room)
    assert (row.verdict, row.event_id, row.sender) == ("refused", lpdu.lpdu_id, sender)
    assert row.reason == str(outcome.refusal)
    return outcome.refusal.rule


def test_the_first_commit_makes_the_group_and_others_change_it(room):
    assert (room.stored.standing, room.stored.epoch, room.stored.devices) == ("first", 1, 2)
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE, CAROL]))
    assert (room.stored.standing, room.stored.epoch, room.stored.devices) == ("first", 2, 4)
    assert room.stored.event_id == room.room.head_event_id
    row = last_commit(room)
    assert (row.verdict, row.epoch, row.event_id, row.sender) == ("accepted", 1, room.stored.event_id, BOB.user_id)
    assert (row.added, row.removed) == ([f"{PHONE.user_id} PHONE", f"{CAROL.user_id} CAROL"], [])
    room.accept(BOB, room.group.commit(BOB, removes=[PHONE]))
    assert (last_commit(room).added, last_commit(room).removed) == ([], [f"{PHONE.user_id} PHONE"])
    assert (room.stored.epoch, room.stored.devices) == (3, 3)


def test_a_joined_user_comes_in_by_an_external_commit(room):
    room.accept(CAROL, room.group.external(CAROL))
    assert last_commit(room).added == [f"{CAROL.user_id} CAROL"]
    assert room.stored.devices == 3


DAVE = MlsDevice(PEER.user("dave"), "DAVE")
LAPTOP_AGAIN = MlsDevice(CREATOR, "LAPTOP", generation=1)

ILLEGAL = {
    # What Bob does, the rule that refuses it, and what he may do instead, which differs in one thing.
    "a device of somebody who is not in the room": ({"adds": [DAVE]}, "mls.add", {"adds": [CAROL]}),
    "removing a device of a user who is joined": ({"removes": [ALICE]}, "mls.remove", {"removes": [PHONE]}),
    "a proposal by reference": ({"extra": [BY_REFERENCE]}, "mls.reference", {"extra": []}),
    "a second leaf for a device": ({"adds": [LAPTOP_AGAIN]}, "mls.device_present", {"adds": [CAROL]}),
    "becoming another device": ({"odd": Odd(leaf_of=CAROL)}, "mls.device_changed", {"odd": Odd(leaf_of=BOB)}),
    "another group's id": ({"odd": Odd(group_id=b"!x:y")}, "mls.group", {"odd": Odd()}),
    "an epoch that is over": ({"odd": Odd(epoch=0)}, "mls.epoch", {"odd": Odd(epoch=2)}),
    "an epoch to come": ({"odd": Odd(epoch=3)}, "mls.epoch", {"odd": Odd(epoch=2)}),
    "an epoch beyond the database's numbers": ({"odd": Odd(epoch=2**64 - 1)}, "mls.epoch", {"odd": Odd(epoch=2)}),
    "a ReInit": ({"extra": [REINIT]}, "mls.reinit", {"extra": []}),
    "a member's ExternalInit": ({"extra": [external_init()]}, "mls.external_init", {"extra": []}),
    "another's signature": ({"odd": Odd(signed_by=CAROL.key)}, "mls.signature", {"odd": Odd(signed_by=BOB.key)}),
    "a GroupInfo of another state": (
        {"odd": Odd(context={"epoch": 4})},
        "mls.group_info_context",
        {"odd": Odd(context={"epoch": 3})},
    ),
    "a GroupInfo with another tag": (
        {"odd": Odd(info={"tag": bytes(32)})},
        "mls.group_info_tag",
        {"odd": Odd(info={})},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_commit_is_refused_for(room, name):
    illegal, rule, legal = ILLEGAL[name]
    room.accept(ALICE, room.group.commit(ALICE, adds=[PHONE]))
    assert refusal_of(room, BOB.user_id, room.group.copy().commit(BOB, **illegal)) == rule
    room.accept(BOB, room.group.commit(BOB, **legal))


def test_a_commit_of_somebody_else_is_refused(room):
    written = room.group.commit(BOB)
    assert refusal_of(room, CAROL.user_id, written) == "mls.event_sender"
    room.accept(BOB, written)


def test_a_commit_as_a_state_event_is_refused(room):
    written = room.group.commit(BOB)
    levels = {"users": {CREATOR: 100}, "state_default": 0}
    append_own(room.room_id, [own_event(room.room_id, "m.room.power_levels", levels, state_key="")], now=timezone.now())
    assert refusal_of(room, BOB.user_id, written, state_key="") == "mls.event"
    room.accept(BOB, written)


@pytest.mark.parametrize("field", ["message", "public_group_state"])
@pytest.mark.parametrize("value", [None, 7, {}, "", "&", "=", "A" * 40_000])
def test_what_is_no_commit_is_refused(room, field, value):
    written = room.group.commit(BOB)
    changed = {**content(written), field: value}
    lpdu = room.lpdu(BOB.user_id, COMMIT, {key: value for key, value in changed.items() if value is not None})
    (outcome,) = room.append(lpdu)
    assert isinstance(outcome.refusal, Rejected)
    assert outcome.refusal.rule.startswith("mls.")
    assert last_commit(room).epoch is None
    room.accept(BOB, written)


def test_either_base64_is_read(room):
    written = room.group.commit(BOB)
    as_sent = {name: value.replace("+", "-").replace("/", "_") + "==" for name, value in content(written).items()}
    padded = {name: value[: -2 if len(value) % 4 == 0 else None] for name, value in as_sent.items()}
    (outcome,) = room.append(room.lpdu(BOB.user_id, COMMIT, padded))
    assert outcome.pdu is not None, outcome.refusal


def test_who_left_must_go_with_the_next_members_commit(room):
    room.accept(BOB, room.group.commit(BOB, adds=[CAROL]))
    room.member(CAROL.user_id, "leave")
    assert refusal_of(room, BOB.user_id, room.group.copy().commit(BOB)) == "mls.left"
    assert f"{CAROL.user_id} CAROL" in last_commit(room).reason
    room.accept(BOB, room.group.commit(BOB, removes=[CAROL]))
    assert room.stored.devices == 2


def test_whoever_joins_by_an_external_commit_need_not_remove_who_left(room):
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE]))
    room.member(BOB.user_id, "leave")
    room.accept(CAROL, room.group.external(CAROL))
    assert refusal_of(room, CAROL.user_id, room.group.copy().commit(CAROL, removes=[BOB])) == "mls.left"
    room.accept(CAROL, room.group.commit(CAROL, removes=[BOB, PHONE]))


def test_a_banned_users_devices_are_removed_by_anybody(room):
    membership(room.room, BOB.user_id, "ban")
    room.accept(CAROL, room.group.external(CAROL))
    room.accept(CAROL, room.group.commit(CAROL, removes=[BOB]))
    assert last_commit(room).removed == [f"{BOB.user_id} BOB"]


def test_a_world_readable_room_has_guests():
    room = EncryptedRoom(BOB, history_visibility="world_readable").begin(BOB, CAROL)
    room.accept(BOB, room.group.commit(BOB, adds=[DAVE]))
    event = own_event(room.room_id, "m.room.history_visibility", {"history_visibility": "shared"}, state_key="")
    append_own(room.room_id, [event], now=timezone.now())
    assert refusal_of(room, BOB.user_id, room.group.copy().commit(BOB)) == "mls.left"
    room.accept(BOB, room.group.commit(BOB, removes=[CAROL, DAVE]))


class TestTheFirstCommit:
    """It is the creator's, and carries the whole group."""

    @pytest.fixture
    def room(self):
        return EncryptedRoom(BOB, CAROL)

    def own_refusal(self, room, written):
        with pytest.raises(Rejected) as refusal:
            append_own(room.room_id, [room.own_commit(written)], now=timezone.now())
        assert not MlsGroup.objects.exists()
        assert last_commit(room).reason == str(refusal.value)
        return refusal.value.rule

    def test_is_the_creators(self, room):
        group = WrittenGroup.create(room.group.group_id, BOB)
        assert refusal_of(room, BOB.user_id, group.commit(BOB)) == "mls.creator"
        room.begin()

    def test_is_by_a_device_of_the_creators(self, room):
        group = WrittenGroup.create(room.group.group_id, BOB)
        assert self.own_refusal(room, group.commit(BOB, adds=[ALICE])) == "mls.event_sender"
        room.begin(BOB)

    def test_brings_in_members_of_the_room_only(self, room):
        assert self.own_refusal(room, room.group.copy().commit(ALICE, adds=[BOB, DAVE])) == "mls.add"
        room.begin(BOB, CAROL)

    def test_carries_the_tree(self, room):
        without = room.group.copy().commit(ALICE, odd=Odd(info={"with_tree": False}))
        assert self.own_refusal(room, without) == "mls.group_info_tree"
        room.accept(ALICE, room.group.commit(ALICE, odd=Odd(info={"with_tree": True})))

    def test_is_of_the_rooms_group(self, room):
        other = WrittenGroup.create(b"!other:hub.example.org", ALICE)
        assert self.own_refusal(room, other.commit(ALICE)) == "mls.group"
        assert self.own_refusal(room, room.group.copy().commit(ALICE, odd=Odd(group_id=b"g"))) == "mls.group"
        room.begin()

    def test_leads_to_the_epoch_after_its_own(self, room):
        assert self.own_refusal(room, room.group.copy().commit(ALICE, odd=Odd(epoch=1))) == "mls.epoch"
        room.accept(ALICE, room.group.commit(ALICE, odd=Odd(epoch=0)))

    def test_confirms_what_its_group_info_does(self, room):
        odd = Odd(info={"tag": bytes(32)})
        assert self.own_refusal(room, room.group.copy().commit(ALICE, odd=odd)) == "mls.group_info_tag"
        room.begin()

    def test_is_by_who_signs_its_group_info(self, room):
        room.group.commit(ALICE, adds=[BOB])
        message, _ = room.group.copy().commit(BOB)
        room.group.commit(ALICE)
        assert self.own_refusal(room, Written(message, room.group.group_info(ALICE))) == "mls.group_info_signer"
        room.accept(ALICE, room.group.commit(ALICE))

    def test_may_come_after_clients_have_made_some_by_themselves(self, room):
        room.group.commit(ALICE, adds=[BOB])
        room.accept(ALICE, room.group.commit(ALICE))
        assert (room.stored.epoch, room.stored.devices) == (2, 2)
        room.accept(BOB, room.group.commit(BOB))


def test_three_commits_and_a_join_come_together(room):
    membership_of_dave = room.member_lpdu(DAVE.user_id, "join")
    commits = [
        room.group.commit(BOB, adds=[PHONE]),
        room.group.commit(BOB, adds=[DAVE]),
        room.group.commit(BOB, removes=[PHONE]),
    ]
    outcomes = room.append(membership_of_dave, *(room.commit_lpdu(BOB.user_id, written) for written in commits))
    assert [outcome.refusal for outcome in outcomes] == [None] * 4
    assert (room.stored.epoch, room.stored.devices) == (4, 3)
    assert list(MlsCommit.objects.order_by("id").values_list("epoch", "verdict"))[1:] == [
        (1, "accepted"), (2, "accepted"), (3, "accepted"),
    ]  # fmt: skip


def test_a_refused_commit_does_not_touch_the_others_of_its_batch(room):
    refused = room.group.copy().commit(BOB, adds=[DAVE])
    commits = [refused, room.group.commit(BOB, adds=[PHONE]), room.group.commit(BOB)]
    outcomes = room.append(*(room.commit_lpdu(BOB.user_id, written) for written in commits))
    assert [bool(outcome.pdu) for outcome in outcomes] == [False, True, True]
    assert room.stored.epoch == 3


def test_of_two_commits_to_one_epoch_the_first_is_taken(room):
    first, second = room.group.copy().commit(BOB, adds=[PHONE]), room.group.copy().commit(BOB, adds=[CAROL])
    outcomes = room.append(*(room.commit_lpdu(BOB.user_id, written) for written in (first, second)))
    assert outcomes[0].pdu
    assert isinstance(outcomes[1].refusal, Rejected)
    assert outcomes[1].refusal.rule == "mls.epoch"
    assert room.stored.devices == 3


def test_a_repeated_commit_is_known_and_changes_nothing(room):
    lpdu = room.commit_lpdu(BOB.user_id, room.group.commit(BOB))
    (first,) = room.append(lpdu)
    before = group_row(room)
    (again,) = room.append(lpdu)
    assert again.known_event_id == first.pdu.event_id
    assert group_row(room) == before
    assert MlsCommit.objects.count() == 2


def test_a_commit_that_is_undone_with_its_append_leaves_no_trace(room):
    before, rows = group_row(room), MlsCommit.objects.count()
    good = room.own_commit(room.group.commit(ALICE, adds=[CAROL]))
    refused = own_event(room.room_id, "m.room.message", {"body": "no"}, sender="@nobody:hub.example.org")
    with pytest.raises(Rejected, match="rule 6"):
        append_own(room.room_id, [good, refused], now=timezone.now())
    assert (group_row(room), MlsCommit.objects.count()) == (before, rows)
    append_own(room.room_id, [good], now=timezone.now())
    assert room.stored.devices == 3


def test_a_refused_commit_of_our_own_undoes_its_append_and_is_noted_alone(room):
    good = room.own_commit(room.group.copy().commit(ALICE, adds=[CAROL]))
    bad = room.own_commit(room.group.copy().commit(ALICE, adds=[DAVE]))
    before, rows = (snapshot(room.room_id), group_row(room)), MlsCommit.objects.count()
    with pytest.raises(Rejected) as refusal:
        append_own(room.room_id, [good, bad], now=timezone.now())
    assert refusal.value.rule == "mls.epoch"
    assert (snapshot(room.room_id), group_row(room)) == before
    assert MlsCommit.objects.count() == rows + 1
    assert (last_commit(room).verdict, last_commit(room).event_id) == ("refused", "")


def test_the_group_goes_on_after_a_commit_was_redacted(room):
    redaction = own_event(room.room_id, "m.room.redaction", {"redacts": room.stored.event_id})
    append_own(room.room_id, [redaction], now=timezone.now())
    assert Event.objects.get(type=COMMIT).verdict == "redacted"
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE]))
    assert (room.stored.standing, room.stored.devices) == ("first", 3)


@pytest.mark.django_db(transaction=True)
def test_a_peer_is_told_why_its_commit_is_refused(room):
    PEER.publish()
    lpdu = room.commit_lpdu(BOB.user_id, room.group.copy().commit(BOB, adds=[DAVE]))
    right = room.commit_lpdu(BOB.user_id, room.group.commit(BOB, adds=[PHONE]))
    answer = PEER.send([lpdu.event, right.event])
    assert answer.status_code == 200
    error = f"rule mls.add: {DAVE.user_id} DAVE cannot be in the group: its user's membership is leave"
    assert answer.json() == {"failed_pdus": {lpdu.lpdu_id: {"error": error}}}
