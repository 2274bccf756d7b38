"""What a peer does not take: split down to single events, set aside, and sent again when an operator says so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from federation.client import Answer
from federation.delivery import Outcome, deliver, step
from federation.isolation import (
    MIN_LIMIT_BYTES,
    MIN_REFUSALS,
    PAGE_BODY_BYTES,
    SET_ASIDE_AFTER,
    SET_ASIDE_ALONE_AFTER,
    SPLIT_AFTER,
    Fault,
    fault_of,
    send_again,
)
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.outbound import queue_lpdu
from federation.sending import outcome
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json
from linmatrix.protocol.events import Lpdu
from linmatrix.transport.errors import TransportError
from rooms.models import Event, RoomServer
from tests.support.lines import append, end_stay, make_room, message
from tests.support.remote import UNREACHABLE, Remote
from tests.support.stepping import PEER

NOW = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
BROKEN = Answer(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"})
TOO_LARGE = Answer(413, None)

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Peer:
    """A peer that takes some transactions and refuses others, and a clock that goes to the next attempt."""

    refusal: Callable[[list[str], bytes], Answer | TransportError | None]
    now: datetime = NOW
    sent: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    got: list[str] = field(default_factory=list)

    def __call__(self, row: OutboundTransaction) -> Answer:
        self.now += timedelta(milliseconds=100)
        body = bytes(row.body)
        texts = [event["content"]["body"] for event in canonical_json.loads(body)["pdus"]]
        self.sent.append((row.txn_id, tuple(texts)))
        refusal = self.refusal(texts, body)
        if isinstance(refusal, TransportError):
            raise refusal
        if refusal is not None:
            return refusal
        self.got += texts
        return Answer(200, {})

    def step(self) -> Outcome:
        """One attempt, at the time at which it is due."""
        due = Destination.objects.values_list("next_attempt", flat=True).get(server=PEER)
        self.now = max(self.now, due or self.now)
        return step(PEER, holder="worker", send=self, clock=lambda: self.now, chance=lambda: 0.0)

    def run(self, *, until: Callable[[], bool] = lambda: False, most: int = 400) -> list[Outcome]:
        """Step until nothing is left."""
        outcomes = []
        for _ in range(most):
            outcomes.append(self.step())
            if outcomes[-1] is Outcome.DRAINED or until():
                return outcomes
        raise AssertionError("it goes on and on")

    @property
    def sizes(self) -> list[int]:
        return [len(texts) for _, texts in self.sent]


def poisoned(*poison: str, answer: Answer = BROKEN) -> Peer:
    """A peer that answers every transaction that holds one of these texts with an error."""
    return Peer(lambda texts, _body: answer if set(texts) & set(poison) else None)


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def put_aside() -> list[str]:
    rows = OutboundTransaction.objects.filter(set_aside_at__isnull=False)
    return [
        event["content"]["body"]
        for row in rows.order_by("id")
        for event in canonical_json.loads(bytes(row.body))["pdus"]
    ]


# Which answers speak against a transaction


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500, 501])
def test_an_error_that_may_be_about_the_content_counts(status: int) -> None:
    assert fault_of(Answer(status, {"errcode": "M_UNKNOWN_TOKEN"}), size=100) is Fault.REFUSED


@pytest.mark.parametrize("status", [201, 302, 401, 408, 425, 429, 502, 503, 504, 600])
def test_what_is_about_the_peer_or_the_moment_does_not_count(status: int) -> None:
    assert fault_of(Answer(status, {"errcode": "M_UNKNOWN"}), size=100) is Fault.NONE


def test_an_unknown_path_and_a_transaction_in_between_do_not_count() -> None:
    assert fault_of(Answer(404, None), size=100) is Fault.NONE
    assert fault_of(Answer(404, {"errcode": "M_UNRECOGNIZED"}), size=100) is Fault.NONE
    assert fault_of(Answer(404, {"errcode": "M_NOT_FOUND"}), size=100) is Fault.REFUSED
    assert fault_of(Answer(400, {"errcode": "M_BAD_STATE"}), size=100) is Fault.NONE
    assert fault_of(Answer(400, {"errcode": "M_BAD_JSON"}), size=100) is Fault.REFUSED


def test_a_page_is_about_the_size_only_where_the_body_is_large() -> None:
    assert fault_of(Answer(400, None), size=PAGE_BODY_BYTES) is Fault.TOO_LARGE
    assert fault_of(Answer(400, None), size=PAGE_BODY_BYTES - 1) is Fault.REFUSED
    assert fault_of(Answer(500, None), size=PAGE_BODY_BYTES) is Fault.REFUSED
    assert fault_of(Answer(400, {}), size=PAGE_BODY_BYTES) is Fault.REFUSED
    assert fault_of(TOO_LARGE, size=1) is Fault.TOO_LARGE


# Splitting


def test_a_poisoned_batch_is_split_until_the_poison_is_alone_and_all_others_arrive_in_order() -> None:
    append(make_room("a", PEER), *numbers(50))
    peer = poisoned("17")
    peer.run()
    assert peer.got == [number for number in numbers(50) if number != "17"]
    assert put_aside() == ["17"]
    assert peer.sizes[: MIN_REFUSALS + 1].count(50) >= MIN_REFUSALS
    destination = Destination.objects.get(server=PEER)
    assert (destination.pending, destination.failures, destination.last_error) == (False, 0, "")
    assert RoomServer.objects.get(server=PEER).sent_position == 50


def test_isolating_one_of_fifty_takes_minutes_and_few_requests() -> None:
    append(make_room("a", PEER), *numbers(50))
    peer = poisoned("25")
    peer.run()
    assert peer.now - NOW < timedelta(minutes=3)
    assert len(peer.sent) < 30


def test_a_batch_is_refused_often_enough_and_long_enough_before_it_is_split() -> None:
    append(make_room("a", PEER), "one", "bad")
    peer = poisoned("bad")
    while peer.step() is Outcome.FAILED:
        assert peer.now - NOW < SPLIT_AFTER or len(peer.sent) < MIN_REFUSALS
    assert len(peer.sent) >= MIN_REFUSALS
    assert peer.now - NOW >= SPLIT_AFTER
    assert len(set(peer.sent)) == 1, "until then it is the same transaction"


def test_refusals_in_quick_succession_do_not_split() -> None:
    append(make_room("a", PEER), "one", "bad")
    peer = poisoned("bad")
    for _ in range(10):
        Destination.objects.update(next_attempt=None)
        assert step(PEER, holder="worker", send=peer, clock=lambda: NOW) is Outcome.FAILED
    assert len(set(peer.sent)) == 1


def test_a_peer_that_recovers_gets_the_same_transaction() -> None:
    append(make_room("a", PEER), "one", "two")
    peer = Peer(lambda _texts, _body: BROKEN if len(peer.sent) < 3 else None)
    peer.run()
    assert len({txn_id for txn_id, _ in peer.sent}) == 1
    assert peer.got == ["one", "two"]


def test_parts_have_new_ids_and_are_refused_once_to_be_split_again() -> None:
    append(make_room("a", PEER), *numbers(8))
    peer = poisoned("0")
    peer.run(until=lambda: peer.sizes[-1] == 1)
    first = peer.sizes.count(8)
    assert peer.sizes[first:] == [4, 2, 1]
    assert len({txn_id for txn_id, _ in peer.sent}) == 4


def test_no_part_is_sent_before_those_ahead_of_it_have_ended_and_nothing_new_is_frozen() -> None:
    room = make_room("a", PEER)
    append(room, *numbers(4))
    peer = poisoned("0")
    peer.run(until=lambda: peer.sizes[-1] == 1)
    append(room, "later")
    peer.run()
    assert peer.got == ["1", "2", "3", "later"]
    taken = [texts for _, texts in peer.sent if texts[0] != "0"]
    assert taken == [("1",), ("2", "3"), ("later",)]


@pytest.mark.parametrize(
    "failure", [UNREACHABLE, Answer(401, {}), Answer(429, {}), Answer(503, None), Answer(404, None)]
)
def test_a_transaction_is_never_split_for_these(failure: Answer | TransportError) -> None:
    append(make_room("a", PEER), *numbers(3))
    peer = Peer(lambda _texts, _body: failure)
    for _ in range(30):
        assert peer.step() is Outcome.FAILED
    assert peer.now - NOW > timedelta(days=0.5)
    assert len(set(peer.sent)) == 1
    assert OutboundTransaction.objects.count() == 1


def test_several_rooms_keep_their_own_order_and_one_of_them_its_poison() -> None:
    for name in ("a", "b", "c"):
        append(make_room(name, PEER), *(f"{name}{number}" for number in range(5)))
    peer = poisoned("b2")
    peer.run()
    for name in ("a", "b", "c"):
        expected = [f"{name}{number}" for number in range(5) if f"{name}{number}" != "b2"]
        assert [text for text in peer.got if text[0] == name] == expected


def test_a_split_keeps_the_path_form_and_covers_events_that_are_not_sent() -> None:
    room = make_room("a", PEER, version="I.1")
    append(room, "one")
    append(room, "rejected", verdict=Event.Verdict.REJECTED)
    append(room, "bad")
    append(room, "soft", verdict=Event.Verdict.SOFT_FAILED)
    end_stay(RoomServer.objects.get(server=PEER))
    peer = poisoned("bad")
    peer.run()
    assert (peer.got, put_aside()) == (["one"], ["bad"])
    assert RoomServer.objects.get(server=PEER).sent_position == 4
    assert all(row.path.startswith("/_matrix/federation/v2/") for row in OutboundTransaction.objects.all())


def test_a_second_open_transaction_of_a_branch_cannot_be() -> None:
    append(make_room("a", PEER), "one")
    Peer(lambda _texts, _body: BROKEN).step()
    row = OutboundTransaction.objects.get()
    row.pk, row.txn_id = None, "another"
    with pytest.raises(IntegrityError, match="outbound_one_in_flight"), transaction.atomic():
        row.save(force_insert=True)


def test_a_worker_that_lost_its_lease_splits_nothing() -> None:
    append(make_room("a", PEER), *numbers(4))

    def take_over(_texts: list[str], _body: bytes) -> Answer:
        Destination.objects.update(lease_holder="another")
        return TOO_LARGE

    peer = Peer(take_over)
    assert peer.step() is Outcome.NOT_OURS
    assert OutboundTransaction.objects.get().split_at is None
    assert Destination.objects.get().max_body_bytes is None


def test_a_turn_goes_on_with_the_parts() -> None:
    append(make_room("a", PEER), *numbers(4))
    remote = Remote.answering(TOO_LARGE)
    assert deliver(PEER, send=remote, chance=lambda: 0.0) is None
    assert [len(request.pdus) for request in remote.received] == [4, 2, 2]
    assert remote.bodies() == numbers(4)


# Bodies that are too large


@pytest.mark.parametrize("answer", [TOO_LARGE, Answer(413, {"errcode": "M_TOO_LARGE"}), Answer(400, None)])
def test_a_body_that_is_too_large_is_split_at_once_and_the_limit_is_remembered(answer: Answer) -> None:
    room = make_room("a", PEER)
    append(room, *numbers(8), padding=10_000)
    peer = Peer(lambda _texts, body: answer if len(body) > 60_000 else None)
    assert peer.step() is Outcome.ISOLATED
    assert 40_000 < (Destination.objects.get().max_body_bytes or 0) <= 60_000
    peer.run()
    assert peer.sizes == [8, 4, 4]
    append(room, *numbers(9), padding=10_000)
    peer.run()
    assert peer.sizes == [8, 4, 4, 3, 3, 3]
    assert peer.got == numbers(8) + numbers(9)


def test_halves_of_a_large_body_are_halves_by_bytes() -> None:
    room = make_room("a", PEER)
    append(room, "large", padding=60_000)
    append(room, *numbers(20), padding=1_000)
    peer = Peer(lambda texts, _body: TOO_LARGE if len(texts) == 21 else None)
    peer.run()
    assert peer.sizes == [21, 1, 20]


def test_no_limit_is_learnt_that_would_be_none() -> None:
    append(make_room("a", PEER), "one", "two")
    peer = Peer(lambda texts, _body: TOO_LARGE if len(texts) > 1 else None)
    peer.run()
    assert Destination.objects.get().max_body_bytes == MIN_LIMIT_BYTES


def test_a_single_event_that_is_too_large_is_sent_again_and_teaches_no_limit() -> None:
    append(make_room("a", PEER), "one")
    peer = Peer(lambda _texts, _body: TOO_LARGE)
    assert peer.step() is Outcome.FAILED
    assert Destination.objects.get().max_body_bytes is None


def test_a_limit_above_ours_changes_nothing() -> None:
    append(make_room("a", PEER), *numbers(4), padding=40_000)
    Destination.objects.update(max_body_bytes=10 * DEFAULTS.transaction_bytes)
    peer = poisoned()
    peer.run()
    assert peer.sizes == [2, 2]


# Setting aside


def test_what_is_set_aside_is_recorded_with_the_reason_and_not_as_delivered() -> None:
    append(make_room("a", PEER), "one", "bad", "three")
    poisoned("bad").run()
    row = OutboundTransaction.objects.get(set_aside_at__isnull=False)
    assert (row.events, row.acked_at, row.last_error) == (1, None, "HTTP 500 M_UNKNOWN Internal server error")
    assert row.lineage == OutboundTransaction.objects.get(branch="", split_at__isnull=False).txn_id


def test_a_single_event_is_set_aside_soon_where_the_peer_takes_others() -> None:
    append(make_room("a", PEER), "one", "bad")
    peer = poisoned("bad")
    peer.run()
    assert SET_ASIDE_AFTER <= peer.now - NOW < 3 * SET_ASIDE_AFTER
    own = [texts for _, texts in peer.sent if texts == ("bad",)]
    assert len(own) >= MIN_REFUSALS


def test_a_single_event_is_set_aside_late_where_the_peer_takes_nothing() -> None:
    append(make_room("a", PEER), "bad")
    peer = poisoned("bad")
    while not put_aside():
        peer.step()
    assert SET_ASIDE_ALONE_AFTER <= peer.now - NOW <= 2 * SET_ASIDE_ALONE_AFTER


def test_an_outage_of_errors_does_not_cost_more_than_an_event_an_hour() -> None:
    append(make_room("a", PEER), *numbers(50))
    peer = poisoned("2")
    peer.run(until=lambda: len(peer.got) == 2)  # by now the peer has shown that it takes others
    peer.refusal = lambda _texts, _body: BROKEN
    hours = 6
    while peer.now - NOW < timedelta(hours=hours):
        assert peer.step() in (Outcome.FAILED, Outcome.ISOLATED)
    assert 1 < len(put_aside()) <= hours + 1
    peer.refusal = lambda _texts, _body: None
    peer.run()
    assert sorted(peer.got + put_aside(), key=int) == numbers(50)


def test_an_lpdu_that_the_hub_does_not_take_is_set_aside_and_those_after_it_are_sent() -> None:
    for lpdu_id in ("$one", "$bad", "$three"):
        queue_lpdu(PEER, Lpdu(event=message("!theirs:peer.example.org", lpdu_id), lpdu_id=lpdu_id))
    peer = poisoned("$bad")
    peer.run()
    assert list(OutboundLpdu.objects.order_by("id").values_list("lpdu_id", "status")) == [
        ("$one", "sent"),
        ("$bad", "set-aside"),
        ("$three", "sent"),
    ]
    became = outcome("!theirs:peer.example.org", "$bad")
    assert (became.settled, became.set_aside) == (False, "HTTP 500 M_UNKNOWN Internal server error")


# Sending again


def test_what_was_set_aside_is_sent_again_as_the_same_transaction() -> None:
    room = make_room("a", PEER)
    append(room, "one", "bad", "three")
    peer = poisoned("bad")
    peer.run()
    refused = peer.sent[-2] if peer.sent[-1][1] != ("bad",) else peer.sent[-1]
    peer.refusal = lambda _texts, _body: None
    assert send_again(OutboundTransaction.objects.filter(set_aside_at__isnull=False)) == 1
    append(room, "four")
    peer.run()
    assert peer.got == ["one", "three", "bad", "four"]
    assert refused[1] == ("bad",)
    assert refused in peer.sent[-2:]
    assert put_aside() == []
    assert RoomServer.objects.get(server=PEER).sent_position == 4


def test_an_lpdu_that_is_sent_again_is_sent_once() -> None:
    queue_lpdu(PEER, Lpdu(event=message("!theirs:peer.example.org", "$bad"), lpdu_id="$bad"))
    peer = poisoned("$bad")
    while not put_aside():
        peer.step()
    peer.refusal = lambda _texts, _body: None
    send_again(OutboundTransaction.objects.all())
    peer.run()
    assert peer.got == ["$bad"]
    assert OutboundLpdu.objects.values_list("status", "reason").get() == ("sent", "")


def test_what_is_refused_again_is_set_aside_at_once() -> None:
    append(make_room("a", PEER), "bad")
    peer = poisoned("bad")
    while not put_aside():
        peer.step()
    peer.run()
    attempts = len(peer.sent)
    send_again(OutboundTransaction.objects.all())
    assert peer.run() == [Outcome.ISOLATED, Outcome.DRAINED]
    assert len(peer.sent) == attempts + 1
    assert put_aside() == ["bad"]


def test_sending_again_waits_behind_what_is_under_way() -> None:
    room = make_room("a", PEER)
    append(room, "bad")
    peer = poisoned("bad")
    while not put_aside():
        peer.step()
    append(room, "next")
    peer.refusal = lambda _texts, _body: UNREACHABLE
    peer.step()
    send_again(OutboundTransaction.objects.all())
    peer.refusal = lambda _texts, _body: None
    peer.run()
    assert peer.got == ["next", "bad"]


def test_only_what_is_set_aside_is_sent_again() -> None:
    append(make_room("a", PEER), "one")
    poisoned().run()
    assert send_again(OutboundTransaction.objects.all()) == 0
    assert OutboundTransaction.objects.get().acked_at is not None


# Peers that take one event at a time


def test_a_peer_that_takes_single_events_only_is_found_out_and_gets_no_more_than_that() -> None:
    room = make_room("a", PEER)
    append(room, *numbers(8))
    peer = Peer(lambda texts, _body: BROKEN if len(texts) > 1 else None)
    peer.run()
    assert peer.got == numbers(8)
    assert Destination.objects.get().single_events
    before = len(peer.sent)
    append(room, *numbers(5))
    peer.run()
    assert peer.sizes[before:] == [1] * 5
    assert peer.got == numbers(8) + numbers(5)


def test_a_poisoned_batch_does_not_make_a_peer_of_single_events() -> None:
    for poison in (0, 3, 7):
        append(make_room(f"r{poison}", PEER), *(f"{poison}-{number}" for number in range(8)))
        poisoned(f"{poison}-{poison}").run()
    assert not Destination.objects.get().single_events


def test_an_outage_does_not_make_a_peer_of_single_events() -> None:
    append(make_room("a", PEER), *numbers(16))
    peer = Peer(lambda texts, _body: None)
    peer.refusal = lambda texts, _body: BROKEN if not peer.got and len(texts) > 1 else None
    peer.run()
    assert peer.got == numbers(16)
    assert not Destination.objects.get().single_events
