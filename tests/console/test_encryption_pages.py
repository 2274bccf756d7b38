"""A room's encryption in the console: the group against who is joined, what comes next, and the last commits."""

import html
import re

import pytest
from django.contrib.admin.utils import quote
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from linmatrix.console.rooms import encryption
from linmatrix.protocol.devices import MLS_ALGORITHM
from rooms.creation import create_room
from rooms.models import MlsCommit, MlsGroup, Room
from tests.support.hosted import CREATOR
from tests.support.mls_rooms import ALICE, BOB, CAROL, PHONE, EncryptedRoom
from tests.support.mls_writer import MlsDevice, Odd

pytestmark = pytest.mark.django_db

MEGOLM = "m.megolm.v1.aes-sha2"


@pytest.fixture
def room() -> EncryptedRoom:
    """Alice's laptop and Bob's device are in the group; Carol is joined without a device."""
    return EncryptedRoom(BOB, CAROL).begin(BOB)


def page_of(console: Client, room_id: str, tab: str = "encryption", **query: str):
    answer = console.get(reverse(f"room:{tab}", args=[quote(room_id)]), query, secure=True)
    assert answer.status_code == 200
    return answer


def in_words(page) -> str:
    return html.unescape(" ".join(strip_tags(page.content.decode()).split()))


def rows_of(page) -> dict[str, object]:
    return dict(page.context["rows"])


def make_plain(**fields) -> str:
    return create_room(creator=CREATOR, now=timezone.now(), name="Plain", **fields).room_id


@pytest.mark.parametrize("algorithm", ["", MEGOLM, MLS_ALGORITHM])
def test_a_tab_leads_there_where_the_room_is_encrypted(console, algorithm):
    page = page_of(console, make_plain(encryption=algorithm), "state")
    assert ("Encryption" in [text for text, _, _ in page.context["tabs"]]) == bool(algorithm)
    assert dict(page.context["about"])["Encryption"] == (algorithm or "none")


def test_a_room_that_is_not_encrypted_says_so(console):
    page = page_of(console, make_plain())
    assert rows_of(page) == {"Algorithm": "none: the room is not encrypted"}
    assert "Last commits" not in in_words(page)


def test_of_megolm_there_is_nothing_to_check(console):
    page = page_of(console, make_plain(encryption=MEGOLM))
    assert rows_of(page) == {"Algorithm": MEGOLM}
    assert "Its clients see to everything" in in_words(page)


def test_before_the_first_commit_there_is_no_group(console):
    page = page_of(console, EncryptedRoom().room_id)
    assert rows_of(page)["Group"] == "none yet: it begins with the first commit of the room's creator"
    assert "There was none." in in_words(page)


def test_the_group_is_told_with_its_epoch_and_how_it_is_known(console, room):
    told = rows_of(page_of(console, room.room_id))
    assert (told["Epoch"], told["Devices"]) == (1, "2")
    assert told["Group"] == "followed since its first commit"
    assert room.stored.event_id in str(told["Last commit"])
    address = reverse("room:event", args=[quote(room.room_id), quote(room.stored.event_id)])
    assert f'href="{address}"' in str(told["Last commit"])


def test_devices_stand_by_user_and_who_has_none_is_named(console, room):
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE]))
    page = page_of(console, room.room_id)
    assert [(row["user_id"], row["devices"], row["joined"]) for row in page.context["users"]] == [
        (BOB.user_id, "BOB, PHONE", True),
        (CREATOR, "LAPTOP", True),
    ]
    assert (page.context["without"], page.context["without_number"]) == ([CAROL.user_id], 1)
    assert page.context["gone"] == []


def test_who_has_left_is_named_until_a_commit_removes_them(console, room):
    room.member(BOB.user_id, "leave")
    page = page_of(console, room.room_id)
    assert [(row["user_id"], row["devices"]) for row in page.context["gone"]] == [(BOB.user_id, "BOB")]
    assert "A member's next commit must remove them. This server refuses one that does not." in in_words(page)
    room.accept(ALICE, room.group.commit(ALICE, removes=[BOB]))
    page = page_of(console, room.room_id)
    assert page.context["gone"] == []
    assert [row["user_id"] for row in page.context["users"]] == [CREATOR]


def test_where_everybody_may_read_those_who_left_may_stay(console):
    room = EncryptedRoom(BOB, history_visibility="world_readable").begin(BOB)
    room.member(BOB.user_id, "leave")
    assert "they may stay in the group" in in_words(page_of(console, room.room_id))


def test_of_a_room_hosted_elsewhere_the_hub_is_to_refuse(console, room):
    room.member(BOB.user_id, "leave")
    Room.objects.filter(pk=room.room_id).update(role="participant", hub_server="far.example")
    assert "is refused, is for far.example to say" in in_words(page_of(console, room.room_id))


def test_commits_stand_with_verdict_and_reason_and_lead_to_their_events(console, room):
    stale = room.group.copy()
    room.accept(BOB, room.group.commit(BOB, adds=[PHONE]))
    assert room.send(BOB.user_id, stale.commit(BOB)).refusal is not None
    refused, accepted, _first = page_of(console, room.room_id).context["commits"]
    assert (refused["verdict"], refused["epoch"], refused["url"]) == ("Refused", "epoch 1", "")
    assert refused["reason"].startswith("rule mls.epoch: ")
    assert (accepted["verdict"], accepted["reason"]) == ("Accepted", "")
    assert accepted["changes"] == f"added {PHONE.user_id} PHONE"
    assert console.get(accepted["url"], secure=True).status_code == 200


def test_a_commit_that_cannot_be_read_is_shown_too(console, room):
    text = "<b>\u202e@x:y"
    MlsCommit.objects.create(room=room.room, sender=text, verdict="refused", reason="<i>no", at=timezone.now())
    page = page_of(console, room.room_id)
    assert page.context["commits"][0]["epoch"] == "an epoch that cannot be read"
    assert not re.search("<b>|<i>|\u202e", page.content.decode())


def test_a_group_that_was_lost_is_shown_as_it_was_last_known(console, room):
    MlsGroup.objects.update(standing="lost")
    page = page_of(console, room.room_id)
    assert rows_of(page)["Epoch"] == "1 when it was last known"
    assert "waits for a commit that carries the group's tree" in str(rows_of(page)["Group"])
    assert len(page.context["users"]) == 2


def test_a_group_that_was_never_known_has_no_members_to_show(console, room):
    MlsGroup.objects.update(standing="lost", digest=b"", state=b"", devices=0, epoch=0)
    assert page_of(console, room.room_id).context["uncompared"] == "The group's members are not known."


def test_a_group_of_more_devices_than_are_compared_says_so(console, room):
    MlsGroup.objects.update(devices=encryption.MAX_COMPARED + 1)
    page = page_of(console, room.room_id)
    assert page.context["uncompared"].startswith("The group has 5,001 devices")
    assert "users" not in page.context


def test_a_large_group_is_paged_by_user(console):
    users = [MlsDevice(f"@user{number:03}:part.example.org", "PHONE") for number in range(encryption.PAGE + 20)]
    room = EncryptedRoom(*users).begin()
    for first in range(0, len(users), 30):
        adds = users[first : first + 30]
        room.accept(ALICE, room.group.commit(ALICE, adds=adds, odd=Odd(info={"with_tree": False})))
    address, seen = reverse("room:encryption", args=[quote(room.room_id)]), []
    while address:
        page = console.get(address, secure=True)
        seen += [row["user_id"] for row in page.context["users"]]
        address = page.context["following"]
    assert seen == sorted([CREATOR, *(user.user_id for user in users)])
    assert page.context["first"]


def test_of_many_who_have_left_or_lack_a_device_the_first_are_named(console, room):
    many = [MlsDevice(f"@user{number:03}:part.example.org", "PHONE") for number in range(encryption.MAX_SHOWN + 5)]
    for user in many:
        room.member(user.user_id, "join")
    page = page_of(console, room.room_id)
    assert (len(page.context["without"]), page.context["without_number"]) == (encryption.MAX_SHOWN, len(many) + 1)
    room.accept(ALICE, room.group.commit(ALICE, adds=many))
    for user in many:
        room.member(user.user_id, "leave")
    page = page_of(console, room.room_id)
    assert (len(page.context["gone"]), page.context["gone_number"]) == (encryption.MAX_SHOWN, len(many))


def test_more_devices_and_commits_take_no_more_queries(console, room):
    def count():
        with CaptureQueriesContext(connection) as captured:
            page_of(console, room.room_id)
        return len(captured)

    count()
    few = count()
    more = [MlsDevice(BOB.user_id, f"DEVICE{number}") for number in range(10)]
    for device in more:
        room.accept(BOB, room.group.commit(BOB, adds=[device]))
    room.member(CAROL.user_id, "leave")
    assert count() <= few


@pytest.mark.parametrize("algorithm", ["", MEGOLM, MLS_ALGORITHM])
def test_a_room_is_created_with_the_encryption_that_was_chosen(console, algorithm):
    address = reverse("room:enter", args=["create"])
    token = re.search(r'name="once" value="([^"]+)"', console.get(address, secure=True).content.decode())
    assert token
    form = {"creator": CREATOR, "name": "New", "join_rule": "invite", "history_visibility": "shared", "version": "I.1"}
    form |= {"encryption": algorithm, "once": token[1]}
    page = console.post(address, form, secure=True, follow=True)
    assert dict(page.context["about"])["Encryption"] == (algorithm or "none")


def test_an_encryption_that_is_not_offered_is_refused(console):
    form = {"creator": CREATOR, "join_rule": "invite", "history_visibility": "shared", "version": "I.1", "once": "x"}
    console.post(reverse("room:enter", args=["create"]), {**form, "encryption": "m.mls.v1.other"}, secure=True)
    assert not Room.objects.exists()
