"""`manage.py devices`: what it prints, and how it fails."""

import io
import json

import pytest
from django.utils import timezone

from federation import devices
from keys.devices import has_device
from keys.models import OneTimeKey
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, SIGNED_CURVE25519
from tests.federation.test_commands import failure, run
from tests.support.devices import DeviceMaker

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"
PHONE = DeviceMaker(ALICE, "PHONE")


@pytest.fixture
def file(tmp_path):
    """Writes a value into a file; its path."""

    def write(value):
        path = tmp_path / "file.json"
        path.write_text(json.dumps(value))
        return str(path)

    return write


@pytest.fixture
def phone(file):
    run("devices", "add", "alice", file(PHONE.object()), "--name", "Phone")


def test_a_device_and_its_keys_from_the_first_to_the_last(file):
    assert run("devices", "add", "alice", file(PHONE.object())) == ["PHONE"]
    keys = {
        "device_keys": PHONE.object(),
        "one_time_keys": {**PHONE.olm_keys("123"), **dict([PHONE.key_package("1")])},
        "fallback_keys": PHONE.olm_keys("F", fallback=True),
    }
    counts = f"1 {KEY_PACKAGE}, 3 {SIGNED_CURVE25519}"
    assert run("devices", "upload", "alice", "PHONE", file(keys)) == [counts]
    run("devices", "rename", "alice", "PHONE", "My phone")
    assert run("devices", "list", "alice") == [f"PHONE\tMy phone\t{counts}\t{SIGNED_CURVE25519}"]
    assert json.loads("".join(run("devices", "list", "alice", "--json"))) == PHONE.object()
    (claimed,) = run("devices", "claim", "alice", "PHONE", SIGNED_CURVE25519)
    assert json.loads(claimed) == PHONE.olm_keys("1")
    assert run("devices", "remove", "alice", "PHONE") == []
    assert run("devices", "list", "alice") == []
    assert not has_device(ALICE, "PHONE")


def test_a_file_may_be_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(PHONE.object()).encode())))
    assert run("devices", "add", "alice", "-") == ["PHONE"]


def test_anybodys_devices_are_listed(phone):
    assert run("devices", "query", "alice", "@bob:127-0-0-1.localhost:1")[-1] == f"{ALICE}\tPHONE\t" + ", ".join(
        PHONE.object()["algorithms"]
    )
    assert devices.query([ALICE], now=timezone.now()).devices[ALICE].keys() == {"PHONE"}


@pytest.mark.parametrize(
    ("words", "value", "said"),
    [
        (("add", "@bob:other.example.org"), PHONE.object(), "is a user of other.example.org"),
        (("add", "bob"), PHONE.object(), "the device is another user's"),
        (("add", "alice"), {}, "has no device_id"),
        (("add", "alice"), PHONE.unsigned_object(), "the device has no signatures"),
        (("upload", "alice", "PHONE"), {}, "The file has no keys"),
        (("upload", "alice", "PHONE"), {"one_time_keys": []}, "The file has no keys"),
        (("upload", "alice", "OTHER"), {"one_time_keys": PHONE.olm_keys("1")}, "has no device OTHER"),
        (("upload", "alice", "PHONE"), {"one_time_keys": {"x:1": {}}}, "'x' are not known here"),
    ],
)
def test_what_cannot_be_taken_is_told_in_a_sentence(words, value, said, file, phone):
    assert said in str(failure("devices", *words, file(value)))
    assert not OneTimeKey.objects.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "alice", "/nowhere.json"), "/nowhere.json cannot be read: No such file"),
        (("remove", "alice", "OTHER"), "has no device OTHER"),
        (("claim", "alice", "OTHER", KEY_PACKAGE), "has no device OTHER"),
        (("claim", "alice", "PHONE", KEY_PACKAGE), f"PHONE has no key of {KEY_PACKAGE}"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(words, said, phone):
    assert said in str(failure("devices", *words))
