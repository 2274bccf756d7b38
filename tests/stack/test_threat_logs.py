"""What peers send cannot stretch, forge or flood our log (threat 67)."""

import io
import logging
import logging.config
from collections.abc import Callable
from copy import deepcopy

import pytest
from django.conf import settings

from linmatrix.logs import MAX_MESSAGE, MAX_RECORDS, MAX_TRACEBACK, WINDOW_SECONDS, Sampling


@pytest.fixture
def lines() -> Callable[[Callable[[logging.Logger], None]], list[str]]:
    """What the console of the settings shows of what is logged."""

    def shown(log: Callable[[logging.Logger], None]) -> list[str]:
        configurator = logging.config.DictConfigurator(deepcopy(settings.LOGGING))
        formatter = configurator.configure_formatter(configurator.config["formatters"]["line"])
        written = io.StringIO()
        handler = logging.StreamHandler(written)
        handler.setFormatter(formatter)
        for name in configurator.config["handlers"]["console"]["filters"]:
            handler.addFilter(configurator.configure_filter(configurator.config["filters"][name]))
        logger = logging.Logger("peer")
        logger.addHandler(handler)
        log(logger)
        return written.getvalue().splitlines()

    return shown


def test_a_long_message_is_cut(lines):
    (line,) = lines(lambda logger: logger.info("refused: %s", "x" * 1_000_000))
    assert MAX_MESSAGE < len(line) < MAX_MESSAGE + 200
    assert line.endswith("more characters]")


@pytest.mark.parametrize("character", ["\n", "\r\n", "\v", "\x1b[2J", "\x85", "\u2028", "\0", "\u202e"])
def test_a_message_cannot_forge_another_line_nor_steer_a_terminal(character, lines):
    (line,) = lines(lambda logger: logger.warning("refused: %s", f"a{character}2026-01-01 INFO peer: all is well"))
    assert character not in line
    assert "refused: a" in line


def test_a_traceback_is_kept_with_its_end(lines):
    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError("x" * 1_000_000 + "the end")
        except ValueError:
            logger.exception("a fault of ours")

    shown = lines(fail)
    assert "a fault of ours" in shown[0]
    assert shown[-1].endswith("the end")
    assert sum(map(len, shown)) < MAX_TRACEBACK + 500


def test_a_flood_from_one_place_is_cut_off_and_others_are_heard(lines):
    def log(logger: logging.Logger) -> None:
        for number in range(MAX_RECORDS * 5):
            logger.warning("refused %s", number)
        logger.error("something else")

    shown = lines(log)
    assert len(shown) == MAX_RECORDS + 1
    assert shown[-1].endswith("something else")


def test_what_was_kept_back_is_told_in_the_next_minute():
    now = [0.0]
    sampling = Sampling(clock=lambda: now[0])

    def passed() -> str | None:
        record = logging.LogRecord("peer", logging.WARNING, "place.py", 1, "refused %s", ("it",), None)
        return record.getMessage() if sampling.filter(record) else None

    assert [passed() for _ in range(MAX_RECORDS + 7)].count("refused it") == MAX_RECORDS
    now[0] = WINDOW_SECONDS
    assert passed() == "[7 lines like this one were kept back] refused it"
    assert passed() == "refused it"
