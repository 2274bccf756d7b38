"""A hosted room out of its file has its group again, as far as the line tells."""

import pytest
from django.utils import timezone

from linmatrix.protocol.errors import Rejected
from rooms.hub import append_own
from rooms.importing import import_room
from rooms.models import MlsCommit, MlsGroup
from tests.support import broker  # noqa: F401  wake-ups go nowhere
from tests.support.files import exported, forget
from tests.support.mls_rooms import ALICE, BOB, CAROL, OTHER, PEER, PHONE, EncryptedRoom, own_event
from tests.support.mls_writer import Odd

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def room():
    PEER.publish()
    OTHER.publish()
    room = EncryptedRoom(BOB, CAROL).begin(BOB)
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE], odd=Odd(info={"with_tree": False})))
    room.accept(BOB, room.group.commit(BOB, removes=[PHONE], odd=Odd(info={"with_tree": False})))
    return room


def out_of_its_file(room, folder):
    path = exported(room.room, folder)
    forget(room.room_id)
    assert not MlsGroup.objects.exists()
    import_room(path, now=timezone.now(), consent=True)


def test_the_group_is_the_same_again_and_goes_on(room, tmp_path):
    before = (room.stored.epoch, room.stored.digest, room.stored.state, room.stored.event_id)
    out_of_its_file(room, tmp_path)
    assert (room.stored.epoch, room.stored.digest, room.stored.state, room.stored.event_id) == before
    assert MlsCommit.objects.filter(verdict="accepted").count() == 3
    refused = room.commit_lpdu(BOB.user_id, room.group.copy().commit(BOB, removes=[ALICE]))
    assert isinstance(room.append(refused)[0].refusal, Rejected)
    room.accept(CAROL, room.group.external(CAROL))


def test_where_a_commit_was_redacted_the_next_one_must_carry_the_tree(room, tmp_path):
    redaction = own_event(room.room_id, "m.room.redaction", {"redacts": room.stored.event_id})
    append_own(room.room_id, [redaction], now=timezone.now())
    out_of_its_file(room, tmp_path)
    assert room.stored.standing == "lost"
    without = room.group.copy().commit(BOB, odd=Odd(info={"with_tree": False}))
    (outcome,) = room.append(room.commit_lpdu(BOB.user_id, without))
    assert outcome.refusal.rule == "mls.group_info_tree"
    intruder = room.group.copy().commit(BOB, adds=[PHONE, CAROL])
    room.member(CAROL.user_id, "leave")
    (outcome,) = room.append(room.commit_lpdu(BOB.user_id, intruder))
    assert outcome.refusal.rule == "mls.add"
    room.accept(BOB, room.group.commit(BOB))
    assert (room.stored.standing, room.stored.epoch, room.stored.devices) == ("later", 4, 2)
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE], odd=Odd(info={"with_tree": False})))


def test_the_group_is_found_again_within_the_file(room, tmp_path):
    redaction = own_event(room.room_id, "m.room.redaction", {"redacts": room.stored.event_id})
    append_own(room.room_id, [redaction], now=timezone.now())
    room.accept(BOB, room.group.commit(BOB))
    before = (room.stored.epoch, room.stored.state)
    out_of_its_file(room, tmp_path)
    assert (room.stored.standing, room.stored.epoch, room.stored.state) == ("later", *before)
