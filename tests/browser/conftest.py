"""Chromium, and two whole servers to look at: the operator's own and another one that it talks with."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from linmatrix.stack.certificates import Authority
from linmatrix.stack.ports import free_port
from linmatrix.stack.run import admin_login
from linmatrix.stack.server import Server
from tests.browser.operator import Operator, pictures_folder

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that connects to nothing but the servers under test."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: install it, or say in CHROMIUM where it is")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def servers(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """The operator's and another one's, as `make run` starts them."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    made = [
        Server(
            tmp_path_factory.mktemp(label),
            server_name=f"{label}.localhost:{free_port()}",
            authority=authority,
            web_stop_seconds=2,
            extra_environment={"LINMATRIX_SEND_TIMEOUT": "6"},
        )
        for label in ("ours", "theirs")
    ]
    with ThreadPoolExecutor() as pool, ExitStack() as running:
        for server in made:
            running.callback(server.stop)
        list(pool.map(Server.start, made))
        yield made[0], made[1]


@pytest.fixture
def at_console(browser: Browser) -> Iterator[Callable[[Server], Operator]]:
    """Seats an operator, logged in, at the console of a server."""
    with ExitStack() as contexts:

        def seat(server: Server) -> Operator:
            # The certificate is of an authority that the browser does not know.
            context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
            contexts.callback(context.close)
            operator = Operator(context.new_page(), server.base_url, pictures=pictures_folder())
            operator.log_in(password_of(server))
            return operator

        yield seat


def password_of(server: Server) -> str:
    """What `make run` prints on the first start."""
    file: Path = server.folder / "admin-password"
    if not file.exists():
        admin_login(server)
    return file.read_text().strip()
