"""Devices and their keys as other servers ask for them (draft, "Device Info Publishing", "One Time Key Claiming")."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from django.test import override_settings
from django.utils import timezone

from federation.rate_limits import rate_limiter
from federation.views.devices import MAX_QUERIED_USERS, NO_DEVICE
from keys.devices.claiming import MAX_CLAIMED_DEVICES, MAX_USERS
from keys.devices.storing import delete_device, rename, upload_device
from keys.devices.uploading import upload_keys
from keys.models import Device, OneTimeKey
from linmatrix.protocol import canonical_json
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, SIGNED_CURVE25519
from rooms.models import LocalUser
from tests.support.devices import DeviceMaker
from tests.support.hosted import CREATOR, is_error, membership
from tests.support.peers import FEDERATION, UNSTABLE

pytestmark = pytest.mark.django_db(transaction=True)

PHONE, LAPTOP = DeviceMaker(CREATOR, "PHONE"), DeviceMaker(CREATOR, "LAPTOP", olm=False)
STRANGER = "@stranger:hub.example.org"
NOW = timezone.now()
STABLE = f"{FEDERATION}/v1"
CLAIM, QUERY = f"{STABLE}/user/keys/claim", f"{STABLE}/user/keys/query"


@pytest.fixture
def devices(transactional_db):
    for maker in (PHONE, LAPTOP):
        upload_device(maker.object(), user_id=maker.user_id, device_id=maker.device_id, now=NOW)
    rename(CREATOR, "PHONE", "My phone")
    upload_keys(CREATOR, "PHONE", one_time_keys=PHONE.olm_keys("12"), now=NOW)


def device_path(user_id, device_id, *, prefix=STABLE):
    return f"{prefix}/user/{quote(user_id, safe='')}/device/{quote(device_id, safe='')}"


def claim(peer, user=CREATOR, device="PHONE", algorithm=SIGNED_CURVE25519):
    return peer.request("POST", CLAIM, {"one_time_keys": {user: {device: algorithm}}})


def query(peer, **device_keys):
    return peer.request("POST", QUERY, {"device_keys": device_keys})


def test_a_device_is_served_as_it_was_signed(peer, devices):
    for prefix in (STABLE, UNSTABLE):
        answer = peer.request("GET", device_path(CREATOR, "PHONE", prefix=prefix))
        assert answer.status_code == 200
        assert answer.content == canonical_json.dumps(PHONE.object())


NOT_THERE = [
    (CREATOR, "OTHER"),
    (CREATOR, "A-B"),
    (CREATOR, "x" * 300),
    (CREATOR, "\0"),
    (STRANGER, "PHONE"),
    ("@user:part.example.org", "PHONE"),
    ("creator", "PHONE"),
    ("@Creator:hub.example.org", "PHONE"),
]


def test_what_there_is_not_is_not_found(peer, devices):
    for prefix in (STABLE, UNSTABLE):
        paths = [device_path(user_id, device_id, prefix=prefix) for user_id, device_id in NOT_THERE]
        answers = {path: peer.request("GET", path) for path in paths}
        assert [path for path, answer in answers.items() if not is_error(answer, 404, "M_NOT_FOUND")] == []
        assert {answer.json()["error"] for answer in answers.values()} == {NO_DEVICE}


def test_a_removed_device_and_one_of_a_deactivated_user_are_not_found(peer, devices):
    delete_device(CREATOR, "LAPTOP", now=NOW)
    assert is_error(peer.request("GET", device_path(CREATOR, "LAPTOP")), 404, "M_NOT_FOUND")
    LocalUser.objects.create(localpart="creator", deactivated=True)
    assert is_error(peer.request("GET", device_path(CREATOR, "PHONE")), 404, "M_NOT_FOUND")
    assert is_error(peer.get("user", "devices", CREATOR, version="v1"), 404, "M_NOT_FOUND")
    assert query(peer, **{CREATOR: []}).json() == {"device_keys": {}}
    assert claim(peer).json() == {"one_time_keys": {}}


DEVICE, DEVICES = device_path(CREATOR, "PHONE"), f"{STABLE}/user/devices/{CREATOR}"
OTHER_METHODS = [
    ("PUT", DEVICE),
    ("PUT", device_path(CREATOR, "PHONE", prefix=UNSTABLE)),
    ("POST", DEVICE),
    ("POST", DEVICES),
    ("GET", CLAIM),
    ("PUT", CLAIM),
    ("GET", QUERY),
]


def test_other_methods_are_not_known(peer, devices):
    answers = [(case, peer.request(*case, None if case[0] == "GET" else {})) for case in OTHER_METHODS]
    assert [case for case, answer in answers if not is_error(answer, 405, "M_UNRECOGNIZED")] == []


def test_who_does_not_sign_is_told_nothing(peer, devices):
    content = {"one_time_keys": {CREATOR: {"PHONE": SIGNED_CURVE25519}}, "device_keys": {CREATOR: []}}
    for path in (DEVICE, DEVICES):
        assert is_error(peer.request("GET", path, header=""), 401, "M_FORBIDDEN")
    for path in (CLAIM, QUERY):
        assert is_error(peer.request("POST", path, content, header=""), 401, "M_FORBIDDEN")
    assert OneTimeKey.objects.filter(claimed_at__isnull=True).count() == 2


def test_all_devices_of_a_user_are_listed_with_their_names_and_the_number_of_the_last_change(peer, devices):
    answer = peer.get("user", "devices", CREATOR, version="v1").json()
    assert answer == {
        "user_id": CREATOR,
        "stream_id": 2,
        "devices": [
            {"device_id": "LAPTOP", "keys": LAPTOP.object()},
            {"device_id": "PHONE", "keys": PHONE.object(), "device_display_name": "My phone"},
        ],
    }


@pytest.mark.parametrize("other", [STRANGER, "@nobody:hub.example.org", "@user:part.example.org", "x"])
def test_nothing_tells_a_user_without_devices_from_one_that_there_is_not(other, peer, devices, settings):
    LocalUser.objects.create(localpart="creator")
    LocalUser.objects.create(localpart="stranger")
    settings.OPEN_LOCALPARTS = False
    answer = peer.get("user", "devices", other, version="v1")
    assert is_error(answer, 404, "M_NOT_FOUND")
    assert answer.json()["error"] == NO_DEVICE
    assert query(peer, **{other: []}).json() == {"device_keys": {}}
    assert peer.get("user", "devices", CREATOR, version="v1").status_code == 200


def test_a_user_whose_devices_were_removed_has_an_empty_list(peer, devices):
    for device_id in ("PHONE", "LAPTOP"):
        delete_device(CREATOR, device_id, now=NOW)
    answer = peer.get("user", "devices", CREATOR, version="v1").json()
    assert answer == {"user_id": CREATOR, "stream_id": 4, "devices": []}


def test_devices_are_queried_all_or_by_name_and_of_our_users_only(peer, devices):
    phone = {**PHONE.object(), "unsigned": {"device_display_name": "My phone"}}
    both = {"PHONE": phone, "LAPTOP": LAPTOP.object()}
    assert query(peer, **{CREATOR: []}).json() == {"device_keys": {CREATOR: both}}
    asked = {CREATOR: ["PHONE", "OTHER"], STRANGER: [], "@user:part.example.org": [], "nobody": []}
    assert query(peer, **asked).json() == {"device_keys": {CREATOR: {"PHONE": phone}}}


def test_keys_are_claimed_each_once(peer, devices):
    for number in "12":
        name, value = PHONE.olm_key(number)
        assert claim(peer).json() == {"one_time_keys": {CREATOR: {"PHONE": {name: value}}}}
    assert claim(peer).json() == {"one_time_keys": {}}


def test_a_key_package_is_a_string_under_its_algorithm(peer, devices):
    upload_keys(CREATOR, "LAPTOP", one_time_keys=dict([LAPTOP.key_package("1")]), now=NOW)
    answer = claim(peer, device="LAPTOP", algorithm=KEY_PACKAGE).json()
    assert answer == {"one_time_keys": {CREATOR: {"LAPTOP": {KEY_PACKAGE: LAPTOP.key_package("1")[1]}}}}


OTHERS = [
    {"user": "@user:part.example.org"},
    {"user": STRANGER},
    {"user": "x"},
    {"device": "OTHER"},
    {"device": "\0"},
    {"algorithm": ""},
    {"algorithm": "\0"},
]


def test_what_is_not_ours_is_ignored_in_a_claim(peer, devices):
    answers = [(other, claim(peer, **other)) for other in OTHERS]
    nothing = 200, {"one_time_keys": {}}
    assert [other for other, answer in answers if (answer.status_code, answer.json()) != nothing] == []
    assert OneTimeKey.objects.filter(claimed_at__isnull=True).count() == 2


def users(number, value):
    return {f"@u{index}:hub.example.org": value for index in range(number)}


MANY = {f"D{index}": SIGNED_CURVE25519 for index in range(MAX_CLAIMED_DEVICES // MAX_USERS)}

BAD_BODIES = [
    (CLAIM, {}),
    (CLAIM, {"one_time_keys": []}),
    (CLAIM, {"one_time_keys": {CREATOR: []}}),
    (CLAIM, {"one_time_keys": {CREATOR: {"PHONE": 1}}}),
    (CLAIM, {"one_time_keys": {CREATOR: {"PHONE": SIGNED_CURVE25519, "LAPTOP": None}}}),
    (CLAIM, {"one_time_keys": users(MAX_USERS + 1, {})}),
    (CLAIM, {"one_time_keys": {**users(MAX_USERS - 1, MANY), CREATOR: {**MANY, "PHONE": SIGNED_CURVE25519}}}),
    (QUERY, {}),
    (QUERY, {"device_keys": {CREATOR: {}}}),
    (QUERY, {"device_keys": {CREATOR: [1]}}),
    (QUERY, {"device_keys": users(MAX_QUERIED_USERS + 1, [])}),
    (QUERY, {"device_keys": {**users(MAX_USERS - 1, [*MANY]), CREATOR: [*MANY, "PHONE"]}}),
]


def test_what_is_no_query_or_claim_is_refused_and_takes_nothing(peer, devices):
    answers = [(case, peer.request("POST", *case)) for case in BAD_BODIES]
    assert [case for case, answer in answers if not is_error(answer, 400, "M_BAD_JSON")] == []
    assert OneTimeKey.objects.filter(claimed_at__isnull=True).count() == 2


def test_a_query_and_a_claim_may_be_as_large_as_is_said(peer, devices):
    wanted = {**users(MAX_USERS - 1, MANY), CREATOR: {"PHONE": SIGNED_CURVE25519}}
    assert set(peer.request("POST", CLAIM, {"one_time_keys": wanted}).json()["one_time_keys"]) == {CREATOR}
    assert query(peer, **users(MAX_USERS, [*MANY])).status_code == 200
    assert query(peer, **users(MAX_QUERIED_USERS, [])).status_code == 200


def test_an_answer_of_too_many_bytes_is_not_given(peer, devices, settings):
    size = len(Device.objects.get(device_id="PHONE").json)
    settings.LIMITS = replace(settings.LIMITS, device_answer_bytes=size)
    assert is_error(query(peer, **{CREATOR: []}), 413, "M_TOO_LARGE")
    assert is_error(peer.get("user", "devices", CREATOR, version="v1"), 413, "M_TOO_LARGE")
    delete_device(CREATOR, "LAPTOP", now=NOW)
    assert query(peer, **{CREATOR: []}).status_code == 200


def test_the_bytes_of_an_answer_are_counted_and_not_its_characters(peer, devices, settings):
    told = PHONE.object(name="\N{SNOWMAN}" * 1000)
    text = upload_device(told, user_id=CREATOR, device_id="PHONE", now=NOW).json
    delete_device(CREATOR, "LAPTOP", now=NOW)
    for spare, status in ((0, 200), (-1, 413)):
        settings.LIMITS = replace(settings.LIMITS, device_answer_bytes=len(text.encode()) + spare)
        assert query(peer, **{CREATOR: []}).status_code == status


def test_a_hundred_users_cost_as_many_statements_as_one(peer, devices, django_assert_max_num_queries):
    for number in (1, MAX_USERS):
        with django_assert_max_num_queries(10):
            assert query(peer, **users(number, [])).status_code == 200


@pytest.mark.parametrize("shared", [True, False])
def test_where_the_operator_has_it_so_only_servers_that_share_a_room_are_told(shared, peer, joined, devices, settings):
    settings.DEVICES_TO_ALL = False
    if not shared:
        membership(joined, peer.user("user"), "leave")
    found = 200 if shared else 404
    assert peer.request("GET", device_path(CREATOR, "PHONE")).status_code == found
    assert peer.get("user", "devices", CREATOR, version="v1").status_code == found
    assert (CREATOR in query(peer, **{CREATOR: []}).json()["device_keys"]) == shared
    assert (claim(peer).json() != {"one_time_keys": {}}) == shared
    settings.DEVICES_TO_ALL = True
    assert peer.request("GET", device_path(CREATOR, "PHONE")).status_code == 200


def test_a_user_who_left_or_was_only_invited_shares_no_room(peer, joined, devices, settings):
    settings.DEVICES_TO_ALL = False
    maker = DeviceMaker(STRANGER)
    upload_device(maker.object(), user_id=STRANGER, device_id=maker.device_id, now=NOW)
    for membership_, told in (("invite", False), ("join", True), ("leave", False)):
        membership(joined, STRANGER, membership_, sender=CREATOR if membership_ == "invite" else STRANGER)
        assert (STRANGER in query(peer, **{STRANGER: []}).json()["device_keys"]) == told


def test_a_server_may_not_claim_as_often_as_it_likes(peer, devices, settings):
    settings.LIMITS = replace(settings.LIMITS, claimed_keys_per_hour=1)
    assert claim(peer).json()["one_time_keys"]
    assert claim(peer).json() == {"one_time_keys": {}}


@pytest.fixture
def slow_rates():
    """Two requests at once to each of these endpoints, and no more for a long time."""
    names = ("user_device", "user_devices", "user_keys_query", "user_keys_claim")
    rate_limiter.cache_clear()
    with override_settings(RATE_LIMITS={name: [0.0003, 2] for name in names}):
        yield
    rate_limiter.cache_clear()


def test_each_endpoint_has_a_bucket_of_its_own(peer, devices, slow_rates):
    requests = [
        lambda: peer.request("GET", device_path(CREATOR, "device")),
        lambda: peer.get("user", "devices", CREATOR, version="v1"),
        lambda: query(peer, **{CREATOR: []}),
        lambda: claim(peer),
    ]
    for request in requests:
        answers = [request().status_code for _ in range(3)]
        assert 429 not in answers[:2]
        assert answers[2] == 429
