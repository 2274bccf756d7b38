"""What is counted, where it happens: each claim is about how far a number moves."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from federation import blocking
from federation.client import Answer
from federation.models import Destination, OutboundTransaction
from linmatrix.access_log import ERRCODES
from linmatrix.metrics import state
from linmatrix.metrics.folder import tidy
from linmatrix.metrics.instruments import REGISTRY
from linmatrix.metrics.state import StateCollector, look, messages
from rooms.models import Event, Finding
from tests.support.lines import append, make_room
from tests.support.remote import UNREACHABLE, Remote
from tests.support.stepping import PEER, run


def value(name, **labels):
    return REGISTRY.get_sample_value(f"linmatrix_{name}", labels) or 0.0


class Moved:
    """How far numbers have moved since it was made."""

    def __init__(self):
        self._before = {}
        for family in REGISTRY.collect():
            for sample in family.samples:
                self._before[sample.name, frozenset(sample.labels.items())] = sample.value

    def by(self, name, **labels):
        before = self._before.get((f"linmatrix_{name}", frozenset(labels.items())), 0.0)
        return value(name, **labels) - before


# Events


def test_events_are_counted_by_what_became_of_them(peer, joined):
    good = peer.lpdu(joined.room_id).event
    powerless = peer.lpdu(joined.room_id, type="m.room.power_levels", content={}, state_key="").event
    moved = Moved()
    peer.send([good, {**good, "signatures": {}}, powerless])
    peer.send([good])
    counted = {verdict: moved.by("events_total", role="hub", verdict=verdict) for verdict in VERDICTS}
    assert counted == {"accepted": 1, "dropped": 1, "refused": 1, "known": 1, "redacted": 0, "rejected": 0}


VERDICTS = ("accepted", "dropped", "refused", "known", "redacted", "rejected")


def test_an_append_is_measured_once_however_many_events_it_has(peer, joined):
    events = [peer.lpdu(joined.room_id, content={"body": str(number)}).event for number in range(20)]
    moved = Moved()
    peer.send(events)
    assert moved.by("events_total", role="hub", verdict="accepted") == 20
    assert moved.by("append_seconds_count") == 1
    assert moved.by("append_wait_seconds_count", what="row") == 1
    assert moved.by("append_wait_seconds_count", what="process") == 0


def test_events_that_are_not_committed_are_not_counted(peer, joined):
    """The room's row is gone by the commit: nothing of it stays."""
    moved = Moved()
    answer = peer.send([peer.lpdu("!nowhere:hub.example.org").event])
    assert answer.json() == {"failed_pdus": {}}
    assert all(moved.by("events_total", role="hub", verdict=verdict) == 0 for verdict in VERDICTS)


def test_each_kind_of_finding_is_there_before_the_first_one():
    """Prometheus sees a number grow, not one that begins with 1."""
    for kind in Finding.Kind:
        assert REGISTRY.get_sample_value("linmatrix_findings_total", {"kind": str(kind)}) is not None


# Requests


@pytest.mark.parametrize(
    ("path", "endpoint", "status", "errcode"),
    [
        ("v2/send/x", "send", "405", "M_UNRECOGNIZED"),
        ("unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02/send/x", "send", "405", "M_UNRECOGNIZED"),
        ("v1/make_join/r/u", "make_join", "401", "M_FORBIDDEN"),
        ("v1/state/r", "state", "401", "M_FORBIDDEN"),
        ("v9/whatever/r", "other", "404", "M_UNRECOGNIZED"),
    ],
)
def test_a_request_is_counted_by_the_drafts_name_of_its_endpoint(path, endpoint, status, errcode, client, db):
    moved = Moved()
    client.get(f"/_matrix/federation/{path}")
    assert moved.by("requests_total", endpoint=endpoint, status=status, errcode=errcode) == 1
    assert moved.by("request_seconds_count", endpoint=endpoint) == 1
    assert value("threads_busy", kind="web") == 0


def test_every_error_code_of_ours_is_counted_by_its_name():
    """Another one would be counted as "other", with those that invited servers make up."""
    assert {"M_FORBIDDEN", "M_BAD_STATE", "M_LIMIT_EXCEEDED", "M_WRONG_SERVER", "M_UNKNOWN"} <= ERRCODES


# Deliveries


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("answer", "outcome", "events"),
    [(Answer(200, {}), "delivered", 2), (Answer(500, None), "failed", 0), (UNREACHABLE, "failed", 0)],
    ids=["200", "500", "unreachable"],
)
def test_a_delivery_is_counted_by_its_end(answer, outcome, events):
    append(make_room("a", PEER), "one", "two")
    moved = Moved()
    run(Remote.answering(answer))
    assert moved.by("deliveries_total", outcome=outcome) == 1
    assert moved.by("delivery_seconds_count", outcome=outcome) == 1
    assert moved.by("delivered_events_total") == events


# The folder that processes share


@pytest.fixture
def others():
    """The ids of a process that runs, and of one that has ended."""
    wait, end = ([sys.executable, "-c", code] for code in ("import time; time.sleep(600)", ""))
    with subprocess.Popen(wait) as running, subprocess.Popen(end) as ended:
        ended.wait()
        yield running.pid, ended.pid
        running.kill()


def files_of(folder, *pids, content="content"):
    for pid in pids:
        for name in (f"counter_{pid}.db", f"histogram_{pid}.db", f"gauge_livesum_{pid}.db"):
            (folder / name).write_text(content)


def test_of_an_ended_process_only_the_gauges_go(tmp_path, others):
    running, ended = others
    files_of(tmp_path, running, ended)
    tidy(tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {
        f"counter_{running}.db", f"histogram_{running}.db", f"gauge_livesum_{running}.db",
        f"counter_{ended}.db", f"histogram_{ended}.db",
    }  # fmt: skip


def test_what_a_process_left_empty_that_was_killed_as_it_began_goes(tmp_path, others):
    """No scrape could read it. That of a process which still begins stays."""
    running, ended = others
    files_of(tmp_path, running, ended, content="")
    tidy(tmp_path)
    assert {file.name.rpartition("_")[2] for file in tmp_path.iterdir()} == {f"{running}.db"}


@pytest.mark.parametrize("pid", ["an ended process", "a former one with our own id"])
def test_the_first_process_of_a_start_begins_anew(pid, tmp_path, others):
    files_of(tmp_path, others[1] if pid == "an ended process" else os.getpid())
    tidy(tmp_path, starting=True)
    assert list(tmp_path.iterdir()) == []


# State


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("waited", "bucket"), [(0.0, "under_1s"), (30.0, "under_1m"), (1800.0, "under_1h"), (100_000.0, "over_1h")]
)
@pytest.mark.parametrize("attempted", [False, True], ids=["nobody has begun to send", "an attempt has failed"])
def test_lag_is_how_long_the_oldest_event_has_waited(attempted, waited, bucket):
    append(make_room("a", PEER), "one", "two")
    append(make_room("b", "taken.example.org"), "taken")
    run(Remote(), "taken.example.org")
    if attempted:
        run(Remote.answering(UNREACHABLE))
    since = timezone.now() - timedelta(seconds=waited)
    Event.objects.filter(position=1).update(received_at=since)
    OutboundTransaction.objects.filter(acked_at__isnull=True).update(created_at=since)
    found = look()
    assert {name for name, count in found.lags.items() if count} == {"none", bucket}
    assert found.lags["none"] == found.lags[bucket] == 1
    assert waited <= found.oldest_seconds < waited + 60
    assert found.destinations["failing"] == found.queues["transactions"] == int(attempted)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("held", ["", "paused", "blocked"])
@pytest.mark.parametrize("attempted", [False, True], ids=["nobody has begun to send", "an attempt has failed"])
def test_what_an_operator_holds_back_does_not_lag(attempted, held):
    append(make_room("a", PEER), "one")
    if attempted:
        run(Remote.answering(UNREACHABLE))
    Destination.objects.update(paused_at=timezone.now() if held == "paused" else None)
    if held == "blocked":
        blocking.block("p*.example.org" if attempted else PEER, reason="", by="", now=timezone.now())
    found = look()
    assert sum(number for name, number in found.lags.items() if name != "none") == (0 if held else 1)
    assert found.destinations["held_back"] == (1 if held else 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("held", ["", "failing", "paused", "blocked"])
def test_a_server_that_a_worker_could_send_to_is_due(held):
    append(make_room("a", PEER), "one")
    if held == "failing":
        run(Remote.answering(UNREACHABLE))
    if held == "paused":
        Destination.objects.update(paused_at=timezone.now())
    if held == "blocked":
        blocking.block(PEER, reason="", by="", now=timezone.now())
    found = look().destinations
    assert found["pending"] == 1
    assert found["due"] == (0 if held else 1)


@pytest.mark.django_db(transaction=True)
def test_a_question_that_takes_too_long_is_left_out_and_the_rest_is_known():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE federation_destination IN ACCESS EXCLUSIVE MODE")
        found = look(statement_seconds=0.2)
    assert not found.destinations
    assert found.queues.keys() == state._QUEUES.keys()
    families = {family.name: family for family in state._gauges(found)}
    assert families["linmatrix_database_up"].samples[0].value == 1


def test_a_database_that_hangs_says_nothing_of_the_broker():
    end = threading.Event()
    collector = StateCollector(look=end.wait, messages=lambda: 3, answer_seconds=0.1)
    families = {family.name: family for family in collector.collect()}
    end.set()
    assert families["linmatrix_database_up"].samples[0].value == 0
    assert families["linmatrix_broker_up"].samples[0].value == 1
    assert families["linmatrix_broker_messages"].samples[0].value == 3


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_away_leaves_its_part_out(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    found = replace(look(), messages=messages())
    assert found.messages is None
    assert found.sizes
    families = {family.name: family for family in state._gauges(found)}
    assert families["linmatrix_broker_up"].samples[0].value == 0
    assert families["linmatrix_database_up"].samples[0].value == 1
    assert "linmatrix_broker_messages" not in families
