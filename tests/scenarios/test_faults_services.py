"""PostgreSQL and Valkey go away under load and come back, web and workers left running: all of it goes on by itself.

Two peers send transactions without a pause, as good ones do: each until it is acknowledged. Meanwhile a part of the hub
or of the participant is taken away and given back. Then everything that was acknowledged is everywhere, once and in
order, and no answer on the way blamed us for a fault of its own (a 500).

`make test` runs those that differ most; LINMATRIX_FAULTS=all runs every fault at both servers.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from linmatrix.celery import app
from tests.scenarios.faults import Load, empty, flush, in_process, let_leases_run_out, room_locked
from tests.scenarios.waiting import eventually

ALL = os.environ.get("LINMATRIX_FAULTS") == "all"
AWAY_SECONDS = 2.0
"""How long a part is away, or frozen: long enough for all who use it to find out."""

LONG_SECONDS = 16.0
"""After this, the pause until the next attempt to connect would be as long again, were pauses to double without end."""

CONNECTIONS = 6


def stopped(part):
    """A part is stopped as an operator would, and started."""

    def fault(server):
        server.stop_part(part)
        time.sleep(AWAY_SECONDS)
        server.start_part(part)

    return fault


def killed(part):
    """A part is killed, and started at once."""

    def fault(server):
        server.kill(part)
        server.start_part(part)

    return fault


def frozen(part):
    """A part stands still, its connections open, and goes on."""

    def fault(server):
        server.pause(part)
        time.sleep(AWAY_SECONDS)
        server.resume(part)

    return fault


def emptied(server):
    """Valkey is killed and comes back with nothing in it."""
    empty(server)
    server.start_part("valkey")


FAULTS = {
    "PostgreSQL is stopped": stopped("postgres"),
    "PostgreSQL is killed": killed("postgres"),
    "PostgreSQL is frozen": frozen("postgres"),
    "Valkey is stopped": stopped("valkey"),
    "Valkey is killed": killed("valkey"),
    "Valkey is frozen": frozen("valkey"),
    "Valkey is flushed": flush,
    "Valkey comes back empty": emptied,
    "web is killed": killed("web"),
    "web is frozen": frozen("web"),
    "the worker is killed": killed("worker"),
    "the worker is frozen": frozen("worker"),
    "beat is killed": killed("beat"),
}
ALWAYS = ["PostgreSQL is stopped", "PostgreSQL is killed", "Valkey is flushed", "Valkey comes back empty"]


@pytest.mark.parametrize("fault", FAULTS if ALL else ALWAYS)
@pytest.mark.parametrize("role", ["hub", "participant"] if ALL else ["hub"])
def test_under_load_nothing_is_lost_or_doubled_when(fault, role, story, make_senders):
    senders = make_senders("left", "right")
    with Load(story, senders) as load:
        FAULTS[fault](getattr(story, role))
        # Whoever died, or lost its database, while it processed a transaction keeps others from it for two minutes.
        let_leases_run_out(getattr(story, role))
        load.go_on()
    story.talk("after it")
    story.agree(*senders)


def test_after_a_restart_of_postgres_each_request_is_answered_as_ever(story, make_senders):
    """Every connection of the web process's pool has died, and none of them costs a request."""
    senders = make_senders(*(f"peer{number}" for number in range(CONNECTIONS)))
    left_over = in_process(story.hub)  # claims of processes that were killed
    with ThreadPoolExecutor(len(senders)) as pool, room_locked(story.hub, story.room_id):
        sending = [pool.submit(sender.attempt, sender.message(), txn_id="at once") for sender in senders]
        eventually(
            lambda: in_process(story.hub) == left_over + len(senders), "all have a connection and wait for the room"
        )
    assert [one.result().status for one in sending] == [200] * len(senders)
    story.hub.restart("postgres")
    answers = [sender.attempt(sender.message(), txn_id="afterwards") for sender in senders]
    assert [answer.status for answer in answers] == [200] * len(senders)
    story.agree(*senders)


@pytest.mark.skipif(not ALL, reason="takes half a minute")
def test_after_a_long_absence_of_postgres_a_request_waits_for_a_connection_and_gets_it(story, make_senders):
    (sender,) = make_senders("peer")
    story.agree(sender)
    story.hub.stop_part("postgres")
    end = time.monotonic() + LONG_SECONDS
    while time.monotonic() < end:
        assert sender.attempt(sender.message(), txn_id="in vain").status == 503
    story.hub.start_part("postgres")
    assert sender.attempt(sender.message(), txn_id="afterwards").status == 200
    story.agree(sender)


def test_worker_and_beat_never_give_up_on_a_valkey_that_is_away():
    """By Celery's default they end after a hundred attempts, three quarters of an hour. Nobody waits for that here."""
    assert app.conf.broker_connection_max_retries is None
    assert app.conf.broker_connection_retry_on_startup
