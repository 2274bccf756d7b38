"""EDUs that go out: queued to-device messages in frozen transactions beside events, and what a peer does not take."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from federation.client import Answer
from federation.condition import waiting_for
from federation.delivery import Outcome, step
from federation.edus import inbox, to_device
from federation.errors import ApiError
from federation.isolation import SET_ASIDE_AFTER, SPLIT_AFTER, send_again
from federation.models import BlockedServer, Destination, OutboundEdu, OutboundTransaction
from federation.outbound import QueueFull, next_transaction
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json
from linmatrix.protocol.edus import MAX_MESSAGE_BYTES
from linmatrix.protocol.errors import Malformed, TooLarge
from rooms.models import RoomServer
from tests.support.edus import make_device
from tests.support.hosted import CREATOR
from tests.support.lines import append, make_room
from tests.support.remote import UNREACHABLE, Remote
from tests.support.stepping import PEER, drain, one_step, run

NOW = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
BROKEN = Answer(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"})
BOB = f"@bob:{PEER}"

pytestmark = pytest.mark.django_db(transaction=True)


def send(*texts: str, user_id: str = BOB, padding: int = 0) -> to_device.Sent:
    messages = [(user_id, "PHONE", "m.test", {"text": text, "x": "x" * padding}) for text in texts]
    return to_device.send(sender=CREATOR, messages=messages)


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def texts_of(body: bytes) -> list[str]:
    return [edu["content"]["message"]["text"] for edu in canonical_json.loads(body)["edus"]]


def received(remote: Remote) -> list[list[str]]:
    return [texts_of(request.body) for request in remote.acknowledged]


def all_texts(remote: Remote) -> list[str]:
    return [text for texts in received(remote) for text in texts]


# Sending


def test_a_message_for_another_server_is_queued_and_sent_in_the_drafts_shape_on_the_stable_path() -> None:
    assert send("hello") == (0, 1, 0)
    remote = Remote()
    run(remote)
    (request,) = remote.acknowledged
    assert request.path.startswith("/_matrix/federation/v2/send/")
    assert canonical_json.loads(request.body) == {
        "pdus": [],
        "edus": [
            {
                "type": "m.direct_to_device",
                "sender": CREATOR,
                "content": {
                    "target": BOB,
                    "target_device": "PHONE",
                    "message_type": "m.test",
                    "message": {"text": "hello", "x": ""},
                },
            }
        ],
    }
    assert canonical_json.dumps(canonical_json.loads(request.body)) == request.body
    assert not OutboundEdu.objects.exists()
    assert not Destination.objects.get(server=PEER).pending


def test_a_message_for_a_user_of_ours_is_in_the_inbox_and_one_for_no_device_is_dropped() -> None:
    make_device()
    assert send("mine", "again", user_id=CREATOR) == (2, 0, 0)
    assert send("nobody", user_id="@nobody:hub.example.org") == (0, 0, 1)
    assert [message.content["text"] for message in inbox.read(CREATOR, "PHONE")] == ["mine", "again"]
    assert not Destination.objects.exists()


def test_all_messages_of_a_call_are_sent_or_none_is(settings: Any) -> None:
    settings.LIMITS = replace(DEFAULTS, queued_edus=1)
    make_device()
    messages: list[tuple[str, str, str, dict[str, Any]]] = [
        (user_id, "PHONE", "m.test", {}) for user_id in (CREATOR, BOB, BOB)
    ]
    with pytest.raises(QueueFull):
        to_device.send(sender=CREATOR, messages=messages)
    assert inbox.read(CREATOR, "PHONE") == []
    assert not OutboundEdu.objects.exists()
    assert to_device.send(sender=CREATOR, messages=messages[:2]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (("bob", "PHONE", "m.test", {}), Malformed),
        ((BOB, "*", "m.test", {}), Malformed),
        ((BOB, "PHONE", "", {}), Malformed),
        ((BOB, "PHONE", "x" * 256, {}), Malformed),
        ((BOB, "PHONE", "m.test", []), Malformed),
        ((BOB, "PHONE", "m.test", {"x": "\ud800"}), Malformed),
        ((BOB, "PHONE", "m.test", {"x": "x" * MAX_MESSAGE_BYTES}), TooLarge),
        (("@stranger:evil.example.org", "PHONE", "m.test", {}), ApiError),
    ],
)
def test_what_no_server_would_take_is_refused_and_sends_nothing(message: Any, error: type[Exception]) -> None:
    BlockedServer.objects.create(servers="evil.example.org", blocked_at=NOW)
    with pytest.raises(error):
        to_device.send(sender=CREATOR, messages=[(BOB, "PHONE", "m.test", {}), message])
    assert not OutboundEdu.objects.exists()


@pytest.mark.parametrize("sender", [BOB, "@Bad:hub.example.org"])
def test_only_our_users_send(sender: str) -> None:
    with pytest.raises(Malformed):
        to_device.send(sender=sender, messages=[])


def test_the_queue_for_a_server_has_an_end(settings: Any) -> None:
    settings.LIMITS = replace(DEFAULTS, queued_edus=3)
    send("one", "two")
    with pytest.raises(QueueFull, match=f"3 messages wait for {PEER}"):
        send("three", "four")
    send("three")
    with pytest.raises(QueueFull):
        send("four")
    send("other", user_id="@bob:other.example.org")
    remote = Remote()
    run(remote)
    assert all_texts(remote) == ["one", "two", "three"]
    send("four")


# Transactions


def test_250_messages_go_in_three_transactions_each_once_and_in_order() -> None:
    send(*numbers(250))
    remote = Remote()
    run(remote)
    assert [len(texts) for texts in received(remote)] == [100, 100, 50]
    assert all_texts(remote) == numbers(250)


def test_a_transaction_that_is_repeated_has_the_same_bytes_and_what_came_meanwhile_is_in_the_next() -> None:
    send("one")
    remote = Remote.answering(UNREACHABLE)
    one_step(remote)
    send("two")
    assert OutboundEdu.objects.count() == 2, "nothing is lost before it is acknowledged"
    Destination.objects.update(next_attempt=None)
    run(remote)
    assert remote.received[0] == remote.received[1]
    assert received(remote) == [["one"], ["two"]]


def test_events_and_messages_go_together() -> None:
    append(make_room("a", PEER), *numbers(60))
    send(*numbers(110))
    remote = Remote()
    one_step(remote)
    (request,) = remote.acknowledged
    assert (len(request.pdus), len(texts_of(request.body))) == (50, 100)
    assert OutboundTransaction.objects.get().events == 50
    drain(remote)
    assert (remote.bodies(), all_texts(remote)) == (numbers(60), numbers(110))


@pytest.mark.parametrize("version", ["I.1", None])
def test_messages_go_along_with_rooms_of_either_path_form(version: str | None) -> None:
    append(make_room("a", PEER, **({"version": version} if version else {})), "event")
    send("message")
    remote = Remote()
    run(remote)
    (request,) = remote.acknowledged
    assert request.path.startswith("/_matrix/federation/v2/") is (version is not None)
    assert (remote.bodies(), all_texts(remote)) == (["event"], ["message"])


def test_large_messages_and_large_events_take_turns_within_the_bytes_of_a_transaction() -> None:
    for name in ("a", "b"):
        append(make_room(name, PEER), *(f"{name}{number}" for number in range(3)), padding=60_000)
    send(*numbers(3), padding=60_000)
    remote = Remote()
    run(remote)
    assert all(len(request.body) <= DEFAULTS.transaction_bytes for request in remote.acknowledged)
    order = [request.pdus[0]["room_id"][1] if request.pdus else "edu" for request in remote.acknowledged]
    assert sorted(order[:3]) == sorted(order[3:6]) == sorted(order[6:]) == ["a", "b", "edu"]
    assert all_texts(remote) == numbers(3)


def test_a_busy_room_does_not_keep_messages_waiting_nor_they_it() -> None:
    append(make_room("a", PEER), *numbers(300), padding=1_900)
    send(*(f"m{number}" for number in range(300)), padding=900)
    remote = Remote()
    for _ in range(2):
        one_step(remote)
    assert remote.bodies()
    assert all_texts(remote)
    drain(remote)
    assert (remote.bodies(), len(all_texts(remote))) == (numbers(300), 300)


def test_a_peer_of_single_events_gets_single_messages_too() -> None:
    append(make_room("a", PEER), "event", "another")
    Destination.objects.update(single_events=True)
    send("one", "two")
    remote = Remote()
    run(remote)
    assert {len(request.pdus) + len(texts_of(request.body)) for request in remote.acknowledged} == {1}
    assert (remote.bodies(), all_texts(remote)) == (["event", "another"], ["one", "two"])


def test_a_destination_without_messages_costs_no_statement_about_them() -> None:
    append(make_room("a", PEER), "event")
    destination = Destination.objects.get(server=PEER)
    statements: list[str] = []

    def note(run: Callable[..., Any], statement: str, *rest: Any) -> Any:
        statements.append(statement)
        return run(statement, *rest)

    with connection.execute_wrapper(note):
        assert next_transaction(destination) is not None
    assert len(statements) == 4, "rooms, LPDUs, events, and the transaction"


def test_what_waits_is_counted_on_the_console() -> None:
    append(make_room("a", PEER), "event")
    send("one", "two")
    assert str(waiting_for([PEER], most_stays=10)[PEER]) == "3"


# What a peer does not take


@dataclass
class Peer:
    """A peer that takes some transactions and refuses others, and a clock that goes to the next attempt."""

    refusal: Callable[[list[str], list[str]], Answer | None]
    now: datetime = NOW
    sent: list[tuple[list[str], list[str]]] = field(default_factory=list)
    got: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def __call__(self, row: OutboundTransaction) -> Answer:
        self.now += timedelta(milliseconds=100)
        body = bytes(row.body)
        events, edus = [event["content"]["body"] for event in canonical_json.loads(body)["pdus"]], texts_of(body)
        self.sent.append((events, edus))
        if (refusal := self.refusal(events, edus)) is not None:
            return refusal
        self.got[0].extend(events)
        self.got[1].extend(edus)
        return Answer(200, {})

    def step(self) -> Outcome:
        due = Destination.objects.values_list("next_attempt", flat=True).get(server=PEER)
        self.now = max(self.now, due or self.now)
        return step(PEER, holder="worker", send=self, clock=lambda: self.now, chance=lambda: 0.0)

    def run(self, *, most: int = 600) -> None:
        for _ in range(most):
            if self.step() is Outcome.DRAINED:
                return
        raise AssertionError("it goes on and on")


def put_aside() -> list[str]:
    rows = OutboundTransaction.objects.filter(set_aside_at__isnull=False).order_by("id")
    return [text for row in rows for text in texts_of(bytes(row.body))]


def test_a_poisoned_message_is_set_aside_and_costs_no_event_and_no_other_message() -> None:
    append(make_room("a", PEER), *numbers(10))
    send(*numbers(10))
    peer = Peer(lambda _events, edus: BROKEN if "7" in edus else None)
    peer.run()
    assert peer.got == (numbers(10), [number for number in numbers(10) if number != "7"])
    assert put_aside() == ["7"]
    assert RoomServer.objects.get().sent_position == 10
    assert not OutboundEdu.objects.exists()
    assert peer.now - NOW < 2 * SET_ASIDE_AFTER


def test_a_poisoned_event_is_set_aside_and_costs_no_message() -> None:
    append(make_room("a", PEER), *numbers(10))
    send(*numbers(10))
    peer = Peer(lambda events, _edus: BROKEN if "7" in events else None)
    peer.run()
    assert peer.got == ([number for number in numbers(10) if number != "7"], numbers(10))


def test_events_part_from_messages_first_and_do_not_wait_for_what_becomes_of_them() -> None:
    append(make_room("a", PEER), *numbers(5))
    send(*numbers(2))
    peer = Peer(lambda _events, edus: BROKEN if edus else None)
    while not peer.got[0]:
        peer.step()
    assert peer.got == (numbers(5), [])
    assert peer.now - NOW < 2 * SPLIT_AFTER


def test_a_peer_that_takes_no_messages_at_all_holds_events_up_for_about_a_minute_and_not_for_each() -> None:
    room = make_room("a", PEER)
    append(room, "first")
    send(*numbers(6))
    peer = Peer(lambda _events, edus: BROKEN if edus else None)
    peer.step()
    append(room, "later")
    while "later" not in peer.got[0]:
        peer.step()
    assert peer.got == (["first", "later"], [])
    assert peer.now - NOW < 2 * SET_ASIDE_AFTER
    assert sorted(put_aside(), key=int) == numbers(6)


def test_messages_alone_that_are_refused_are_not_given_up_before_the_peer_takes_something() -> None:
    send("one", "two")
    peer = Peer(lambda _events, _edus: BROKEN)
    while peer.now - NOW < timedelta(hours=4):
        assert peer.step() in (Outcome.FAILED, Outcome.ISOLATED)
    assert put_aside() == []
    assert peer.sent[-1] == ([], []), "what it is asked to take first is nothing"
    peer.refusal = lambda _events, _edus: None
    peer.run()
    assert peer.got == ([], ["one", "two"])


def test_a_poisoned_message_alone_is_given_up_where_the_peer_takes_an_empty_transaction() -> None:
    room = make_room("a", PEER)
    send("bad")
    peer = Peer(lambda _events, edus: BROKEN if edus else None)
    peer.step()
    append(room, "event")
    peer.run()
    assert put_aside() == ["bad"]
    assert peer.got == (["event"], [])
    assert ([], []) in peer.sent
    assert peer.now - NOW < 2 * SET_ASIDE_AFTER


def test_a_message_that_was_set_aside_is_sent_again() -> None:
    send("bad")
    peer = Peer(lambda _events, edus: BROKEN if edus else None)
    peer.run()
    peer.refusal = lambda _events, _edus: None
    assert send_again(OutboundTransaction.objects.filter(set_aside_at__isnull=False)) == 1
    peer.run()
    assert peer.got == ([], ["bad"])


def test_a_body_that_is_too_large_is_split_between_its_messages() -> None:
    send(*numbers(8), padding=10_000)
    peer = Peer(lambda _events, edus: Answer(413, None) if len(edus) > 4 else None)
    peer.run()
    assert peer.got == ([], numbers(8))
    assert [len(edus) for _, edus in peer.sent] == [8, 4, 4]
    send(*numbers(9), padding=10_000)
    peer.run()
    assert peer.got == ([], numbers(8) + numbers(9))


def test_a_message_alone_that_is_too_large_is_given_up_like_another_that_is_refused() -> None:
    send("large", padding=10_000)
    peer = Peer(lambda _events, edus: Answer(413, None) if "large" in edus else None)
    peer.run(most=20)
    assert put_aside() == ["large"]
    assert not Destination.objects.get().max_body_bytes, "no limit is learnt of what cannot be split"


def test_an_empty_transaction_that_is_taken_is_no_sign_of_a_peer_of_single_events() -> None:
    send("one", "two")
    broken = [True]
    peer = Peer(lambda _events, edus: BROKEN if broken[0] and edus else None)
    while not any(row.branch == "10" for row in OutboundTransaction.objects.all()):
        peer.step()
    broken[0] = False
    peer.run()
    assert peer.got == ([], ["one", "two"])
    assert not Destination.objects.get().single_events


def test_a_part_has_the_bytes_of_its_messages_as_they_were() -> None:
    send(*(f"é😀{number}" for number in range(3)))
    first = Remote.answering(Answer(413, None))
    run(first)
    whole = canonical_json.loads(first.received[0].body)["edus"]
    parts = [edu for request in first.acknowledged for edu in canonical_json.loads(request.body)["edus"]]
    assert parts == whole
    assert all(canonical_json.dumps(canonical_json.loads(request.body)) == request.body for request in first.received)
