"""docs/protocol-coverage.md says what is true: every route, decision and row is in it, and what it names exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from linmatrix.stack.server import PROJECT

PAGE = PROJECT / "docs" / "protocol-coverage.md"
DECISIONS = [*range(1, 116), 117, 118, 119, 120]
"""All but the one about what is left to others: cross-signing, media, third-party ids, spaces."""

APPLICABLE_ROWS = [
    *range(1, 8), *range(10, 30), 31, 32, *range(34, 56), *range(57, 60), *range(62, 66), 71, 72, 75, 77, 78,
    *range(80, 92), 93, 94, 96, 99, 105, 106,
]  # fmt: skip
"""Rows of the conformance checklist that apply to a Linearized Matrix server, without devices and EDUs."""

CITATION = re.compile(r"[Dd]ecisions?\s+((?:\d+(?:\s+to\s+\d+)?(?:,\s+and\s+|,\s+|\s+and\s+)?)+)")
RANGE = re.compile(r"(\d+)(?:\s+to\s+(\d+))?")
CODE = re.compile(r"`([^`]+)`")


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by their first cell."""
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in section.splitlines() if "|" in line
    ]
    assert len(rows) > 2, f"there is no table below {heading}"
    return {row[0]: row for row in rows[2:]}


def named(cell: str) -> list[str]:
    """What a cell names as code."""
    return CODE.findall(cell)


def cited(file: Path) -> set[int]:
    """The numbers of the decisions that a file says it follows."""
    text = re.sub(r"\n\s*#?\s*", " ", file.read_text())
    ranges = [RANGE.findall(match.group(1)) for match in CITATION.finditer(text)]
    return {number for found in ranges for first, last in found for number in range(int(first), int(last or first) + 1)}


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """The paths that we serve to other servers, with parameters as `{name}`."""
    for pattern in patterns:
        path = prefix + re.sub(r"\(\?P<(\w+)>\[\^/\]\+\)", r"{\1}", str(pattern.pattern))
        path = path.replace("^", "").replace(r"\Z", "").replace("\\", "")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, path)
        elif path.startswith(("_matrix/", ".well-known/")):
            yield f"/{path}"


def all_tests() -> set[str]:
    """The names of all tests, as `file.py::test_name`."""
    return {
        f"{file.relative_to(PROJECT)}::{name}"
        for file in (PROJECT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_every_route_has_its_row() -> None:
    listed = {path for row in table("Endpoints").values() for path in named(row[0])}
    assert set(routes(get_resolver().url_patterns)) == listed


@pytest.mark.parametrize("heading", ["Endpoints", "Sections", "Decisions"])
def test_what_is_named_exists(heading: str) -> None:
    missing = [
        path
        for row in table(heading).values()
        for cell in row[1:]
        for path in named(cell)
        if "/" in path
        and path.partition("/")[0] in ("linmatrix", "rooms", "federation", "keys", "tests", "docs")
        and not (PROJECT / path).exists()
    ]
    assert missing == []


def test_every_decision_has_its_row() -> None:
    assert list(table("Decisions")) == [str(number) for number in DECISIONS]


def test_the_modules_of_a_decision_cite_it() -> None:
    wrong = [
        (number, path)
        for number, row in table("Decisions").items()
        for path in named(row[2])
        if int(number) not in cited(PROJECT / path)
    ]
    assert wrong == []


def test_a_decision_without_a_module_says_why() -> None:
    silent = [number for number, row in table("Decisions").items() if not named(row[2]) and len(row[2]) < 20]
    assert silent == []


def test_every_row_of_the_checklist_has_a_test_that_carries_its_number() -> None:
    rows = table("Conformance checklist")
    assert list(rows) == [str(number) for number in APPLICABLE_ROWS]
    known = all_tests()
    wrong = [
        (number, name)
        for number, row in rows.items()
        for name in named(row[2]) or [""]
        if name not in known or not re.search(rf"_row{number}_", name)
    ]
    assert wrong == []
