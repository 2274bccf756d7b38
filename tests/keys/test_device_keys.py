"""One-time keys of local users' devices: uploaded all or none, given each once, counted against who claims them."""

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from keys.devices.claiming import PERIOD, claim
from keys.devices.housekeeping import prune_keys
from keys.devices.storing import UnknownDevice, delete_device, upload_device
from keys.devices.uploading import key_counts, upload_keys
from keys.models import OneTimeKey
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, SIGNED_CURVE25519
from tests.support.devices import DeviceMaker
from tests.support.lines import wait_until_blocked
from tests.support.mls_writer import NOT_BEFORE

pytestmark = pytest.mark.django_db

ALICE = "@alice:hub.example.org"
PHONE, LAPTOP = DeviceMaker(ALICE, "PHONE"), DeviceMaker(ALICE, "LAPTOP")
NOW = timezone.now()
US, THEM, OTHERS = "hub.example.org", "part.example.org", "other.example.org"


@pytest.fixture(autouse=True)
def _devices(db):
    for maker in (PHONE, LAPTOP):
        upload_device(maker.object(), user_id=ALICE, device_id=maker.device_id, now=NOW)


def upload(keys, *, reusable=None, maker=PHONE, now=NOW):
    return upload_keys(ALICE, maker.device_id, one_time_keys=keys, reusable_keys=reusable, now=now)


def claimed(origin=THEM, *, algorithm=SIGNED_CURVE25519, device="PHONE", user=ALICE, now=NOW):
    """The one key of a claim for one device, by name; None for none."""
    answer = claim(origin, {user: {device: algorithm}}, now=now)
    if not answer:
        return None
    ((name, value),) = answer[user][device].items()
    return name, value


@pytest.fixture
def quota(settings):
    """Sets how many keys a server may have of a device in an hour."""

    def use(number):
        settings.LIMITS = replace(settings.LIMITS, claimed_keys_per_hour=number)

    return use


def test_keys_are_given_in_the_order_of_upload_each_once():
    keys = [PHONE.olm_key(number) for number in ("B", "A", "C")]
    assert upload(dict(keys)).one_time == {SIGNED_CURVE25519: 3}
    assert [claimed(), claimed(), claimed()] == keys
    assert claimed() is None


def test_key_packages_are_named_by_their_algorithm_alone():
    _, package = PHONE.key_package("1")
    upload(dict([PHONE.key_package("1")]))
    assert claimed(algorithm=KEY_PACKAGE) == (KEY_PACKAGE, package)


def test_a_fallback_key_is_given_when_there_are_no_others_and_as_often_as_is_asked():
    fallback = PHONE.olm_key("F", fallback=True)
    upload(PHONE.olm_keys(["1"]), reusable=dict([fallback]))
    assert claimed() == PHONE.olm_key("1")
    assert [claimed(), claimed(OTHERS)] == [fallback, fallback]
    assert claimed()[1]["fallback"] is True


def test_a_last_resort_package_is_given_when_there_are_no_others():
    last, once = PHONE.key_package("L", last_resort=True), PHONE.key_package("1")
    counts = upload(dict([last, once]))
    assert (counts.one_time, counts.reusable) == ({KEY_PACKAGE: 1}, [KEY_PACKAGE])
    assert [claimed(algorithm=KEY_PACKAGE)[1] for _ in range(3)] == [once[1], last[1], last[1]]


def test_a_newer_key_to_be_reused_takes_the_place_of_the_one_before():
    for number in ("F1", "F2"):
        upload({}, reusable=dict([PHONE.olm_key(number, fallback=True)]))
    assert claimed()[0] == f"{SIGNED_CURVE25519}:F2"
    assert OneTimeKey.objects.count() == 1


@pytest.mark.parametrize("last_resort", [False, True])
def test_an_expired_key_is_never_given(last_resort):
    soon = int(NOW.timestamp()) + 60
    upload(dict([PHONE.key_package("1", lifetime=(NOT_BEFORE, soon), last_resort=last_resort)]))
    at_last = datetime.fromtimestamp(soon, tz=UTC)
    assert claimed(algorithm=KEY_PACKAGE, now=at_last) is None
    counts = key_counts(ALICE, "PHONE", now=at_last)
    assert (counts.one_time, counts.reusable) == ({}, [])
    assert claimed(algorithm=KEY_PACKAGE, now=at_last - timedelta(seconds=1))


def test_a_key_that_lasts_for_ever_is_one():
    upload(dict([PHONE.key_package("1", lifetime=(0, 2**64 - 1))]))
    assert OneTimeKey.objects.get().expires_at is None


@pytest.mark.parametrize(
    "missing",
    [{"device": "OTHER"}, {"user": "@bob:hub.example.org"}, {"user": "@x:part.example.org"}, {"algorithm": "x"}],
    ids=str,
)
def test_what_there_is_not_is_left_out(missing):
    upload(PHONE.olm_keys("12"))
    assert claimed(**missing) is None
    assert claimed()


def test_one_claim_may_be_for_many_devices():
    upload(PHONE.olm_keys("12"))
    upload(dict([LAPTOP.key_package("1")]), maker=LAPTOP)
    wanted = {ALICE: {"PHONE": SIGNED_CURVE25519, "LAPTOP": KEY_PACKAGE, "NONE": KEY_PACKAGE}}
    assert claim(THEM, wanted, now=NOW) == {
        ALICE: {"PHONE": dict([PHONE.olm_key("1")]), "LAPTOP": {KEY_PACKAGE: LAPTOP.key_package("1")[1]}}
    }


# Uploads.


def test_an_upload_with_one_key_that_does_not_hold_takes_none():
    wrong = LAPTOP.olm_key("3")
    with pytest.raises(BadSignature):
        upload({**PHONE.olm_keys("12"), **dict([wrong])})
    assert not OneTimeKey.objects.exists()
    upload({**PHONE.olm_keys("12"), **dict([PHONE.olm_key("3")])})
    assert OneTimeKey.objects.count() == 3


def test_an_upload_that_is_repeated_changes_nothing_even_after_a_claim():
    keys = PHONE.olm_keys("12")
    upload(keys)
    claimed()
    assert upload(keys).one_time == {SIGNED_CURVE25519: 1}
    assert claimed() == PHONE.olm_key("2")
    assert claimed() is None


def test_an_id_means_one_key_until_that_is_given_away():
    first, (_, second) = PHONE.olm_key("1"), PHONE.olm_key("2")
    upload(dict([first]))
    with pytest.raises(Malformed, match="was another key before"):
        upload({first[0]: second})
    assert claimed() == first
    upload({first[0]: second})
    upload(dict([first]))  # an answer that was lost
    assert [claimed(), claimed()] == [(first[0], second), None]


@pytest.mark.parametrize("removed", [False, True])
def test_a_device_that_starts_anew_may_number_its_keys_from_the_beginning(removed):
    upload(PHONE.olm_keys("12"))
    claimed()
    anew = DeviceMaker(ALICE, "PHONE", generation=1)
    if removed:
        delete_device(ALICE, "PHONE", now=NOW)
    upload_device(anew.object(), user_id=ALICE, device_id="PHONE", now=NOW)
    assert upload(anew.olm_keys("12")).one_time == {SIGNED_CURVE25519: 2}
    assert claimed() == anew.olm_key("1")


@pytest.mark.parametrize("given_away", [False, True])
def test_a_key_is_for_single_use_or_for_more(given_away):
    upload(PHONE.olm_keys("1"))
    if given_away:
        claimed()
    with pytest.raises(Malformed, match="is there for single use and for more"):
        upload({}, reusable=PHONE.olm_keys("1", fallback=True))


@pytest.mark.parametrize("given_away", [False, True])
def test_a_key_never_comes_under_another_id(given_away):
    upload(PHONE.olm_keys("1"))
    if given_away:
        claimed()
    with pytest.raises(Malformed, match="was there before under another id"):
        upload({f"{SIGNED_CURVE25519}:2": PHONE.olm_key("1")[1]})


def test_a_key_that_was_given_away_does_not_come_back_with_its_device():
    upload(PHONE.olm_keys("12"))
    given = claimed()
    delete_device(ALICE, "PHONE", now=NOW)
    upload_device(PHONE.object(), user_id=ALICE, device_id="PHONE", now=NOW)
    upload(PHONE.olm_keys("12"))
    assert claimed() != given
    assert claimed() is None


SAME = dict.fromkeys([f"{SIGNED_CURVE25519}:1", f"{SIGNED_CURVE25519}:2"], PHONE.olm_key("1")[1])
SAME_ID = {f"{SIGNED_CURVE25519}:1": PHONE.olm_key("2", fallback=True)[1]}


@pytest.mark.parametrize(
    ("keys", "reusable"),
    [(SAME, {}), ({}, PHONE.olm_keys("12", fallback=True)), (PHONE.olm_keys("1"), SAME_ID)],
    ids=["keys", "fallback keys", "ids"],
)
def test_an_upload_has_no_key_or_id_twice_and_one_of_each_kind_to_be_reused(keys, reusable):
    with pytest.raises(Malformed):
        upload(keys, reusable=reusable)
    assert not OneTimeKey.objects.exists()


@pytest.mark.parametrize("before", [0, 3])
def test_a_device_has_no_more_keys_than_are_kept(before, settings):
    settings.LIMITS = replace(settings.LIMITS, one_time_keys=5)
    upload(PHONE.olm_keys(range(before)))
    with pytest.raises(Malformed, match="at most 5 are kept"):
        upload(PHONE.olm_keys(range(before, 6)))
    upload(PHONE.olm_keys(range(5)))
    upload(dict([PHONE.key_package("1")]))  # another algorithm
    upload(LAPTOP.olm_keys(range(5)), maker=LAPTOP)  # another device
    claimed()
    assert upload(PHONE.olm_keys([9])).one_time[SIGNED_CURVE25519] == 5


def test_keys_are_of_devices_that_there_are():
    with pytest.raises(UnknownDevice):
        upload({}, maker=DeviceMaker(ALICE, "OTHER"))


# Quotas (threat 62).


def test_a_server_gets_so_many_keys_of_a_device_in_an_hour_and_then_those_to_be_reused(quota):
    quota(2)
    upload(PHONE.olm_keys(range(5)), reusable=dict([PHONE.olm_key("F", fallback=True)]))
    upload(LAPTOP.olm_keys(range(3)), maker=LAPTOP)
    assert [claimed()[0][-1] for _ in range(4)] == ["0", "1", "F", "F"]
    assert claimed(OTHERS)[0].endswith(":2")
    assert claimed(device="LAPTOP")[0].endswith(":0")
    assert claimed(now=NOW + PERIOD - timedelta(seconds=1))[0].endswith(":F")
    assert claimed(now=NOW + PERIOD)[0].endswith(":3")


def test_without_a_key_to_be_reused_there_is_nothing_more(quota):
    quota(1)
    upload(PHONE.olm_keys(range(3)))
    assert claimed()
    assert claimed() is None
    assert key_counts(ALICE, "PHONE", now=NOW).one_time == {SIGNED_CURVE25519: 2}


def test_our_own_users_have_no_quota(quota):
    quota(1)
    upload(PHONE.olm_keys(range(3)))
    assert all(claimed(US) for _ in range(3))


# At once.


def in_threads(number, work):
    """Run `work(index)` in so many threads at the same time, each with a connection of its own."""
    together = threading.Barrier(number)

    def run(index):
        try:
            together.wait(timeout=60)
            return work(index)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def test_a_thousand_claims_at_once_for_five_hundred_keys_give_each_key_once(transactional_db, quota):
    quota(1000)
    for maker in (PHONE, LAPTOP):
        upload(maker.olm_keys(range(250)), maker=maker)

    def take(index):
        return [claimed(f"s{index}.example.org", device=("PHONE", "LAPTOP")[turn % 2]) for turn in range(50)]

    got = [key for keys in in_threads(20, take) for key in keys]
    given = Counter((value["key"]) for _, value in filter(None, got))
    assert len(got) == 1000
    assert len(given) == given.total() == 500
    assert not OneTimeKey.objects.filter(claimed_at__isnull=True).exists()


def test_a_server_that_claims_from_many_threads_gets_no_more_than_its_quota(transactional_db, quota):
    quota(10)
    upload(PHONE.olm_keys(range(50)))
    got = [key for keys in in_threads(8, lambda _index: [claimed() for _ in range(5)]) for key in keys]
    assert sum(key is not None for key in got) == 10


def test_a_claim_does_not_wait_for_a_key_that_another_is_taking(transactional_db, quota):
    upload(PHONE.olm_keys("12"))
    with transaction.atomic():
        assert claimed(US) == PHONE.olm_key("1")
        (other,) = in_threads(1, lambda _index: claimed(OTHERS))
    assert other == PHONE.olm_key("2")


def test_a_claim_that_is_undone_gives_the_key_to_the_next():
    upload(PHONE.olm_keys("1"))
    with transaction.atomic():
        claimed()
        transaction.set_rollback(True)
    assert claimed() == PHONE.olm_key("1")


def test_a_device_that_is_removed_while_keys_come_has_none_left(transactional_db):
    keys = PHONE.olm_keys("12")

    def remove(_index):
        delete_device(ALICE, "PHONE", now=NOW)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            upload(keys)
            removing = pool.submit(lambda: in_threads(1, remove))
            wait_until_blocked()
        removing.result(timeout=60)
    assert not OneTimeKey.objects.exists()


# What is forgotten.


def test_what_was_given_away_is_forgotten_in_the_end_and_expired_keys_at_once(transactional_db, settings):
    soon = int(NOW.timestamp()) + 60
    upload({**PHONE.olm_keys("12"), **dict([PHONE.key_package("1", lifetime=(NOT_BEFORE, soon))])})
    claimed()
    assert prune_keys(NOW + timedelta(seconds=59)) == 0
    assert prune_keys(NOW + timedelta(seconds=61)) == 1
    days = timedelta(days=settings.LIMITS.claimed_key_days)
    assert prune_keys(NOW + days - timedelta(hours=1)) == 0
    assert prune_keys(NOW + days + timedelta(hours=1)) == 1
    assert list(OneTimeKey.objects.values_list("key_id", flat=True)) == ["2"]


def test_a_claim_finds_its_keys_and_those_before_by_indexes():
    upload(PHONE.olm_keys("1"))
    plans = []

    def explain(execute, sql, params, many, context):
        if "UPDATE keys_onetimekey" in sql:
            execute(f"EXPLAIN {sql}", params, many, context)
            plans.append("\n".join(row[0] for row in context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    with connection.execute_wrapper(explain):
        assert claimed()
    (plan,) = plans
    assert "using one_time_key_to_give" in plan
    assert re.search(r"one_time_key_given\b", plan)
    assert "Sort" not in plan


def test_housekeeping_does_not_look_at_keys_that_were_given_away_and_have_expired_since():
    expired = OneTimeKey.objects.filter(expires_at__lt=NOW, claimed_at__isnull=True).order_by("expires_at")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = expired.explain()
    assert "one_time_key_expiring" in plan
    assert "Filter" not in plan


@pytest.mark.parametrize(
    "wrong",
    [{"json": ""}, {"claimed_at": NOW}, {"claimed_by": "x"}, {"claimed_at": NOW, "claimed_by": "x"}],
    ids=["text", "time", "server", "both"],
)
def test_the_database_keeps_a_key_whole_until_it_is_given_away(wrong):
    upload(PHONE.olm_keys("1"))
    with pytest.raises(IntegrityError), transaction.atomic():
        OneTimeKey.objects.update(**wrong)
