"""What makes a server not ready, what is only a warning, and that no look takes for ever."""

import threading
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from socket import create_connection

import pytest
from django.db import connection

from keys import local
from linmatrix.bounded import Bounded
from linmatrix.health import checks
from linmatrix.metrics import listener
from linmatrix.metrics.listener import MAX_AT_ONCE
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline


def at(**off: float):
    """A clock that is off by so much."""
    return lambda: datetime.now(UTC) + timedelta(**off)


def test_a_database_that_answers_has_nothing_to_say(transactional_db):
    findings = checks.database()
    assert {name: found.reason for name, found in findings.items()} == {"database": "", "migrations": "", "clock": ""}


@pytest.mark.parametrize(
    ("seconds", "reason"), [(3, ""), (-3, ""), (8, "8.0 s ahead of"), (-8, "8.0 s behind"), (86_400, "ahead of")]
)
def test_clocks_may_be_apart_for_so_long_and_no_longer(seconds, reason, transactional_db):
    found = checks.database(now=at(seconds=seconds))["clock"]
    assert reason in found.reason
    assert found.ok is not bool(reason)
    assert found.required


def test_a_migration_that_is_missing_is_named(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'rooms' AND name = '0001_initial' RETURNING applied")
        (applied,) = cursor.fetchone()
    try:
        found = checks.database()["migrations"]
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('rooms', '0001_initial', %s)", [applied]
            )
    assert found.reason == "1 are not applied, rooms.0001_initial first: run manage.py migrate"
    assert found.required


def test_a_key_that_signs_and_is_published_is_well(settings, tmp_path):
    settings.SIGNING_KEY_FILE = tmp_path / "signing.key"
    assert checks.signing_key()["signing_key"].ok


def test_a_key_file_that_becomes_unusable_is_a_warning_while_the_key_is_in_memory(settings, tmp_path):
    """Signing goes on: that a slip of an operator's stops all federation would be worse than the slip."""
    settings.SIGNING_KEY_FILE = tmp_path / "signing.key"
    key = local.signing_key()
    secret = settings.SIGNING_KEY_FILE.read_text().split()[2]
    settings.SIGNING_KEY_FILE.chmod(0o644)
    found = checks.signing_key()["signing_key"]
    assert not found.ok
    assert not found.required
    assert key.key_id in found.reason
    assert secret not in found.reason


def test_without_a_key_that_can_be_used_there_is_nothing_to_serve(settings, tmp_path):
    settings.SIGNING_KEY_FILE = tmp_path / "signing.key"
    settings.SIGNING_KEY_FILE.write_text("no key")
    settings.SIGNING_KEY_FILE.chmod(0o600)
    found = checks.signing_key()["signing_key"]
    assert not found.ok
    assert found.required


def test_a_look_that_hangs_is_had_by_one_thread_whoever_asks():
    begun, end = [], threading.Event()

    def hang() -> str:
        begun.append(1)
        assert end.wait(60)
        return "at last"

    look = Bounded(hang, fresh_seconds=0)
    answers = [look.ask() for _ in range(50)]
    assert len(set(map(id, answers))) == 1
    assert look.hangs_for() > 0
    with pytest.raises(TimeoutError):
        answers[0].result(timeout=0.01)
    end.set()
    assert answers[0].result(timeout=60) == "at last"
    assert len(begun) == 1
    deadline = Deadline(60)
    while look.ask().done() and len(begun) == 1:
        assert deadline.pause()


def test_a_look_is_repeated_when_its_answer_is_old_and_not_before():
    now, asked = [0.0], []
    look = Bounded(lambda: asked.append(1), fresh_seconds=1, clock=lambda: now[0])
    for now[0] in (0.0, 0.5, 0.99):
        look.ask().result(timeout=60)
    assert len(asked) == 1
    now[0] = 1.0
    look.ask().result(timeout=60)
    assert len(asked) == 2


def test_a_look_that_fails_tells_each_who_asks():
    def fail() -> None:
        raise OSError("no")

    look = Bounded(fail, fresh_seconds=60)
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            look.ask().result(timeout=60)


def test_a_look_for_which_there_is_no_thread_fails_and_the_next_one_is_made(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    look = Bounded(lambda: "well", fresh_seconds=0)
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            look.ask().result(timeout=60)
    assert look.ask().result(timeout=60) == "well"


def test_what_only_warns_is_not_waited_for_by_who_wants_to_know_no_more(transactional_db):
    assert set(checks.check(required_only=True)) == {"database", "migrations", "clock", "signing_key"}
    assert set(checks.check()) > {"broker", "worker", "beat"}


def test_connections_that_ask_nothing_have_so_many_threads_and_no_more(settings):
    settings.METRICS_LISTEN = ("127.0.0.1", free_port())
    assert listener.begin() == settings.METRICS_LISTEN[1]
    deadline = Deadline(60)
    while not _is_full(settings.METRICS_LISTEN):  # on a slow machine the silent ones may be closed before all are there
        assert deadline.pause()
    while not _is_live(settings.METRICS_LISTEN):  # the places are given back
        assert deadline.pause()


def _is_full(address):
    with ExitStack() as stack:
        for _ in range(MAX_AT_ONCE):
            stack.enter_context(create_connection(address))
        return not _is_live(address)


def _is_live(address):
    with create_connection(address, timeout=60) as connection, suppress(ConnectionError):
        connection.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
        return b"200 OK" in connection.recv(1000)
    return False


def test_live_needs_no_database_and_no_session(client):
    """There is no database in this test: to ask for one is an error."""
    assert client.get("/health/live").json() == {"status": "live"}


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready"])
def test_they_are_for_reading(path, client):
    assert client.post(path).status_code == 405
