"""A claim on a request or on a room to be joined ends soon after its process, and not before its process is done."""

from datetime import timedelta
from threading import Event

import pytest
from django.db import DatabaseError
from django.http import HttpResponse
from django.utils import timezone

from federation.claims import LONGEST_SECONDS, claims, extend
from federation.idempotency import Transaction, once
from federation.models import InboundTransaction
from linmatrix.limits import DEFAULTS
from linmatrix.renewal import LEASE, LONGEST_LEASE, RENEW_SECONDS, Claims
from rooms import joining
from rooms.joining import held_for_join, join_under_way, note_join
from rooms.models import PendingJoin
from tests.support.lines import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    """Of the claims."""
    return Clock()


@pytest.fixture
def row():
    """A request that is being answered; its lease is about to end."""
    return InboundTransaction.objects.create(
        origin="part.example.org", endpoint="send", txn_id="a", body_sha256=b"", lease_until=NOW, received_at=NOW
    )


def lease_after(clock, row, *, seconds):
    """The lease of a claim that has been held for so long, when claims are renewed."""
    held = Claims(extend, longest=LONGEST_SECONDS, clock=clock)
    with held.hold(row.pk):
        clock.seconds = seconds
        held.renew(now=NOW)
    row.refresh_from_db()
    return row.lease_until


def test_a_claim_that_is_held_for_long_is_renewed(clock, row):
    assert lease_after(clock, row, seconds=RENEW_SECONDS) == NOW + LEASE


def test_one_that_is_held_briefly_costs_nothing(clock, row, django_assert_num_queries):
    """The twin of the test above."""
    held = Claims(extend, longest=LONGEST_SECONDS, clock=clock)
    with held.hold(row.pk), django_assert_num_queries(0):
        clock.seconds = RENEW_SECONDS - 0.1
        held.renew(now=NOW)


def test_one_that_is_held_for_ever_is_not_renewed_for_ever(clock, row):
    assert lease_after(clock, row, seconds=LONGEST_SECONDS) == NOW


def test_one_that_is_not_held_any_more_is_not_renewed(clock, row, django_assert_num_queries):
    held = Claims(extend, longest=LONGEST_SECONDS, clock=clock)
    with pytest.raises(DatabaseError), held.hold(row.pk):
        raise DatabaseError("the database is gone, and the claim cannot be given back")
    clock.seconds = RENEW_SECONDS
    with django_assert_num_queries(0):
        held.renew(now=NOW)


def test_an_answered_request_is_left_alone(clock, row):
    InboundTransaction.objects.update(status=200, response=b"{}")
    assert lease_after(clock, row, seconds=RENEW_SECONDS) == NOW


def test_leases_outlast_some_failures_to_renew_them():
    assert timedelta(seconds=3 * RENEW_SECONDS) < LEASE


def test_who_repeats_a_request_whose_process_died_waits_for_it_and_is_not_sent_away():
    assert timedelta(seconds=DEFAULTS.repeated_transaction_seconds) > LEASE


def test_a_request_is_claimed_while_it_is_processed_and_no_longer():
    processing, go_on = Event(), Event()

    def process():
        processing.set()
        assert go_on.wait(30)
        return HttpResponse(b"{}")

    request = Transaction("part.example.org", "send", "a", b"", stable=True)
    with in_thread(lambda: once(request, process)):
        assert processing.wait(30)
        claimed = InboundTransaction.objects.get()
        assert claimed.pk in claims.held
        go_on.set()
    assert claimed.pk not in claims.held


ROOM = "!r:peer.example.org"
ALICE = "@alice:hub.example.org"


def test_a_join_holds_its_room_while_it_goes_on_and_no_longer():
    with held_for_join(ROOM, ALICE):
        row = PendingJoin.objects.get()
        assert row.pk in joining.joins.held
        assert join_under_way([ROOM], now=timezone.now())
        assert not join_under_way(["!other:peer.example.org"], now=timezone.now())
    assert not join_under_way([ROOM], now=timezone.now())
    assert row.pk not in joining.joins.held


def test_a_join_that_takes_long_holds_its_room_for_longer(clock):
    row = note_join(ROOM, ALICE, now=NOW)
    held = Claims(joining.extend, longest=joining.LONGEST_SECONDS, clock=clock)
    with held.hold(row.pk):
        clock.seconds = RENEW_SECONDS
        held.renew(now=NOW + LEASE / 2)
    assert join_under_way([ROOM], now=NOW + LEASE)


def test_the_join_of_a_process_that_died_holds_its_room_for_one_lease():
    note_join(ROOM, ALICE, now=NOW)
    assert join_under_way([ROOM], now=NOW + LEASE - timedelta(milliseconds=1))
    assert not join_under_way([ROOM], now=NOW + LEASE)


def test_a_join_that_a_wrong_clock_noted_holds_nothing():
    note_join(ROOM, ALICE, now=NOW + LONGEST_LEASE)
    assert not join_under_way([ROOM], now=NOW)
