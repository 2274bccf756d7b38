"""The setting of the limits: what it may say, and what is said of what it may not."""

import subprocess
import sys
from pathlib import Path

import pytest

from linmatrix.limits import AT_MOST, DEFAULTS, InvalidLimit, Limits, parse_limits

PROJECT = Path(__file__).resolve().parents[2]
NAMES = [name for name, _, _ in DEFAULTS]


@pytest.mark.parametrize("text", ["", "  ", ",", " , "])
def test_nothing_changes_nothing(text: str) -> None:
    assert parse_limits(text) == DEFAULTS == Limits()


def test_limits_are_changed_by_name() -> None:
    assert parse_limits("gap_pages=50, join_seconds = 70.5 ,") == Limits(gap_pages=50, join_seconds=70.5)


@pytest.mark.parametrize(("name", "value", "bound"), list(DEFAULTS), ids=NAMES)
def test_a_limit_says_what_it_is_and_takes_what_makes_sense_and_no_more(name, value, bound) -> None:
    assert bound.lowest <= value <= bound.highest
    assert len(bound.reason) > 20
    paired = [name in pair for pair in AT_MOST]
    for end in (bound.lowest, bound.highest):
        if not any(paired):
            assert getattr(parse_limits(f"{name}={end!r}"), name) == end
    step = 1 if isinstance(value, int) else 0.001
    for beyond in (bound.lowest - step, bound.highest + step):
        with pytest.raises(InvalidLimit, match=f"LINMATRIX_LIMITS: {name}=.* is out of range; give a .* from"):
            parse_limits(f"{name}={beyond!r}")


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "gap_page=5": "LINMATRIX_LIMITS: there is no limit 'gap_page'; did you mean gap_pages?",
        "qqq=5": "LINMATRIX_LIMITS: there is no limit 'qqq'; docs/limits.md lists them all",
        "gap_pages": "LINMATRIX_LIMITS: 'gap_pages' should be a name, '=' and a number",
        "gap_pages=5,gap_pages=6": "LINMATRIX_LIMITS: gap_pages is set twice; remove one of them",
        "gap_pages=many": "LINMATRIX_LIMITS: gap_pages=many is no whole number; give a whole number of pages from 1 to",
        "gap_pages=1.5": "LINMATRIX_LIMITS: gap_pages=1.5 is no whole number",
        "gap_seconds=nan": "LINMATRIX_LIMITS: gap_seconds=nan is out of range; give a number of seconds from 1 to 80",
        "gap_seconds=inf": "LINMATRIX_LIMITS: gap_seconds=inf is out of range",
        "buffered_bytes=16777216,send_body_bytes=20000000": (
            "send_body_bytes=20000000 is above buffered_bytes=16777216; raise buffered_bytes or lower send_body_bytes"
        ),
    }.items(),
)
def test_what_cannot_be_is_refused_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(InvalidLimit) as refused:
        parse_limits(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(("text", "said"), [("gap_pages=0", "gap_pages=0 is out of range"), ("gap_pages=7", "7 pages")])
def test_a_process_starts_only_with_limits_that_can_be(tmp_path: Path, text: str, said: str) -> None:
    code = "from django.conf import settings; print(settings.LIMITS.gap_pages, 'pages')"
    environment = {
        "DJANGO_SETTINGS_MODULE": "linmatrix.settings",
        "LINMATRIX_LIMITS": text,
        "LINMATRIX_RATE_LIMITS": "",
        "LINMATRIX_DATA_DIR": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said in run.stdout + run.stderr
    assert (run.returncode == 0) == (text == "gap_pages=7")


def test_limits_are_not_changed_by_accident() -> None:
    with pytest.raises(AttributeError):
        DEFAULTS.gap_pages = 1  # type: ignore[misc]
