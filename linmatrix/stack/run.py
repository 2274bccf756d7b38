"""`make run`: one server in the foreground, its data in ./data, until Ctrl-C.

Honours DATABASE_URL and REDIS_URL (nothing is embedded in their place then), LINMATRIX_SERVER_NAME, LINMATRIX_DATA_DIR,
LINMATRIX_HOST (where it listens; loopback by default) and LINMATRIX_WEB_WORKERS.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from linmatrix.environment.reading import InvalidSettings, read
from linmatrix.stack.errors import StackError
from linmatrix.stack.server import PROJECT, Server
from linmatrix.stack.signals import StopRequested, stop_signals
from linmatrix.startup import SAID

DEFAULT_SERVER_NAME = "linmatrix.localhost:8448"
ADMIN = "admin"


def main() -> int:
    """Run until asked to stop; the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    with stop_signals() as signals:
        try:
            server = server_from(os.environ)
            console.print(f"Starting {server.server_name} ...")
            with server:
                try:
                    _introduce(console, server)
                    server.watch()
                except StopRequested:
                    console.print("Stopping ...")
                finally:
                    signals.ignore()
        except StopRequested:  # while it was starting: it has cleared up after itself
            console.print("Stopped.")
            return 0
        except StackError as error:
            console.print(str(error), style="red", markup=False)
            return 1
    console.print(f"Stopped. The data is kept in {server.folder}", markup=False)
    return 0


def server_from(environment: Mapping[str, str]) -> Server:
    """The server that these environment variables describe. Raises StackError for what it could not start with."""
    try:
        configured = read(environment)
    except InvalidSettings as error:
        raise StackError(f"{SAID}{error}") from None
    server_name = environment.get("LINMATRIX_SERVER_NAME") or DEFAULT_SERVER_NAME
    # Development names are loopback; a server with a public name has no business with private addresses.
    private = "1" if server_name.partition(":")[0].endswith(".localhost") else "0"
    return Server(
        Path(environment.get("LINMATRIX_DATA_DIR") or PROJECT / "data"),
        server_name=server_name,
        host=environment.get("LINMATRIX_HOST") or "127.0.0.1",
        database_url=environment.get("DATABASE_URL") or None,
        redis_url=environment.get("REDIS_URL") or None,
        web_workers=configured["LINMATRIX_WEB_WORKERS"],
        extra_environment={
            "LINMATRIX_ALLOW_PRIVATE_ADDRESSES": environment.get("LINMATRIX_ALLOW_PRIVATE_ADDRESSES", private)
        },
    )


def _introduce(console: Console, server: Server) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("Server name", server.server_name)
    table.add_row("Federation", server.base_url)
    table.add_row("Admin", f"{server.base_url}/admin/")
    table.add_row("Admin login", admin_login(server))
    table.add_row("Certificates", f"signed by {server.authority.certificate_file}")
    table.add_row("Data and logs", str(server.folder))
    console.print(table)
    console.print("Ctrl-C stops it.")


def admin_login(server: Server) -> str:
    """Create the admin's account on the first start, and say how to sign in."""
    file = server.folder / "admin-password"
    if file.exists():
        return f"{ADMIN}, first password in {file}"
    password = secrets.token_urlsafe(12)
    try:
        server.manage(
            "createsuperuser", "--noinput", "--username", ADMIN, "--email", f"{ADMIN}@{server.hostname}",
            extra_environment={"DJANGO_SUPERUSER_PASSWORD": password},
        )  # fmt: skip
    except StackError as error:
        if "already taken" in str(error):  # a database of yours, with its accounts
            return f"{ADMIN}, as before"
        raise
    file.touch(mode=0o600)
    file.write_text(password + "\n")
    return f"{ADMIN} / {password}"
