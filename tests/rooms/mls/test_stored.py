"""What is kept of groups and commits has bounds."""

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from linmatrix.limits import parse_limits
from linmatrix.protocol.mls import first_group, read_group_info
from rooms.mls import stored
from rooms.mls.stored import GroupCache
from rooms.models import MlsCommit, MlsGroup
from tests.support.mls_rooms import ALICE, BOB, EncryptedRoom
from tests.support.mls_writer import MlsDevice, WrittenGroup


def group_of(name):
    device = MlsDevice(ALICE.user_id, name)
    written = WrittenGroup.create(b"!room", device)
    return first_group(read_group_info(written.group_info(device)), group_id=b"!room")


def test_groups_are_remembered_up_to_the_limit():
    groups = [group_of(f"DEVICE{number}") for number in range(4)]
    cache = GroupCache(3 * 100)
    for group in groups[:3]:
        cache.put(group, size=100)
    assert cache.get(groups[0].digest) is groups[0]
    cache.put(groups[3], size=100)
    assert cache.get(groups[1].digest) is None
    assert cache.get(groups[0].digest) is groups[0]
    cache.put(groups[1], size=301)
    assert cache.get(groups[1].digest) is None


def test_the_processes_memory_has_the_size_that_is_set(settings):
    assert stored.groups._groups.maxsize == settings.LIMITS.cached_group_bytes


@pytest.mark.django_db
def test_only_so_many_commits_of_a_room_are_kept(settings):
    settings.LIMITS = parse_limits("mls_commits_per_room=3")
    other, room = EncryptedRoom(BOB).begin(BOB), EncryptedRoom(BOB).begin(BOB)
    refused = room.group.copy().commit(BOB, removes=[ALICE])
    room.append(*(room.commit_lpdu(BOB.user_id, refused, ts=number) for number in range(5)))
    room.accept(BOB, room.group.commit(BOB))
    rows = MlsCommit.objects.filter(room_id=room.room_id).order_by("id")
    assert list(rows.values_list("verdict", flat=True)) == ["refused", "refused", "accepted"]
    assert MlsCommit.objects.filter(room_id=other.room_id).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [{"standing": "guessed"}, {"standing": "first", "state": b"", "digest": b""}, {"epoch": -1}, {"devices": -1}],
)
def test_the_database_takes_no_group_that_cannot_be(fields):
    room = EncryptedRoom().room
    row = {"standing": "lost", "epoch": 0, "digest": b"", "state": b"", "devices": 0, "event_id": "$e"}
    with pytest.raises(IntegrityError), transaction.atomic():
        MlsGroup.objects.create(room=room, changed_at=timezone.now(), **{**row, **fields})
    MlsGroup.objects.create(room=room, changed_at=timezone.now(), **row)
