"""A name that changes hands is told to the operator (threat 7)."""

import logging

import pytest

from keys.fetchers import parse_server_keys
from keys.history import store
from tests.support.keys import DAY, NOW, PEER, answer, key

pytestmark = pytest.mark.django_db

FIRST, SECOND = key(1), key(2, "2")


def told(caplog, body):
    """Whether the operator is warned when a server that had the first key answers like this a day later."""
    store(parse_server_keys(answer(FIRST), server=PEER, now_ms=NOW), now_ms=NOW)
    later = NOW + DAY
    with caplog.at_level(logging.WARNING):
        store(parse_server_keys(body, server=PEER, now_ms=later), now_ms=later)
    return "another owner" in caplog.text


def test_a_server_that_lists_none_of_its_former_keys_is_told(caplog):
    assert told(caplog, answer(SECOND, valid_until_ts=NOW + 2 * DAY))


def test_an_ordinary_rotation_is_not(caplog):
    assert not told(caplog, answer(SECOND, valid_until_ts=NOW + 2 * DAY, old={FIRST: NOW}))


def test_the_same_key_again_is_not(caplog):
    assert not told(caplog, answer(FIRST, valid_until_ts=NOW + 2 * DAY))
