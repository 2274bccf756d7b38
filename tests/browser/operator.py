"""What a person does at the console in a browser: reads, presses, fills in, confirms. And pictures of the pages.

By the words on the page alone, as a person would: a link that is named otherwise is a link that is not found.
"""

import os
import re
from pathlib import Path
from typing import Literal

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from linmatrix.stack.server import PROJECT

SECONDS = 1000.0
PATIENCE = 30 * SECONDS
"""How long is waited for what a page shows at once, on a machine that does other things besides."""

SIZES = ((1280, 800), (390, 844))
"""A desk and a telephone, in CSS pixels."""

SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


class Operator:
    """One person at the console of one server."""

    def __init__(self, page: Page, base_url: str, *, pictures: Path) -> None:
        self.page = page
        self.complaints: list[str] = []
        """What the browser found wrong with our pages: scripts that failed, files that are not there."""
        self._base_url = base_url
        self._pictures = pictures
        page.set_default_timeout(PATIENCE)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def visit(self, path: str = "") -> None:
        """Open a page of the console by its address."""
        self.page.goto(f"{self._base_url}/admin/{path}")

    def log_in(self, password: str, name: str = "admin") -> None:
        self.visit()
        self.page.fill("input[name=username]", name)
        self.page.fill("input[name=password]", password)
        self.page.click("[type=submit]")
        self.page.wait_for_selector("nav, #nav-sidebar, [role=navigation]")

    def choose(self, text: str) -> None:
        """Follow an entry of the menu."""
        self.page.locator("#nav-sidebar").get_by_role("link", name=_named(text)).first.click()

    def press(self, text: str, *, within: str = "main, #content, #main, body") -> None:
        """Press a button or follow a link outside of the menu."""
        named = _named(text)
        area = self.page.locator(within).first
        area.get_by_role("button", name=named).or_(area.get_by_role("link", name=named)).first.click()

    def submit(self, text: str) -> None:
        """Send the form with the button of this name."""
        self.page.locator("form").get_by_role("button", name=re.compile(rf"^\W*{re.escape(text)}", re.I)).last.click()
        self.page.wait_for_load_state()

    def fill(self, label: str, value: str) -> None:
        """Fill in a field of a form, or choose among what it offers."""
        field = self.page.get_by_label(label, exact=False).first
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)

    def sees(self, text: str, *, seconds: float = PATIENCE / SECONDS) -> Locator:
        """Wait until the page shows a text."""
        shown = self.page.get_by_text(text).filter(visible=True).first
        expect(shown).to_be_visible(timeout=seconds * SECONDS)
        return shown

    def sees_after_reloading(self, text: str, *, seconds: float = 60.0) -> None:
        """Reload the page until it shows a text: for pages that do not refresh themselves."""
        for _ in range(int(seconds)):
            if self.page.get_by_text(text).filter(visible=True).count():
                return
            self.page.wait_for_timeout(SECONDS)
            self.page.reload()
        self.sees(text, seconds=1)

    def picture(self, name: str) -> None:
        """Take pictures of the page at a desk and on a telephone, light and dark, and see that nothing sticks out."""
        for width, height in SIZES:
            self.page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                self._dress(scheme)
                self.page.screenshot(path=self._pictures / f"{name}-{width}-{scheme}.png")
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{self.page.url} is {wide} pixels wide on a screen of {width}"
        self.page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})
        self._dress("light")

    def _dress(self, scheme: Literal["light", "dark"]) -> None:
        """Light or dark, as the page would be if it were loaded so: loading it again could send its form again."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", scheme == "dark")


def _named(text: str) -> re.Pattern[str]:
    """What a thing of this name is called, with the name of its symbol before it."""
    return re.compile(rf"^\s*(?:[a-z0-9_]+\s+)?{re.escape(text)}\s*$")


def pictures_folder() -> Path:
    """Where pictures are kept: they outlast the tests, to be looked at."""
    folder = Path(os.environ.get("LINMATRIX_PICTURES") or PROJECT / "build" / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
