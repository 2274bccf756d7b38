"""Asking other servers for devices and keys: in each way that peers answer, checked, and kept while they are away."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from federation import device_answers, devices, housekeeping, paths, tasks
from federation.client import BadAnswer
from federation.device_answers import USERS_AT_ONCE
from federation.devices import due_lists
from federation.places import MOST_PER_SERVER
from keys.devices import receive_update, storing, uploading
from keys.devices.remote import known
from keys.models import OneTimeKey, RemoteDeviceList
from linmatrix.protocol import canonical_json
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, SIGNED_CURVE25519
from tests.support.devices import DeviceMaker

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"
NOW = timezone.now()


class Server:
    """A peer's devices and keys, and how it tells of them: by any of `ways`, the others are unknown to it."""

    def __init__(self, peer):
        self.peer, self.ways = peer, {"query", "list", "single"}
        self.devices = {}
        self.objects = {}
        """What it says of a device in place of what is true, by user and device."""
        self.keys = {}
        self.status = 200
        peer.endpoints |= {("GET", "user"): self._get, ("POST", "user"): self._post}

    def maker(self, localpart="bob", device_id="PHONE", **options):
        maker = DeviceMaker(self.peer.user(localpart), device_id, **options)
        self.devices.setdefault(maker.user_id, {})[device_id] = maker
        return maker

    def asked(self):
        """Method and path of each request about devices, the ids left out."""
        names = {"user", "devices", "device", "keys", "query", "claim"}
        requests = [
            (request.method, [part for part in request.parts if part in names]) for request in self.peer.requests
        ]
        return [f"{method} {'/'.join(parts)}" for method, parts in requests if parts]

    def _object(self, user_id, device_id):
        return self.objects.get((user_id, device_id), self.devices[user_id][device_id].object())

    def _get(self, request):
        _, *parts = request.parts
        if self.status != 200:
            return self.status, {}
        if parts[0] == "devices" and "list" in self.ways:
            if parts[1] not in self.devices:
                return 404, {"errcode": "M_NOT_FOUND", "error": "x"}
            listed = [
                {"device_id": device_id, "keys": self._object(parts[1], device_id)}
                for device_id in self.devices[parts[1]]
            ]
            return 200, {"user_id": parts[1], "stream_id": 1, "devices": [*listed, {"device_id": "NOKEYS"}, 7]}
        if parts[1] == "device" and "single" in self.ways:
            if parts[2] not in self.devices.get(parts[0], {}):
                return 404, {"errcode": "M_NOT_FOUND", "error": "x"}
            return 200, self._object(parts[0], parts[2])
        return 404, {"errcode": "M_UNRECOGNIZED", "error": "x"}

    def _post(self, request):
        if self.status != 200:
            return self.status, {}
        if request.parts[1:] == ["keys", "claim"]:
            return 200, {"one_time_keys": self.keys}
        if "query" not in self.ways:
            return 404, {"errcode": "M_UNRECOGNIZED", "error": "x"}
        return 200, {
            "device_keys": {
                user_id: {device_id: self._object(user_id, device_id) for device_id in self.devices.get(user_id, {})}
                for user_id in request.content["device_keys"]
            }
        }


@pytest.fixture
def server(tls_peer):
    return Server(tls_peer)


def texts(*makers):
    return {maker.device_id: canonical_json.dumps(maker.object()).decode() for maker in makers}


def query(*users, now=NOW, **options):
    return devices.query(users, now=now, **options)


def add_local(*makers):
    for maker in makers:
        storing.upload_device(maker.object(), user_id=maker.user_id, device_id=maker.device_id, now=NOW)


def test_our_own_users_are_known_without_asking(transactional_db):
    phone = DeviceMaker(ALICE)
    add_local(phone)
    found = query(ALICE, "@nobody:hub.example.org", "no user")
    assert (found.devices, found.failures, found.left_out) == ({ALICE: texts(phone)}, {}, [])


def test_a_user_of_another_server_is_asked_for_once_and_then_known(server):
    phone, laptop = server.maker(), server.maker(device_id="LAPTOP", mls=False)
    for _ in range(2):
        assert query(phone.user_id).devices == {phone.user_id: texts(phone, laptop)}
    assert server.asked() == ["GET user/devices"]


def test_many_users_are_asked_for_at_once(server):
    makers = [server.maker(name) for name in ("bob", "carol", "dan")]
    found = query(*(maker.user_id for maker in makers))
    assert found.devices == {maker.user_id: texts(maker) for maker in makers}
    assert server.asked() == ["POST user/keys/query"]


def test_without_a_query_each_user_is_asked_for(server):
    server.ways = {"list"}
    makers = [server.maker(name) for name in ("bob", "carol")]
    assert query(*(maker.user_id for maker in makers)).devices == {maker.user_id: texts(maker) for maker in makers}
    assert server.asked() == ["POST user/keys/query", "GET user/devices", "GET user/devices"]


def test_a_server_of_the_draft_alone_is_asked_after_the_devices_that_are_known(server):
    server.ways = {"single"}
    phone, laptop = server.maker(), DeviceMaker(server.peer.user("bob"), "LAPTOP")
    receive_update(phone.user_id, [phone.object(), laptop.object()], [], now=NOW)
    assert query(phone.user_id).devices == {phone.user_id: texts(phone)}
    assert set(server.asked()) == {"GET user/devices", "GET user/device"}


@pytest.mark.parametrize("there", [True, False])
def test_who_takes_too_long_over_single_devices_is_not_waited_for(there, server):
    server.ways = {"single"}
    makers = [server.maker(device_id=f"D{number}") for number in range(3)]
    user_id, device_ids = makers[0].user_id, [maker.device_id for maker in makers]
    if not there:
        server.devices = {}
    found = device_answers.Found()
    with pytest.raises(BadAnswer, match="took more than 0 s to tell of 1 devices"):
        device_answers._singly(server.peer.name, user_id, device_ids, found, seconds=0)
    assert (server.asked(), found.lists) == (["GET user/device"], {})
    device_answers._singly(server.peer.name, user_id, device_ids, found)
    assert found.lists == {user_id: texts(*makers) if there else {}}


def test_a_user_that_its_server_does_not_know_has_no_devices(server):
    user_id = server.peer.user("nobody")
    found = query(user_id)
    assert (found.devices, found.failures) == ({user_id: {}}, {})


@pytest.mark.parametrize("way", ["query", "list", "single"])
def test_a_device_that_does_not_hold_is_left_out_and_said(way, server):
    server.ways = {way}
    phone, laptop = server.maker(), server.maker(device_id="LAPTOP")
    server.objects[phone.user_id, "LAPTOP"] = {**laptop.object(), "algorithms": []}
    receive_update(phone.user_id, [phone.object(), laptop.object()], [], now=NOW)
    others = [server.peer.user("carol")] if way == "query" else []
    found = query(phone.user_id, *others)
    assert found.devices[phone.user_id] == texts(phone)
    assert len(found.left_out) == 1
    assert "LAPTOP: the signature by" in found.left_out[0]


def test_a_device_of_another_user_is_left_out(server):
    phone = server.maker()
    server.objects[phone.user_id, "PHONE"] = DeviceMaker(server.peer.user("mallory"), "PHONE").object()
    found = query(phone.user_id)
    assert found.devices == {phone.user_id: {}}
    assert "another user's" in found.left_out[0]


@pytest.mark.parametrize("failure", ["down", "status", "form"])
def test_a_server_that_does_not_answer_leaves_what_is_known_in_use(failure, server):
    phone = server.maker()
    query(phone.user_id)
    if failure == "status":
        server.status = 500
    elif failure == "form":
        server.peer.endpoints["GET", "user"] = lambda _request: (200, {"devices": {}})
    else:
        server.peer.endpoints["GET", "user"] = lambda _request: (200, b"no JSON")
    found = query(phone.user_id, fresh=True)
    assert found.devices == {phone.user_id: texts(phone)}
    assert list(found.failures) == [server.peer.name]
    assert known([phone.user_id])[phone.user_id].fetched_at == NOW


def test_one_server_that_cannot_be_reached_keeps_no_other_from_being_asked(server):
    phone = server.maker()
    away = "@x:127-0-0-1.localhost:1"
    found = query(away, phone.user_id)
    assert found.devices == {away: {}, phone.user_id: texts(phone)}
    assert list(found.failures) == ["127-0-0-1.localhost:1"]


def test_an_old_list_is_asked_for_again(server, settings):
    phone = server.maker()
    query(phone.user_id)
    hours = timedelta(hours=settings.LIMITS.device_list_hours)
    query(phone.user_id, now=NOW + hours - timedelta(minutes=1))
    assert len(server.asked()) == 1
    query(phone.user_id, now=NOW + hours + timedelta(minutes=1))
    assert len(server.asked()) == 2


def test_nobody_waits_for_another_server_with_a_transaction_open(server):
    with pytest.raises(RuntimeError, match="inside of a transaction"), transaction.atomic():
        query(server.maker().user_id)


def test_an_answer_is_waited_for_and_read_as_far_as_is_set(server, settings):
    phone = server.maker()
    settings.LIMITS = replace(settings.LIMITS, device_answer_bytes=100)
    assert "100 bytes" in str(query(phone.user_id).failures)
    settings.LIMITS = replace(settings.LIMITS, device_answer_bytes=100_000)
    assert query(phone.user_id).devices[phone.user_id]


# Stale lists.


def test_a_stale_list_is_fetched_by_a_worker(server):
    phone = server.maker()
    receive_update(phone.user_id, [{"device_id": "PHONE"}], [], now=NOW)
    assert due_lists(now=NOW) == [phone.user_id]
    tasks.fetch_devices(phone.user_id)
    assert known([phone.user_id])[phone.user_id].devices == texts(phone)
    assert due_lists(now=NOW + timedelta(days=1)) == []


def test_an_update_that_holds_makes_nobody_ask(server):
    phone = server.maker()
    receive_update(phone.user_id, [phone.object()], [], now=NOW)
    assert due_lists(now=NOW) == []


def test_the_lists_of_one_server_do_not_keep_out_those_of_another(transactional_db):
    for number in range(devices.MAX_DUE + 10):
        receive_update(f"@u{number}:many.example.org", [{}], [], now=NOW - timedelta(minutes=number))
    receive_update("@bob:few.example.org", [{}], [], now=NOW)
    due = due_lists(now=NOW)
    assert "@bob:few.example.org" in due
    longest = range(devices.MAX_DUE + 10 - MOST_PER_SERVER, devices.MAX_DUE + 10)
    assert set(due) == {"@bob:few.example.org", *(f"@u{number}:many.example.org" for number in longest)}


def test_a_server_that_stays_away_is_asked_less_and_less_often(server):
    phone = server.maker()
    server.status = 500
    receive_update(phone.user_id, [{}], [], now=NOW)
    waits = []
    for _ in range(4):
        devices.refetch(phone.user_id, now=NOW, chance=lambda: 0.0)
        row = RemoteDeviceList.objects.get()
        waits.append((row.next_attempt - NOW).total_seconds())
        assert "HTTP 500" in row.last_error
        row.next_attempt = NOW
        row.save()
    assert waits == [1, 2, 4, 8]
    server.status = 200
    devices.refetch(phone.user_id, now=NOW)
    assert (RemoteDeviceList.objects.get().failures, due_lists(now=NOW + timedelta(days=1))) == (0, [])


def test_a_list_that_a_worker_is_fetching_is_not_due(server):
    phone = server.maker()
    receive_update(phone.user_id, [{}], [], now=NOW)
    seen = []
    server.peer.endpoints["GET", "user"] = lambda _request: (seen.append(due_lists(now=NOW)), (500, {}))[1]
    devices.refetch(phone.user_id, now=NOW)
    assert seen == [[]]


def test_devices_and_keys_are_kept_house_for():
    assert {"one-time keys", "removed devices", "devices of others"} <= set(housekeeping.CHORES)


# Claims.


def claim(wanted):
    return devices.claim(wanted, now=NOW)


def test_keys_are_claimed_of_ours_and_of_others(server):
    alice, bob = DeviceMaker(ALICE), server.maker()
    add_local(alice)
    uploading.upload_keys(ALICE, "DEVICE", one_time_keys=alice.olm_keys("1"), now=NOW)
    server.keys = {bob.user_id: {"PHONE": {KEY_PACKAGE: bob.key_package("1")[1]}}}
    claimed = claim({ALICE: {"DEVICE": SIGNED_CURVE25519}, bob.user_id: {"PHONE": KEY_PACKAGE}})
    assert claimed.keys == {
        ALICE: {"DEVICE": alice.olm_keys("1")},
        bob.user_id: {"PHONE": {KEY_PACKAGE: bob.key_package("1")[1]}},
    }
    assert (claimed.failures, claimed.left_out) == ({}, [])
    assert OneTimeKey.objects.get().claimed_by == "hub.example.org"


@pytest.mark.parametrize("wrong", ["another device's", "another algorithm", "no object", "nothing", "expired"])
def test_a_key_that_does_not_hold_is_left_out_and_said(wrong, server):
    bob = server.maker()
    other = DeviceMaker(bob.user_id, "OTHER")
    algorithm = KEY_PACKAGE if wrong == "expired" else SIGNED_CURVE25519
    server.keys = {
        bob.user_id: {
            "PHONE": {
                "another device's": other.olm_keys("1"),
                "another algorithm": {KEY_PACKAGE: bob.key_package("1")[1]},
                "no object": 7,
                "nothing": {},
                "expired": {KEY_PACKAGE: bob.key_package("1", lifetime=(0, 1))[1]},
            }[wrong]
        }
    }
    claimed = claim({bob.user_id: {"PHONE": algorithm}})
    assert claimed.keys == {}
    assert claimed.left_out[0].startswith(f"{bob.user_id} PHONE: ")


def test_nobody_is_asked_for_keys_of_devices_that_there_are_not(server):
    bob = server.maker()
    claimed = claim({bob.user_id: {"OTHER": SIGNED_CURVE25519}})
    assert claimed.left_out == [f"{bob.user_id} has no device OTHER"]
    assert server.asked() == ["GET user/devices"]


def test_a_claim_is_never_made_twice(server):
    bob = server.maker()
    query(bob.user_id)
    server.status = 503
    assert list(claim({bob.user_id: {"PHONE": SIGNED_CURVE25519}}).failures) == [server.peer.name]
    assert server.asked().count("POST user/keys/claim") == 1


def test_a_failure_on_the_way_leaves_the_keys_that_were_given_before(server):
    makers = [server.maker(f"u{number}", mls=False) for number in range(USERS_AT_ONCE + 1)]
    server.keys = {maker.user_id: {"PHONE": maker.olm_keys("1")} for maker in makers}
    answer = server.peer.endpoints["POST", "user"]

    def fail_at_the_last(request):
        wanted = request.content.get("one_time_keys", {})
        return (503, {}) if makers[-1].user_id in wanted else answer(request)

    server.peer.endpoints["POST", "user"] = fail_at_the_last
    claimed = claim({maker.user_id: {"PHONE": SIGNED_CURVE25519} for maker in makers})
    assert claimed.keys == {user: keys for user, keys in server.keys.items() if user != makers[-1].user_id}
    assert "user/keys/claim with HTTP 503" in claimed.failures[server.peer.name]
    assert claimed.left_out == []


def test_a_large_claim_goes_in_parts_that_servers_take():
    wanted = {f"@u{number}:x": {f"D{index}": "a" for index in range(7)} for number in range(150)}
    parts = devices._parts(wanted)
    assert [sum(map(len, part.values())) for part in parts] == [497, 497, 56]
    assert {user: devices_ for part in parts for user, devices_ in part.items()} == wanted
    assert [len(part) for part in devices._parts({f"@u{number}:x": {"D": "a"} for number in range(150)})] == [100, 50]


@pytest.mark.parametrize(
    ("path", "stable", "unstable"),
    [
        (paths.user_device("@a/b:x", "D"), "v1/user/%40a%2Fb%3Ax/device/D", "user/%40a%2Fb%3Ax/device/D"),
        (paths.user_devices("@a:x"), "v1/user/devices/%40a%3Ax", "v1/user/devices/%40a%3Ax"),
        (paths.user_keys_claim(), "v1/user/keys/claim", "v1/user/keys/claim"),
    ],
)
def test_the_drafts_own_endpoint_alone_has_two_paths(path, stable, unstable):
    assert path.stable == f"/_matrix/federation/{stable}"
    assert path.unstable.endswith(f"/{unstable}")


def test_a_server_that_serves_the_unstable_path_alone_is_asked_there(server):
    phone = server.maker()
    server.ways = {"single"}
    receive_update(phone.user_id, [phone.object()], [], now=NOW)
    get = server.peer.endpoints["GET", "user"]
    unknown = 404, {"errcode": "M_UNRECOGNIZED", "error": "x"}
    server.peer.endpoints["GET", "user"] = lambda request: get(request) if "/unstable/" in request.target else unknown
    found = query(phone.user_id)
    assert (found.devices, found.failures) == ({phone.user_id: texts(phone)}, {})
