"""A room whose lock somebody holds costs the others a bounded wait (threat 56)."""

import threading

import pytest
from django.db import connection, transaction

from rooms.models import Room
from tests.support.hosted import is_error, snapshot
from tests.support.lines import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE = 30.0


def setting(name):
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    ("name", "bound"),
    [("lock_timeout", "10s"), ("statement_timeout", "1min"), ("idle_in_transaction_session_timeout", "1min")],
)
def test_every_connection_has_its_bounds(name, bound):
    assert setting(name) == bound


def test_who_waits_too_long_for_a_room_is_told_to_come_again(peer, joined, private):
    """PostgreSQL's patience is cut for the test; another room is not held up, and afterwards all goes on."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Room.objects.select_for_update().get(pk=joined.pk)
            held.set()
            assert done.wait(DEADLINE)

    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
    event = peer.lpdu(joined.room_id).event
    before = snapshot(joined.room_id)
    with in_thread(hold):
        try:
            assert held.wait(DEADLINE)
            assert is_error(peer.send([event], txn_id="t"), 503, "M_UNKNOWN")
            assert peer.send([peer.lpdu(private.room_id).event]).status_code == 200
        finally:
            done.set()
    assert snapshot(joined.room_id) == before
    assert peer.send([event], txn_id="t").json() == {"failed_pdus": {}}
    assert snapshot(joined.room_id) != before
