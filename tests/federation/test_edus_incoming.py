"""EDUs that come in: each message once and in order in its device's inbox, devices of whom we share a room with."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from federation.edus import inbox, receiving
from federation.edus import to_device as sending
from federation.edus.inbox import Incoming
from federation.housekeeping import keep_house
from federation.models import InboundTransaction, ToDeviceInbox, ToDeviceMessage
from keys.devices.storing import delete_device
from keys.models import Device, RemoteDevice
from linmatrix.limits import DEFAULTS, MIB
from linmatrix.protocol import canonical_json
from linmatrix.protocol.edus import MAX_TARGETS, ToDevice
from rooms.models import Event, LocalUser
from tests.support.devices import DeviceMaker
from tests.support.edus import make_device, matrix_to_device, send_edus, to_device
from tests.support.hosted import CREATOR, membership
from tests.support.lines import in_thread, wait_until_blocked
from tests.support.peers import UNSTABLE, Peer

pytestmark = pytest.mark.django_db(transaction=True)

OK: tuple[int, dict[str, object]] = (200, {"failed_pdus": {}})
ROWS = range(2, 103)


@pytest.fixture(autouse=True)
def _phone(transactional_db):
    make_device()


def answered(response):
    return response.status_code, response.json()


def texts(user_id=CREATOR, device_id="PHONE"):
    return [message.content["text"] for message in inbox.read(user_id, device_id)]


def test_a_message_is_in_its_devices_inbox_when_the_transaction_is_answered(peer):
    assert answered(send_edus(peer, to_device(peer, "hello"))) == OK
    (message,) = inbox.read(CREATOR, "PHONE")
    assert message == (1, peer.user("user"), "m.test", {"text": "hello"})


def test_messages_keep_their_order_within_and_across_transactions(peer):
    for number in range(3):
        edus = [to_device(peer, f"{number}-{index}") for index in range(100)]
        assert answered(send_edus(peer, *edus, txn_id=f"txn{number}")) == OK
    messages = inbox.read(CREATOR, "PHONE", 1000)
    assert [message.content["text"] for message in messages] == [f"{n}-{i}" for n in range(3) for i in range(100)]
    assert [message.position for message in messages] == list(range(1, 301))


def test_more_than_a_hundred_edus_are_refused_and_none_is_taken(peer):
    edus = [to_device(peer, str(number)) for number in range(101)]
    assert send_edus(peer, *edus).status_code == 400
    assert texts() == []
    assert answered(send_edus(peer, *edus[:100], txn_id="other")) == OK
    assert len(texts()) == 100


def test_the_same_transaction_again_adds_nothing_after_a_crash_before_its_answer_was_kept(peer):
    edus = [to_device(peer, "one"), to_device(peer, "two")]
    send_edus(peer, *edus)
    InboundTransaction.objects.all().delete()
    assert answered(send_edus(peer, *edus)) == OK
    assert texts() == ["one", "two"]
    assert ToDeviceInbox.objects.values_list("waiting", "last_position").get() == (2, 2)


def test_the_same_transaction_again_adds_nothing_after_its_messages_were_acknowledged(peer):
    edus = [to_device(peer, "one"), to_device(peer, "two")]
    send_edus(peer, *edus)
    assert inbox.acknowledge(CREATOR, "PHONE", 1) == 1
    InboundTransaction.objects.all().delete()
    send_edus(peer, *edus)
    assert texts() == ["two"]


def test_a_process_that_died_half_way_through_a_transaction_leaves_nothing_undone(peer):
    edus = [to_device(peer, "one"), to_device(peer, "two")]
    body = canonical_json.dumps({"pdus": [], "edus": edus})
    receiving.receive_edus(peer.name, edus[:1], txn_id="txn", body=body, now=timezone.now())
    send_edus(peer, *edus)
    assert texts() == ["one", "two"]


@pytest.mark.parametrize("other", ["txn", "body"])
def test_the_same_message_in_another_transaction_is_another_message(peer, other):
    send_edus(peer, to_device(peer, "same"))
    if other == "txn":
        send_edus(peer, to_device(peer, "same"), txn_id="other")
    else:  # an existing implementation uses ids again (decision 74)
        peer.request(
            "PUT", f"{UNSTABLE}/send/txn", {"edus": [to_device(peer, "same"), {"type": "m.typing", "content": {}}]}
        )
    assert texts() == ["same", "same"]


def test_a_message_with_matrixs_id_is_known_by_it_whatever_transaction_brings_it(peer):
    send_edus(peer, matrix_to_device(peer, "one", message_id="1"), matrix_to_device(peer, "one", message_id="1"))
    send_edus(peer, matrix_to_device(peer, "one", message_id="1"), txn_id="other")
    assert texts() == ["one"]
    send_edus(peer, matrix_to_device(peer, "two", message_id="2"), txn_id="third")
    assert texts() == ["one", "two"]


def test_matrixs_star_is_every_device_and_the_drafts_is_none(peer):
    make_device(device_id="LAPTOP")
    send_edus(
        peer, matrix_to_device(peer, "all", message_id="1", device_id="*"), to_device(peer, "none", device_id="*")
    )
    assert (texts(), texts(device_id="LAPTOP")) == (["all"], ["all"])


def test_messages_for_nobody_are_dropped_and_their_neighbours_are_not(peer):
    LocalUser.objects.create(localpart="gone", deactivated=True)
    make_device("@gone:hub.example.org")
    send_edus(
        peer,
        to_device(peer, "no device", device_id="OTHER"),
        to_device(peer, "no user", user_id="@nobody:hub.example.org"),
        to_device(peer, "not ours", user_id="@creator:part.example.org"),
        to_device(peer, "deactivated", user_id="@gone:hub.example.org"),
        to_device(peer, "right"),
    )
    assert texts() == ["right"]
    assert ToDeviceMessage.objects.count() == ToDeviceInbox.objects.count() == 1


def test_a_bad_edu_fails_neither_its_transaction_nor_its_neighbours(peer, joined):
    lpdu = peer.lpdu(joined.room_id)
    spoofed = {**to_device(peer, "spoofed"), "sender": "@eve:other.example.org"}
    bad = [5, None, {}, {"type": "m.typing"}, {"type": "m.direct_to_device"}, spoofed, {"type": 5, "content": {}}]
    response = send_edus(peer, to_device(peer, "before"), *bad, to_device(peer, "after"), pdus=[lpdu.event])
    assert answered(response) == OK
    assert texts() == ["before", "after"]
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).exists()


def test_a_refused_event_does_not_keep_messages_out(peer, joined):
    bad = peer.lpdu(joined.room_id, type="m.room.name", content={"name": "mine"}, state_key="")
    response = send_edus(peer, to_device(peer, "hello"), pdus=[bad.event])
    assert response.json()["failed_pdus"].keys() == {bad.lpdu_id}
    assert texts() == ["hello"]


def test_content_that_a_database_could_take_amiss_is_kept(peer):
    odd = {"text": "a\0b 😀", "n": 1.5, "nested": {"": [None, True]}}
    send_edus(peer, to_device(peer, "", message=odd))
    (message,) = inbox.read(CREATOR, "PHONE")
    assert message.content == odd


# Inboxes


def test_messages_are_read_until_they_are_acknowledged(peer):
    send_edus(peer, *(to_device(peer, str(number)) for number in range(5)))
    assert texts() == texts() == ["0", "1", "2", "3", "4"]
    assert [message.position for message in inbox.read(CREATOR, "PHONE", 2)] == [1, 2]
    assert inbox.acknowledge(CREATOR, "PHONE", 3) == 3
    assert texts() == ["3", "4"]
    assert inbox.acknowledge(CREATOR, "PHONE", 3) == 0
    assert ToDeviceInbox.objects.values_list("waiting", "waiting_bytes").get() == (2, 2 * len('{"text":"3"}'))
    assert set(ToDeviceMessage.objects.filter(position__lte=3).values_list("json", flat=True)) == {""}


def test_an_inbox_has_an_end_and_what_is_new_is_dropped(peer, settings):
    settings.LIMITS = replace(DEFAULTS, to_device_messages=100)
    other = Peer("other.example.org").publish()
    send_edus(peer, *(to_device(peer, str(number)) for number in range(30)))
    assert texts() == [str(number) for number in range(25)], "a quarter for one server"
    send_edus(other, *(to_device(other, f"other {number}") for number in range(3)))
    assert len(texts()) == 28, "the others have room"
    inbox.acknowledge(CREATOR, "PHONE", 1)
    send_edus(peer, *(to_device(peer, f"later {number}") for number in range(3)), txn_id="later")
    assert texts()[-1] == "later 0"
    assert len(texts()) == 28


def test_all_servers_together_do_not_fill_an_inbox_further(peer, settings):
    settings.LIMITS = replace(DEFAULTS, to_device_messages=100)
    peers = [Peer(f"p{number}.example.org").publish() for number in range(5)]
    for each in peers:
        send_edus(each, *(to_device(each, f"{each.name} {number}") for number in range(25)))
    assert ToDeviceInbox.objects.get().waiting == 100
    assert len(inbox.read(CREATOR, "PHONE", 1000)) == 100
    send = [(CREATOR, "PHONE", "m.test", {"text": "mine"})]
    sending.send(sender=CREATOR, messages=send)
    assert ToDeviceInbox.objects.get().waiting == 100


def test_an_inbox_has_so_many_bytes(peer, settings):
    settings.LIMITS = replace(DEFAULTS, to_device_bytes=MIB)
    send_edus(peer, *(to_device(peer, "x" * 60_000) for _ in range(10)))
    assert len(texts()) == 4
    assert ToDeviceInbox.objects.get().waiting_bytes <= MIB / 4


def test_one_transaction_reaches_so_many_devices(peer):
    rows = [Device(user_id=CREATOR, device_id=f"D{n}", json="{}", stream_id=n, changed_at=timezone.now()) for n in ROWS]
    Device.objects.bulk_create(rows)
    edus = [matrix_to_device(peer, str(number), message_id=str(number), device_id="*") for number in range(100)]
    assert answered(send_edus(peer, *edus)) == OK
    assert ToDeviceMessage.objects.count() == receiving.TARGETS_PER_TRANSACTION


def test_one_transaction_names_so_many_devices(peer):
    targets = {f"D{number}": {} for number in range(MAX_TARGETS)}
    many = matrix_to_device(peer, "", message_id="1")
    many["content"]["messages"] = {CREATOR: targets}
    edus = [many, matrix_to_device(peer, "late", message_id="2"), update(peer)]
    assert answered(send_edus(peer, *edus)) == OK
    assert texts() == []


def test_a_message_for_a_device_that_is_removed_just_then_is_dropped(peer):
    send_edus(peer, to_device(peer, "first"))
    with ExitStack() as threads, transaction.atomic():
        ToDeviceInbox.objects.select_for_update().get()
        late = Incoming(ToDevice(peer.user("user"), CREATOR, "PHONE", "m.test", "{}"), b"x" * 32)
        threads.enter_context(in_thread(partial(store, late, peer.name)))
        wait_until_blocked()
        delete_device(CREATOR, "PHONE", now=timezone.now())
    assert not ToDeviceMessage.objects.exists()


def store(message, origin):
    with transaction.atomic():
        inbox.store([message], origin=origin, txn_id="", now=timezone.now())


def test_a_message_that_appears_later_has_a_higher_position(peer):
    send_edus(peer, to_device(peer, "first"))
    late = ToDevice("@user:other.example.org", CREATOR, "PHONE", "m.test", '{"text":"late"}')
    with transaction.atomic():
        inbox.store([Incoming(late, b"x" * 32)], origin="other.example.org", txn_id="", now=timezone.now())
        thread = in_thread(lambda: send_edus(peer, to_device(peer, "second"), txn_id="second"))
        thread.__enter__()
        wait_until_blocked()
    thread.__exit__(None, None, None)
    assert texts() == ["first", "late", "second"]


def test_a_removed_device_takes_its_inbox_along(peer):
    make_device(device_id="LAPTOP")
    send_edus(peer, to_device(peer, "phone"), to_device(peer, "laptop", device_id="LAPTOP"))
    delete_device(CREATOR, "PHONE", now=timezone.now())
    make_device()
    assert (texts(), texts(device_id="LAPTOP")) == ([], ["laptop"])


def test_what_was_acknowledged_is_forgotten_when_no_server_repeats_its_transaction_any_more(peer):
    edus = [to_device(peer, "one"), to_device(peer, "two")]
    send_edus(peer, *edus)
    inbox.acknowledge(CREATOR, "PHONE", 1)
    hours = DEFAULTS.inbound_transaction_hours
    keep_house(now=timezone.now() + timedelta(hours=hours - 1))
    assert ToDeviceMessage.objects.count() == 2
    keep_house(now=timezone.now() + timedelta(hours=hours + 1))
    assert texts() == ["two"]
    assert ToDeviceMessage.objects.count() == 1


def test_an_inbox_of_no_device_is_forgotten(peer):
    send_edus(peer, to_device(peer, "one"))
    orphan = ToDeviceInbox.objects.create(user_id=CREATOR, device_id="NONE")
    keep_house(now=timezone.now())
    assert not ToDeviceInbox.objects.filter(pk=orphan.pk).exists()
    assert texts() == ["one"]


def test_many_devices_cost_as_many_statements_as_one(peer, django_assert_max_num_queries):
    rows = [Device(user_id=CREATOR, device_id=f"D{n}", json="{}", stream_id=n, changed_at=timezone.now()) for n in ROWS]
    Device.objects.bulk_create(rows)
    message = {row.device_id: {"text": "x"} for row in rows}
    edu = matrix_to_device(peer, "", message_id="1")
    edu["content"]["messages"] = {CREATOR: message}
    with django_assert_max_num_queries(12):
        receiving.receive_edus(peer.name, [edu], txn_id="t", body=b"", now=timezone.now())
    assert ToDeviceMessage.objects.count() == len(rows)


# Device lists


def update(peer, *, localpart="user", device_id="THEIRS", **changes):
    maker = DeviceMaker(peer.user(localpart), device_id, mls=False)
    content = {"changed": [maker.object()], "removed": [], **changes}
    return {"type": "m.device_list_update", "sender": peer.user(localpart), "content": content}


def known_devices():
    return sorted(RemoteDevice.objects.values_list("user_id", "device_id"))


def test_a_device_list_update_is_taken_of_a_user_who_shares_a_room_with_us(peer, joined):
    assert answered(send_edus(peer, update(peer), update(peer, localpart="other"))) == OK
    assert known_devices() == [(peer.user("user"), "THEIRS")]
    send_edus(peer, update(peer, changed=[], removed=["THEIRS"]), txn_id="removed")
    assert known_devices() == []


def test_a_device_list_update_comes_with_the_join_that_makes_it_our_business(peer, hosted):
    send_edus(peer, update(peer))
    assert known_devices() == []
    send_edus(peer, update(peer), pdus=[peer.join(hosted.room_id).event], txn_id="join")
    assert known_devices() == [(peer.user("user"), "THEIRS")]


def test_a_user_who_left_the_last_shared_room_tells_us_nothing_more(peer, joined):
    membership(joined, peer.user("user"), "leave")
    send_edus(peer, update(peer))
    assert known_devices() == []


def test_nobody_tells_of_devices_of_another_servers_user(peer, joined):
    other = Peer("other.example.org").publish()
    send_edus(other, update(peer))
    assert known_devices() == []


def test_a_change_in_matrixs_shape_is_taken(peer, joined):
    maker = DeviceMaker(peer.user("user"), "THEIRS", mls=False)
    content = {"user_id": peer.user("user"), "device_id": "THEIRS", "stream_id": 1, "prev_id": []}
    send_edus(peer, {"edu_type": "m.device_list_update", "content": {**content, "keys": maker.object()}})
    assert known_devices() == [(peer.user("user"), "THEIRS")]
    send_edus(peer, {"edu_type": "m.device_list_update", "content": {**content, "deleted": True}}, txn_id="2")
    assert known_devices() == []


# At a terminal


def command(*words):
    out = StringIO()
    call_command("to_device", *words, stdout=out, stderr=out)
    return out.getvalue().splitlines()


def test_the_command_sends_reads_and_acknowledges():
    assert command("send", "creator", "creator", "PHONE", "m.test", '{"text": "hello"}') == ["delivered"]
    assert command("send", "creator", "bob:part.example.org", "X", "m.test", "{}") == ["queued"]
    (line,) = command("read", "creator", "PHONE")
    expected = {"position": 1, "sender": CREATOR, "type": "m.test", "content": {"text": "hello"}}
    assert canonical_json.loads(line.encode()) == expected
    assert command("acknowledge", "creator", "PHONE", "1") == ["1"]
    assert command("read", "creator", "PHONE") == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["creator", "creator", "NONE", "m.test", "{}"], "has no device NONE"),
        (["creator", "creator", "PHONE", "m.test", "["], "is not JSON"),
        (["creator", "creator", "PHONE", "m.test", "[]"], "must be a JSON object"),
        (["creator", "creator", "*", "m.test", "{}"], "is not a device"),
        (["bob:part.example.org", "creator", "PHONE", "m.test", "{}"], "not of hub.example.org"),
    ],
)
def test_the_command_says_in_a_line_what_it_cannot_send(words, reason):
    with pytest.raises(CommandError, match=reason) as caught:
        command("send", *words)
    assert "\n" not in str(caught.value)
