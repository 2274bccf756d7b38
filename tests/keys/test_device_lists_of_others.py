"""What is known of other servers' devices: updates and answers, in whatever order they come."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from keys.devices import receive_update, remote
from keys.devices.housekeeping import prune_remote_devices
from keys.devices.remote import NOTHING, REFETCH, known, put_off, store
from keys.models import RemoteDevice, RemoteDeviceList
from linmatrix.protocol.devices import MAX_DEVICES
from tests.support.devices import DeviceMaker

pytestmark = pytest.mark.django_db(transaction=True)

BOB = "@bob:part.example.org"
PHONE, LAPTOP = DeviceMaker(BOB, "PHONE"), DeviceMaker(BOB, "LAPTOP")
NOW = timezone.now()


def update(*changed, removed=(), now=NOW):
    receive_update(BOB, list(changed), list(removed), now=now)


def bob():
    return known([BOB]).get(BOB, NOTHING)


def texts(*makers):
    return {
        maker.device_id: remote.check_device(maker.object(), user_id=BOB, device_id=maker.device_id).json
        for maker in makers
    }


def test_an_update_adds_changes_and_removes():
    update(PHONE.object(), LAPTOP.object())
    assert bob().devices == texts(PHONE, LAPTOP)
    update(PHONE.object(name="new"), removed=["LAPTOP", "NEVER"])
    assert list(bob().devices) == ["PHONE"]
    assert '"name":"new"' in bob().devices["PHONE"]
    assert not bob().stale


def test_an_update_alone_is_no_whole_list():
    update(PHONE.object())
    assert bob().fetched_at is None


@pytest.mark.parametrize(
    "bad",
    [
        DeviceMaker("@mallory:part.example.org", "PHONE").object(),
        {**PHONE.object(), "algorithms": []},
        PHONE.unsigned_object(),
        {"device_id": 7},
        {},
        "PHONE",
        None,
    ],
    ids=["another user's", "changed", "unsigned", "a number", "empty", "a string", "null"],
)
def test_a_device_that_does_not_hold_makes_the_list_stale_and_the_others_stay(bad):
    update(PHONE.object())
    update(bad, LAPTOP.object())
    assert bob().devices == texts(PHONE, LAPTOP)
    assert bob().stale


@pytest.mark.parametrize("removed", [7, None, {}, "A B", "x" * 300])
def test_what_is_no_device_id_is_not_removed(removed):
    update(PHONE.object())
    update(removed=[removed])
    assert list(bob().devices) == ["PHONE"]


def test_a_list_is_replaced_by_the_servers_whole_one():
    update(PHONE.object(), {})
    store(BOB, texts(LAPTOP), revision=bob().revision, now=NOW)
    assert (bob().devices, bob().stale, bob().fetched_at) == (texts(LAPTOP), False, NOW)


def test_an_answer_that_is_older_than_an_update_is_asked_for_again():
    update(PHONE.object())
    asked_at = bob().revision
    update(LAPTOP.object(), PHONE.object(name="new"))
    newest = bob().devices
    store(BOB, texts(PHONE), revision=asked_at, now=NOW)
    assert (bob().devices, bob().stale, bob().fetched_at) == (newest, True, None)
    assert RemoteDeviceList.objects.get().next_attempt == NOW


def test_a_user_has_no_more_devices_than_are_kept():
    store(BOB, dict.fromkeys([f"D{number}" for number in range(MAX_DEVICES - 1)], "{}"), revision=0, now=NOW)
    update(PHONE.object(), LAPTOP.object())
    assert len(bob().devices) == MAX_DEVICES
    assert "PHONE" in bob().devices
    assert "LAPTOP" not in bob().devices


def test_a_list_that_goes_stale_again_and_again_is_not_fetched_all_the_time():
    update({}, now=NOW)
    assert RemoteDeviceList.objects.get().next_attempt == NOW
    store(BOB, {}, revision=bob().revision, now=NOW)
    update({}, now=NOW + timedelta(seconds=1))
    assert RemoteDeviceList.objects.get().next_attempt == NOW + REFETCH


def test_attempts_are_put_off_while_they_fail():
    assert not put_off(BOB, until=NOW)
    update({})
    assert put_off(BOB, until=NOW + timedelta(hours=1), error="x" * 1000)
    row = RemoteDeviceList.objects.get()
    assert (row.failures, row.next_attempt) == (1, NOW + timedelta(hours=1))
    store(BOB, {}, revision=row.revision, now=NOW)
    assert not put_off(BOB, until=NOW)


def test_lists_of_which_nobody_tells_or_asks_are_forgotten(settings):
    update(PHONE.object())
    days = timedelta(days=settings.LIMITS.unused_device_days)
    assert prune_remote_devices(NOW + days - timedelta(hours=1)) == 0
    assert prune_remote_devices(NOW + days + timedelta(hours=1)) == 1
    assert not RemoteDevice.objects.exists()


def test_an_update_of_a_list_that_is_just_being_forgotten_is_taken(settings):
    update(PHONE.object())
    later = NOW + timedelta(days=settings.LIMITS.unused_device_days, hours=1)
    forgotten = []

    def forget():
        try:
            return prune_remote_devices(later)
        finally:
            connections.close_all()

    def housekeeping_comes(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith('INSERT INTO "keys_remotedevicelist"'):
            with ThreadPoolExecutor(1) as pool:
                forgotten.append(pool.submit(forget).result(timeout=60))
        return result

    with connection.execute_wrapper(housekeeping_comes):
        update(LAPTOP.object(), now=later)
    assert (forgotten, bob().devices) == ([0], texts(PHONE, LAPTOP))


@pytest.mark.parametrize(
    "wrong", [{"stale": True}, {"failures": 1}, {"next_attempt": NOW}], ids=["stale", "failures", "next attempt"]
)
def test_the_database_keeps_stale_lists_due(wrong):
    update(PHONE.object())
    with pytest.raises(IntegrityError), transaction.atomic():
        RemoteDeviceList.objects.update(**wrong)
