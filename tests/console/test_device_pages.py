"""Devices, their keys and their messages in the console: counted, never read; each lever asked for, once, on record."""

import re
from typing import Any, cast

import orjson
import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from federation.blocking import block
from federation.edus import inbox, to_device
from federation.models import (
    Destination,
    DeviceListCursor,
    OutboundEdu,
    OutboundTransaction,
    ToDeviceInbox,
    ToDeviceMessage,
)
from keys.devices import has_device
from keys.devices.claiming import claim
from keys.devices.storing import upload_device
from keys.devices.uploading import upload_keys
from keys.models import Device, RemoteDeviceList
from linmatrix.protocol.one_time_keys import SIGNED_CURVE25519
from linmatrix.row_levers import LeverAdmin
from tests.support.devices import DeviceMaker
from tests.support.lines import append, make_room

pytestmark = pytest.mark.django_db

ALICE, BOB = "@alice:hub.example.org", "@bob:peer.example.net"
PHONE = DeviceMaker(ALICE, "PHONE")
SECRET = "sealed for one device alone"
SAID = "said to everybody in the room"


@pytest.fixture
def phone(db: None) -> Device:
    """Alice's phone, with two keys for single use and one for when they end."""
    upload_device(PHONE.object(), user_id=ALICE, device_id="PHONE", now=timezone.now(), display_name="Phone")
    upload_keys(
        ALICE,
        "PHONE",
        one_time_keys=PHONE.olm_keys([1, 2]),
        reusable_keys=PHONE.olm_keys([3], fallback=True),
        now=timezone.now(),
    )
    return Device.objects.get()


@pytest.fixture
def messages(phone: Device) -> ToDeviceInbox:
    """Three messages wait for the phone and two for a device elsewhere."""
    for number in range(3):
        send(ALICE, "PHONE", number)
    for number in range(2):
        send(BOB, "LAPTOP", number)
    return ToDeviceInbox.objects.get()


def send(user_id: str, device_id: str, number: int) -> None:
    content = {"ciphertext": SECRET, "number": number}
    to_device.send(sender=ALICE, messages=[(user_id, device_id, "m.room.encrypted", content)])


def operator(*permissions: str) -> Client:
    """A console for staff who may look at everything here and have these permissions besides."""
    user = User.objects.create_user(f"clerk{User.objects.count()}", is_staff=True)
    looking = ["view_device", "view_remotedevicelist", "view_todeviceinbox"]
    user.user_permissions.set(Permission.objects.filter(codename__in=[*looking, *permissions]))
    client = Client()
    client.force_login(user)
    return client


def page(row: Any, name: str = "change") -> str:
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{name}", args=[quote(row.pk)])


def read(console: Client, address: str) -> str:
    answer = console.get(address, secure=True)
    assert answer.status_code == 200, address
    return answer.content.decode()


def in_words(text: str) -> str:
    return " ".join(strip_tags(text).split())


def pull(console: Client, row: Any, **changed: str) -> str:
    """Pull a row's lever as its form has it, and give what the next page says."""
    question = read(console, page(row, "lever"))
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', question)) | changed
    return in_words(console.post(page(row, "lever"), fields, secure=True, follow=True).content.decode())


# What is in messages is shown nowhere.


def addresses() -> list[str]:
    """Every list in which to-device messages could come up, and every row of it."""
    found = [reverse("admin:index")]
    for model in (OutboundEdu, ToDeviceInbox, Device, Destination, OutboundTransaction, DeviceListCursor):
        found.append(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
        for row in model.objects.all():
            found += [page(row), page(row, "history")]
    return found


def frozen(kind: str, content: dict[str, Any]) -> OutboundTransaction:
    body = {"edus": [{"type": kind, "sender": ALICE, "content": content}], "pdus": [{"content": {"body": SAID}}]}
    return OutboundTransaction.objects.create(
        destination=Destination.objects.first() or Destination.objects.create(server="peer.example.net"),
        txn_id="txn", path="/", body=orjson.dumps(body), cursors=[], lpdus=[], events=1,
    )  # fmt: skip


def test_what_messages_say_is_in_no_page_and_is_not_even_read(console: Client, messages: ToDeviceInbox) -> None:
    frozen("m.direct_to_device", {"message": {"ciphertext": SECRET}, "target": BOB})
    assert ToDeviceMessage.objects.filter(json__contains=SECRET).count() == 3
    assert OutboundEdu.objects.filter(json__contains=SECRET).count() == 2
    everything = addresses()
    with CaptureQueriesContext(connection) as captured:
        pages = [read(console, address) for address in everything]
    assert not any(SECRET in text for text in pages)
    assert any(SAID in text for text in pages)  # of the same transaction
    statements = [query["sql"] for query in captured]
    assert any('todevicemessage"."type' in statement for statement in statements)
    assert not any(f'{table}"."json' in text for text in statements for table in ("todevicemessage", "outboundedu"))


@pytest.mark.parametrize(
    ("kind", "shown"), [("m.device_list_update", True), ("m.direct_to_device", False), ("x", False)]
)
def test_of_edus_that_were_sent_only_device_lists_are_shown(console: Client, kind: str, shown: bool) -> None:
    text = in_words(read(console, page(frozen(kind, {"changed": ["all may know"]}))))
    assert ("all may know" in text) == shown
    assert f"1 EDUs {kind}" in text


def test_a_body_of_a_transaction_without_edus_is_shown_as_it_is(console: Client, db: None) -> None:
    row = frozen("x", {})
    OutboundTransaction.objects.update(body=b'{"pdus":[]}')
    assert "edus" not in in_words(read(console, page(row))).partition("body")[2].partition("Body")[0]


def test_no_page_offers_to_change_or_add_anything(console: Client, messages: ToDeviceInbox) -> None:
    RemoteDeviceList.objects.create(user_id=BOB, changed_at=timezone.now())
    for model in (Device, RemoteDeviceList, ToDeviceInbox, OutboundEdu):
        row = model.objects.order_by("pk").first()
        before = list(model.objects.values())
        add = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")
        for address in (add, page(row), page(row, "delete")):
            assert console.post(address, {}, secure=True).status_code == 403
        assert list(model.objects.values()) == before


# Devices.


def test_a_device_shows_its_public_keys_and_how_many_are_left(console: Client, phone: Device) -> None:
    text = in_words(read(console, page(phone)))
    assert f"{SIGNED_CURVE25519}: 2 for single use, and one that may be given again and again" in text
    assert "none that is remembered" in text
    claim("peer.example.net", {ALICE: {"PHONE": SIGNED_CURVE25519}}, now=timezone.now())
    text = in_words(read(console, page(phone)))
    assert f"{SIGNED_CURVE25519}: 1 for single use" in text
    assert re.search(r"1, the last at \d", text)
    for key in PHONE.object()["keys"].values():
        assert key in text


def test_a_device_without_keys_says_so(console: Client, db: None) -> None:
    upload_device(PHONE.object(), user_id=ALICE, device_id="PHONE", now=timezone.now())
    assert "none: nobody can begin to send to this device" in in_words(read(console, page(Device.objects.get())))


def test_devices_are_found_by_their_user_and_by_whether_they_were_removed(console: Client, phone: Device) -> None:
    listed = reverse("admin:keys_device_changelist")
    for query, number in [({"q": ALICE}, 1), ({"q": "@x:hub.example.org"}, 0), ({"deleted__exact": "1"}, 0)]:
        assert console.get(listed, query, secure=True).context["cl"].result_count == number


def test_a_device_is_deleted_after_a_question_once_and_on_record(console: Client, messages: ToDeviceInbox) -> None:
    phone = Device.objects.get()
    assert page(phone, "lever") in read(console, page(phone))
    assert has_device(ALICE, "PHONE")
    assert "Deleted PHONE of @alice:hub.example.org." in pull(console, phone)
    assert not has_device(ALICE, "PHONE")
    assert not ToDeviceInbox.objects.exists()
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == (str(phone.pk), "Deleted PHONE of @alice:hub.example.org.")
    assert "Nothing was done" in pull(console, phone)
    assert LogEntry.objects.count() == 1
    assert page(phone, "lever") not in read(console, page(phone))


# What waits for devices.


def test_an_inbox_says_how_many_wait_since_when_and_from_where(console: Client, messages: ToDeviceInbox) -> None:
    first = ToDeviceMessage.objects.get(position=1)
    inbox.acknowledge(ALICE, "PHONE", 1, now=timezone.now())
    text = in_words(read(console, page(messages)))
    second = ToDeviceMessage.objects.get(position=2)
    assert f"{second.received_at:%H:%M:%S}.{second.received_at.microsecond // 1000:03}" in text
    assert "hub.example.org: 2, the oldest came" in text
    assert "2: m.room.encrypted of @alice:hub.example.org" in text
    assert "1: m.room.encrypted" not in text
    assert first.received_at <= second.received_at
    listed = console.get(reverse("admin:federation_todeviceinbox_changelist"), secure=True).context["cl"].result_list
    assert [(row.waiting, row.oldest) for row in listed] == [(2, second.received_at)]


def test_inboxes_are_found_by_how_full_they_are(console: Client, messages: ToDeviceInbox, settings: Any) -> None:
    def found(chosen: str) -> int:
        query = {"messages": chosen}
        listed = console.get(reverse("admin:federation_todeviceinbox_changelist"), query, secure=True)
        return int(listed.context["cl"].result_count)

    assert (found("some"), found("half"), found("none")) == (1, 0, 0)
    ToDeviceInbox.objects.update(waiting=settings.LIMITS.to_device_messages // 2)
    assert found("half") == 1
    ToDeviceInbox.objects.update(waiting=1, waiting_bytes=settings.LIMITS.to_device_bytes // 2)
    assert found("half") == 1
    ToDeviceInbox.objects.update(waiting=0, waiting_bytes=0)
    assert (found("some"), found("half"), found("none")) == (0, 0, 1)


def test_what_waits_is_dropped_up_to_what_the_operator_was_asked_about(
    console: Client, messages: ToDeviceInbox
) -> None:
    send(ALICE, "PHONE", 9)
    assert "Dropped 3 messages for PHONE" in pull(console, messages, upto="3")
    (left,) = inbox.read(ALICE, "PHONE")
    assert left.content["number"] == 9
    assert "Nothing that was to be dropped waits" in pull(console, messages, upto="3")
    assert [entry.change_message for entry in LogEntry.objects.all()] == [f"Dropped 3 messages for {messages}."]
    assert "Dropped 1 message for" in pull(console, messages)
    assert inbox.read(ALICE, "PHONE") == []


@pytest.mark.parametrize("upto", ["", "-1", "x", "9" * 30, "٣"])
def test_a_form_that_names_no_position_drops_nothing(console: Client, messages: ToDeviceInbox, upto: str) -> None:
    assert "Nothing was dropped" in pull(console, messages, upto=upto)
    assert len(inbox.read(ALICE, "PHONE")) == 3


def test_a_destination_says_how_many_edus_wait(console: Client, messages: ToDeviceInbox) -> None:
    destination = Destination.objects.get(server="peer.example.net")
    DeviceListCursor.objects.create(destination=destination, user_id=ALICE, told=0, wanted=1)
    DeviceListCursor.objects.create(destination=destination, user_id="@b:hub.example.org", told=1, wanted=1)
    assert "to-device messages: 2, users' device lists: 1" in in_words(
        read(console, page(destination)).replace("&#x27;", "'")
    )
    listed = console.get(reverse("admin:federation_devicelistcursor_changelist"), {"due": "yes"}, secure=True)
    assert [row.user_id for row in listed.context["cl"].result_list] == [ALICE]


# Devices of others.


@pytest.fixture
def remote(tls_peer: Any) -> RemoteDeviceList:
    """A stale list of a user whose server tells of one device."""
    maker = DeviceMaker(tls_peer.user("bob"), "LAPTOP")
    tls_peer.endpoints["GET", "user"] = lambda _request: (
        200,
        {"user_id": maker.user_id, "stream_id": 1, "devices": [{"device_id": "LAPTOP", "keys": maker.object()}]},
    )
    now = timezone.now()
    return RemoteDeviceList.objects.create(user_id=maker.user_id, stale=True, changed_at=now, next_attempt=now)


def test_a_list_is_fetched_again_at_once(console: Client, remote: RemoteDeviceList) -> None:
    assert "told 1 device of" in pull(console, remote)
    remote.refresh_from_db()
    assert (remote.stale, remote.devices.get().device_id) == (False, "LAPTOP")
    assert "LAPTOP: m.mls" in in_words(read(console, page(remote)))
    assert LogEntry.objects.count() == 1


def test_a_server_that_does_not_answer_is_told_and_nothing_changes(
    console: Client, remote: RemoteDeviceList, tls_peer: Any
) -> None:
    tls_peer.endpoints["GET", "user"] = lambda _request: (500, {})
    assert f"No list from {tls_peer.name}" in pull(console, remote)
    remote.refresh_from_db()
    assert (remote.stale, remote.fetched_at) == (True, None)
    assert not LogEntry.objects.exists()


def test_a_blocked_server_is_not_asked(console: Client, remote: RemoteDeviceList, tls_peer: Any) -> None:
    block(tls_peer.name, reason="spam", by="operator", now=timezone.now())
    assert "is blocked" in pull(console, remote)
    assert page(remote, "lever") not in read(console, page(remote))
    assert tls_peer.requests == []


# Permissions.


@pytest.mark.parametrize(
    ("model", "permission"),
    [
        (Device, "delete_device"),
        (ToDeviceInbox, "delete_todevicemessage"),
        (RemoteDeviceList, "change_remotedevicelist"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_lever_is_for_those_who_have_its_permission(messages: ToDeviceInbox, model: type, permission: str) -> None:
    if model is RemoteDeviceList:
        RemoteDeviceList.objects.create(user_id=BOB, changed_at=timezone.now())
    row: Any = model._default_manager.get()  # type: ignore[attr-defined]
    assert cast(LeverAdmin, admin.site.get_model_admin(model)).lever.permission.endswith(f".{permission}")
    others = {"delete_device", "delete_todevicemessage", "change_remotedevicelist"} - {permission}
    clerk = operator(*others)
    before = model._default_manager.values().get()  # type: ignore[attr-defined]
    assert page(row, "lever") not in read(clerk, page(row))
    assert clerk.get(page(row, "lever"), secure=True).status_code == 403
    assert clerk.post(page(row, "lever"), {"upto": "3"}, secure=True).status_code == 403
    assert model._default_manager.values().get() == before  # type: ignore[attr-defined]
    able = operator(permission)
    assert page(row, "lever") in read(able, page(row))
    assert able.get(page(row, "lever"), secure=True).status_code == 200
    assert model._default_manager.values().get() == before  # type: ignore[attr-defined]


def test_a_lever_of_a_row_that_is_none_is_not_found(console: Client, phone: Device) -> None:
    address = page(phone, "lever").replace(str(phone.pk), "999")
    assert console.get(address, secure=True).status_code == 404


def test_more_of_everything_takes_no_more_queries(console: Client, messages: ToDeviceInbox) -> None:
    append(make_room("a", "peer.example.net"), "one")
    rows = [Device.objects.get(), messages, Destination.objects.get()]

    def count() -> list[int]:
        counts = []
        for row in rows:
            with CaptureQueriesContext(connection) as captured:
                read(console, page(row))
            counts.append(len(captured))
        return counts

    count()
    few = count()
    upload_keys(ALICE, "PHONE", one_time_keys=PHONE.olm_keys(range(10, 40)), now=timezone.now())
    for number in range(30):
        send(ALICE, "PHONE", number)
        send(BOB, f"DEVICE{number}", number)
    assert count() == few
