"""docs/threat-model.md says what is true: every threat is in it, and what it names exists."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache

import pytest

from linmatrix.stack.server import PROJECT
from tests.docs.test_protocol_coverage import all_tests, named

PAGE = PROJECT / "docs" / "threat-model.md"
THREATS = range(1, 81)
"""All of the list."""

PACKAGES = ("linmatrix", "keys", "rooms", "federation")


known_tests = cache(all_tests)


def rows() -> dict[int, list[str]]:
    """The cells of each threat's row, by its number."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells[0].isdigit():
            assert int(cells[0]) not in found, f"threat {cells[0]} is there twice"
            found[int(cells[0])] = cells
    return found


def exists(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_every_threat_has_its_row_in_order() -> None:
    assert list(rows()) == list(THREATS)


def test_a_row_says_what_the_threat_and_the_defence_are() -> None:
    assert [number for number, cells in rows().items() if len(cells) != 5 or not all(map(len, cells))] == []


@pytest.mark.parametrize("number", THREATS)
def test_what_a_row_names_exists(number: int) -> None:
    where, tests = rows()[number][3:]
    assert [name for name in named(where) if not (name.startswith(PACKAGES) and exists(name))] == []
    assert named(where)
    assert [name for name in named(tests) if name not in known_tests()] == []


def test_every_row_has_a_test() -> None:
    assert [number for number, cells in rows().items() if not named(cells[4])] == []


def test_what_the_text_names_exists() -> None:
    """Files and dotted names outside of the tables of threats."""
    text = "\n".join(line for line in PAGE.read_text().splitlines() if not re.match(r"\| \d+ \|", line))
    missing = [name for name in named(text) if "/" in name and name[0] != "/" and not (PROJECT / name).exists()]
    missing += [
        name for name in named(text) if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", name) and not exists(name)
    ]
    assert missing == []


def uses_of_random() -> Iterator[tuple[str, str]]:
    """What our code takes from Python's `random`, whose numbers can be guessed; by module."""
    for package in PACKAGES:
        for file in (PROJECT / package).rglob("*.py"):
            tree = ast.parse(file.read_text())
            path = str(file.relative_to(PROJECT))
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module == "random":
                    yield path, "import from"
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
                    yield path, node.attr


def test_chance_that_can_be_guessed_decides_about_waits_only() -> None:
    """And, in the tools that run a server on one's own machine, about ports."""
    elsewhere = {(path, name) for path, name in uses_of_random() if not path.startswith("linmatrix/stack/")}
    waits = {"federation/delivery.py", "federation/devices.py", "federation/withdrawals.py"}
    assert elsewhere == {(path, "random") for path in waits}
