"""Local users' devices: what is kept of them, what changes have which number, and who hears of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from keys.devices import has_device, storing, uploading
from keys.devices.housekeeping import prune_devices
from keys.devices.storing import (
    MAX_DISPLAY_NAME,
    UnknownDevice,
    delete_device,
    devices_of,
    list_number,
    rename,
    upload_device,
)
from keys.models import Device, DeviceList, OneTimeKey
from keys.signals import device_list_changed
from linmatrix.protocol import devices as protocol
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, SIGNED_CURVE25519
from tests.support.devices import DeviceMaker
from tests.support.lines import wait_until_blocked

pytestmark = pytest.mark.django_db

ALICE = "@alice:hub.example.org"
PHONE = DeviceMaker(ALICE, "PHONE")
NOW = timezone.now()


def upload(maker, *, content=None, **options):
    value = maker.object() if content is None else content
    return upload_device(value, user_id=maker.user_id, device_id=maker.device_id, now=NOW, **options)


@pytest.fixture
def heard():
    """The changes that were told of, each with whether a transaction was open."""
    told = []

    def hear(sender, *, user_id, stream_id, **_more):
        told.append((user_id, stream_id, transaction.get_connection().in_atomic_block))

    device_list_changed.connect(hear)
    yield told
    device_list_changed.disconnect(hear)


def test_a_device_is_kept_as_the_text_that_was_signed(heard):
    device = upload(PHONE, content={**PHONE.object(), "unsigned": {"x": 1}}, display_name="My phone")
    row = devices_of([ALICE]).get()
    assert (row.json, row.display_name, row.stream_id) == (device.json, "My phone", 1)
    assert "unsigned" not in row.json
    assert has_device(ALICE, "PHONE")
    assert not has_device(ALICE, "OTHER")
    assert heard == [(ALICE, 1, True)]


def test_the_same_again_changes_nothing_but_a_name(heard):
    upload(PHONE)
    upload(PHONE, display_name="Phone")
    assert [row.display_name for row in devices_of([ALICE])] == ["Phone"]
    assert len(heard) == 1


def test_what_does_not_hold_changes_nothing(heard):
    with pytest.raises(BadSignature):
        upload(PHONE, content=PHONE.sign(PHONE.unsigned_object(), only=("mls",)))
    assert not Device.objects.exists()
    assert heard == []


def changes(since):
    """What changed after a number: texts of devices, ids of those removed."""
    rows = Device.objects.filter(user_id=ALICE, stream_id__gt=since).order_by("stream_id")
    return [row.json for row in rows if not row.deleted], [row.device_id for row in rows if row.deleted]


def test_changes_are_known_by_their_numbers():
    first, second = upload(PHONE).json, upload(DeviceMaker(ALICE, "LAPTOP")).json
    assert changes(0) == ([first, second], [])
    assert changes(1) == ([second], [])
    third = upload(PHONE, content=PHONE.object(name="new")).json
    assert third != first
    assert changes(1) == ([second, third], [])
    delete_device(ALICE, "LAPTOP", now=NOW)
    assert changes(1) == ([third], ["LAPTOP"])
    assert changes(4) == ([], [])
    assert (list_number(ALICE), list_number("@nobody:hub.example.org")) == (4, 0)


def test_a_removed_device_is_gone_with_its_keys_and_can_come_again():
    upload(PHONE, display_name="Phone")
    uploading.upload_keys(ALICE, "PHONE", one_time_keys=PHONE.olm_keys(range(3)), now=NOW)
    delete_device(ALICE, "PHONE", now=NOW)
    row = Device.objects.get()
    assert (row.json, row.display_name, row.deleted) == ("", "", True)
    assert not has_device(ALICE, "PHONE")
    assert not OneTimeKey.objects.exists()
    with pytest.raises(UnknownDevice):
        delete_device(ALICE, "PHONE", now=NOW)
    upload(PHONE)
    assert has_device(ALICE, "PHONE")
    assert list_number(ALICE) == 3


@pytest.mark.parametrize("user", [ALICE, "@bob:hub.example.org"])
def test_a_user_has_no_more_devices_than_are_told_of(user):
    DeviceList.objects.create(user_id=ALICE, stream_id=500)
    rows = [
        Device(user_id=ALICE, device_id=f"D{number}", json="{}", stream_id=number, changed_at=NOW)
        for number in range(protocol.MAX_DEVICES)
    ]
    Device.objects.bulk_create(rows)
    maker = DeviceMaker(user, "ONEMORE")
    if user == ALICE:
        with pytest.raises(Malformed, match="has 500 devices already"):
            upload(maker)
        delete_device(ALICE, "D7", now=NOW)
    upload(maker)
    assert has_device(user, "ONEMORE")


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ("nothing", {KEY_PACKAGE: 1, SIGNED_CURVE25519: 1}),
        ("mls", {SIGNED_CURVE25519: 1}),
        ("olm", {KEY_PACKAGE: 1}),
    ],
)
def test_a_device_that_changes_a_key_loses_the_one_time_keys_that_only_the_old_one_vouches_for(changed, left):
    upload(PHONE)
    keys = dict([PHONE.key_package("1"), PHONE.olm_key("1")])
    uploading.upload_keys(ALICE, "PHONE", one_time_keys=keys, now=NOW)
    later = DeviceMaker(ALICE, "PHONE")
    new = DeviceMaker(ALICE, "PHONE", generation=1)
    if changed == "mls":
        later.in_mls = new.in_mls
    if changed == "olm":
        later.ed25519 = new.ed25519
    upload(later, content=later.object(name="changed"))
    assert uploading.key_counts(ALICE, "PHONE", now=NOW).one_time == left


def test_a_name_is_for_people_and_no_change(heard):
    upload(PHONE)
    rename(ALICE, "PHONE", "Alices Ger\N{LATIN SMALL LETTER A WITH DIAERESIS}t")
    assert devices_of([ALICE]).get().display_name.startswith("Alices")
    assert len(heard) == 1
    for name in ("x" * (MAX_DISPLAY_NAME + 1), "two\nlines"):
        with pytest.raises(Malformed):
            rename(ALICE, "PHONE", name)
    with pytest.raises(UnknownDevice):
        rename(ALICE, "OTHER", "x")


def test_a_name_that_is_given_while_the_device_changes_stays(transactional_db):
    upload(PHONE, display_name="Old")

    def change():
        try:
            upload(PHONE, content=PHONE.object(name="changed"))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            rename(ALICE, "PHONE", "New")
            changing = pool.submit(change)
            wait_until_blocked()
        changing.result(timeout=60)
    row = devices_of([ALICE]).get()
    assert (row.display_name, row.stream_id) == ("New", 2)


def test_removed_devices_are_forgotten_when_nobody_is_told_of_them_any_more(transactional_db, settings):
    upload(PHONE)
    upload(DeviceMaker(ALICE, "LAPTOP"))
    delete_device(ALICE, "PHONE", now=NOW)
    days = timedelta(days=settings.LIMITS.removed_device_days)
    assert prune_devices(NOW + days - timedelta(hours=1)) == 0
    assert prune_devices(NOW + days + timedelta(hours=1)) == 1
    assert has_device(ALICE, "LAPTOP")
    upload(PHONE)
    assert list_number(ALICE) == 4  # the numbers go on


@pytest.mark.parametrize("wrong", [{"json": ""}, {"deleted": True}, {"deleted": True, "json": "", "display_name": "x"}])
def test_the_database_keeps_devices_whole(wrong):
    upload(PHONE)
    with pytest.raises(IntegrityError), transaction.atomic():
        Device.objects.update(**wrong)


def test_stored_devices_are_read_as_they_came():
    assert storing.stored(storing.device_row(ALICE, upload(PHONE).device_id)) == upload(PHONE)
