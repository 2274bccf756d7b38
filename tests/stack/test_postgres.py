"""The embedded PostgreSQL keeps what it was given, and starts again whatever happened."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from linmatrix.stack.postgres import Postgres
from linmatrix.stack.processes import Deadline


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "postgres")
    server.start()
    yield server
    server.stop()


def test_it_keeps_its_data_and_its_address(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    url = postgres.url()
    postgres.stop()
    assert postgres.start() == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_it_survives_being_killed(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    postgres.kill()
    with psycopg.connect(postgres.start()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_starting_it_again_while_it_runs_changes_nothing(postgres: Postgres) -> None:
    pid = _postmaster(postgres)
    assert postgres.start() == postgres.url()
    assert _postmaster(postgres) == pid


def test_it_waits_for_the_disk(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_it_asks_for_the_password(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgres://linmatrix:wrong@127.0.0.1:{postgres.port}/linmatrix")


def test_the_superuser_cannot_connect(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(f"postgres://postgres@127.0.0.1:{postgres.port}/linmatrix")


def test_more_databases_can_be_made(postgres: Postgres) -> None:
    postgres.create_database("second")
    with psycopg.connect(postgres.url("second")) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("second",)


def test_a_stale_pid_file_does_not_keep_it_from_starting(postgres: Postgres) -> None:
    """After a crash the number in it may belong to anyone by now, here to a living process."""
    postgres.stop()
    (postgres.cluster / "postmaster.pid").write_text(f"{os.getppid()}\n{postgres.cluster}\n")
    postgres.start()
    assert _postmaster(postgres) != os.getppid()


def test_a_server_left_over_from_a_killed_run_is_stopped(postgres: Postgres) -> None:
    left_over = _postmaster(postgres)
    successor = Postgres(postgres.folder)
    url = successor.start()
    try:
        assert _postmaster(successor) != left_over
        assert not postgres.alive
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        successor.stop()


def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "postgres" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres = Postgres(tmp_path / "postgres")
    postgres.start()
    postgres.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user for PostgreSQL")
def test_root_may_keep_it_below_a_closed_folder(tmp_path: Path) -> None:
    """Root's home is such a folder; nothing above our own is opened for it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    postgres = Postgres(closed / "deep" / "postgres")
    with psycopg.connect(postgres.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    postgres.stop()
    assert closed.stat().st_mode & 0o777 == 0o700


def test_it_ends_with_a_killed_parent(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    code = (
        "import os, signal, sys; from pathlib import Path; from linmatrix.stack.postgres import Postgres; "
        f"Postgres(Path({str(folder)!r})).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    deadline = Deadline(30)
    while (folder / "cluster" / "postmaster.pid").exists():
        assert deadline.pause(), "PostgreSQL is still running"


def _postmaster(postgres: Postgres) -> int:
    return int((postgres.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
