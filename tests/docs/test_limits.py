"""docs/limits.md says what is true: every limit with its default, unit, range and reason, and what it names exists."""

import re
from pathlib import Path

import pytest

from linmatrix.limits import DEFAULTS, SETTING, parse_limits
from linmatrix.stack.server import PROJECT

PAGE = PROJECT / "docs" / "limits.md"
SETTABLE = "What an operator can set"
FIXED = "What the draft or a decision fixes"
DERIVED = "What follows from something else"
CODE = re.compile(r"`([^`]+)`")


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(rows) > 2, f"there is no table below {heading}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def spelled(value: float) -> str:
    return repr(value) if isinstance(value, int) else f"{value:g}"


def test_every_limit_has_its_row_with_what_the_code_says() -> None:
    stated = [row[:5] for row in table(SETTABLE)]
    assert stated == [
        [f"`{name}`", spelled(value), bound.unit, f"{bound.lowest:.12g} to {bound.highest:.12g}", bound.reason]
        for name, value, bound in DEFAULTS
    ]


def test_every_limit_is_read_where_its_row_says() -> None:
    wrong = [
        name
        for name, where in ((CODE.findall(row[0])[0], CODE.findall(row[5])[0]) for row in table(SETTABLE))
        if f".{name}" not in (PROJECT / where).read_text()
    ]
    assert wrong == []


@pytest.mark.parametrize(("heading", "column"), [(SETTABLE, 6), (FIXED, 4)])
def test_every_row_names_a_test_that_there_is(heading: str, column: int) -> None:
    wrong = []
    for row in table(heading):
        file, _, name = CODE.findall(row[column])[0].partition("::")
        path = PROJECT / file
        if not path.exists() or not re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE):
            wrong.append((row[0], row[column]))
    assert wrong == []


@pytest.mark.parametrize(("heading", "column"), [(SETTABLE, 5), (FIXED, 3), (DERIVED, 2)])
def test_every_row_names_a_module_that_there_is(heading: str, column: int) -> None:
    assert [row[0] for row in table(heading) if not (PROJECT / CODE.findall(row[column])[0]).exists()] == []


@pytest.mark.parametrize("file", [PAGE, PROJECT / ".env.example"], ids=lambda file: Path(file).name)
def test_the_examples_of_the_setting_are_taken(file: Path) -> None:
    examples = re.findall(rf"{SETTING}=(\w+=[\w.,=]+)", file.read_text())
    assert examples
    assert all(parse_limits(text) != DEFAULTS for text in examples)
