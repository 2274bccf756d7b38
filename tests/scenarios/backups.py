"""Backups as docs/operations.md has them: of a server that runs, and put back in another place."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from linmatrix.stack import unprivileged
from linmatrix.stack.postgres import programs
from linmatrix.stack.processes import Process
from linmatrix.stack.server import Server
from tests.scenarios.waiting import eventually

FILES = ("signing.key", "django-secret-key")
"""What a server has that is in no database."""


def _postgres_environment(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {
        **os.environ,
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port),
        "PGUSER": parts.username or "",
        "PGPASSWORD": parts.password or "",
        "PGDATABASE": parts.path.removeprefix("/"),
    }


def run(server: Server, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs against a server's database."""
    result = subprocess.run(
        [str(programs() / program), *arguments],
        env=_postgres_environment(server.database_url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{program}: {result.stderr}"


@contextmanager
def archiving(server: Server, folder: Path) -> Iterator[None]:
    """Have what a server's database writes written down elsewhere, too, until the database ends."""
    folder.mkdir()
    receiver = Process(
        "archive",
        [str(programs() / "pg_receivewal"), f"--directory={folder}", "--no-loop"],
        log=folder.with_suffix(".log"),
        env=_postgres_environment(server.database_url),
    )
    receiver.start()
    eventually(lambda: any(folder.iterdir()), "the archive has begun")
    try:
        yield
        # The database waits for it when it is stopped, and it ends with the database.
        eventually(lambda: not receiver.alive, "the archive has all that the database wrote")
    finally:
        receiver.stop()
    for last in folder.glob("*.partial"):
        last.rename(last.with_suffix(""))


def put_back_cluster(source: Server, base: Path, archive: Path, target: Path) -> None:
    """A folder for a server like `source` from a base backup and the archive of what was written after it."""
    cluster = target / "postgres" / "cluster"
    cluster.parent.mkdir(parents=True)
    shutil.copytree(base, cluster)
    (cluster / "recovery.signal").touch()
    with (cluster / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"restore_command = 'cp {archive}/%f %p'\nhot_standby = off\n")
    if unprivileged.needed():
        for path in (cluster, *cluster.rglob("*"), archive, *archive.iterdir()):
            shutil.chown(path, unprivileged.ACCOUNT)
    cluster.chmod(0o700)
    shutil.copy(source.folder / "postgres" / "password", target / "postgres" / "password")
    put_back_files(source, target)


def put_back_files(source: Server, target: Path) -> None:
    """The files that a server has besides."""
    target.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy2(source.folder / name, target / name)
