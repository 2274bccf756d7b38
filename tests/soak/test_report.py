"""A soak that found something says so, keeps its data and tells how to have the same plan again."""

import io

import pytest
from rich.console import Console

from soak.reckoning import Reckoning
from soak.report import Plan, Report, conclude


@pytest.fixture
def console():
    """Where it is told."""
    return Console(file=io.StringIO(), width=200)


def report(**found):
    """The report of a soak, with nothing wrong but for what is given."""
    return Report(survived=3, drained=1.0, last="", entries=[], reckoning=Reckoning(sent=12), **found)


def test_nothing_wrong_is_told_in_a_closing_line(console):
    told = report()
    told.tell(console)
    assert told.wrong == []
    assert console.file.getvalue().splitlines()[-1] == "3 faults survived, 12 events sent, 0 lost, 0 duplicated."


@pytest.mark.parametrize("kind", ["lost", "duplicated", "wrong"])
def test_a_broken_promise_is_wrong_and_told(console, kind):
    told = report()
    getattr(told.reckoning, kind).append("message 7 [of bob]")
    told.tell(console)
    assert told.wrong == ["message 7 [of bob]"]
    assert "message 7 [of bob]" in console.file.getvalue()


@pytest.mark.parametrize("kind", ["problems", "differences"])
def test_so_is_what_the_servers_have(kind):
    assert report(**{kind: ["beat ended with signal 9"]}).wrong == ["beat ended with signal 9"]


def test_a_soak_that_failed_keeps_its_data_and_tells_the_command(console, tmp_path):
    conclude(console, Plan(0.5, 42, 3), tmp_path, failed=True)
    assert tmp_path.exists()
    assert "make soak MINUTES=0.5 SEED=42\n" in console.file.getvalue()
    assert tmp_path.name in console.file.getvalue()


def test_one_that_did_not_leaves_nothing(console, tmp_path):
    """The twin of the test above."""
    conclude(console, Plan(0.5, 42, 3), tmp_path, failed=False)
    assert not tmp_path.exists()
    assert console.file.getvalue() == ""


def test_other_servers_than_by_default_belong_to_the_command():
    assert Plan(10, 42, 2).command == "make soak MINUTES=10 SEED=42 ARGS='--servers 2'"
