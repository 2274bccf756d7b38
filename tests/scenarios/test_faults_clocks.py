"""Clocks that jump: by a day ahead and back again, by an hour back, in the middle of a delivery.

The clock is an argument of a delivery's step. Where two steps have clocks that differ, the first may be a worker whose
machine had the time wrong, and who has died since.
"""

from datetime import datetime, timedelta

import pytest

from federation import backoff
from federation.client import Answer
from federation.delivery import LEASE, Outcome, step
from federation.models import Destination
from federation.sweeping import due_destinations
from keys.keyring import Keyring
from rooms.models import RoomServer
from tests.support.keys import HOUR, NOW, Clock, Network, answer, key
from tests.support.keys import PEER as KEY_PEER
from tests.support.lines import append, make_room
from tests.support.remote import Remote

PEER = "peer.example.org"
NOON = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
DAY, AN_HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
OUT_OF_ORDER = Answer(503, None)

pytestmark = pytest.mark.django_db(transaction=True)


class Dies(BaseException):
    """The worker's process ends while its peer answers."""


@pytest.fixture
def room():
    """A room that the peer is in, with something to send."""
    room = make_room("a", PEER)
    append(room, "one")
    return room


def step_at(remote, now, *, holder="worker"):
    return step(PEER, holder=holder, send=remote, clock=lambda: now, chance=lambda: 0.0)


def due(now):
    return due_destinations(now=now) == [PEER]


@pytest.mark.parametrize("jump", [DAY, -AN_HOUR], ids=["a day ahead", "an hour back"])
def test_a_clock_that_jumps_while_a_peer_answers_acknowledges_all_the_same(room, jump):
    times = iter([NOON, NOON + jump])
    remote = Remote()
    assert step(PEER, holder="worker", send=remote, clock=lambda: next(times)) is Outcome.DELIVERED
    assert RoomServer.objects.get(server=PEER).sent_position == 1
    append(room, "two")
    assert step_at(remote, NOON + jump) is Outcome.DELIVERED
    assert remote.bodies() == ["one", "two"]


@pytest.mark.parametrize(
    ("wrong", "until_due"),
    [
        pytest.param(timedelta(0), SECOND, id="the right time"),
        pytest.param(DAY, timedelta(0), id="a day ahead"),
        pytest.param(AN_HOUR, AN_HOUR + SECOND, id="an hour ahead"),
        pytest.param(-AN_HOUR, timedelta(0), id="an hour back"),
    ],
)
def test_an_attempt_put_off_by_a_wrong_clock_is_due_within_the_longest_pause(room, wrong, until_due):
    remote = Remote.answering(OUT_OF_ORDER)
    assert step_at(remote, NOON + wrong) is Outcome.FAILED
    assert until_due <= backoff.longest()
    if until_due:
        assert not due(NOON + until_due - SECOND / 2)
        assert step_at(remote, NOON + until_due - SECOND / 2) is Outcome.NOT_OURS
    assert due(NOON + until_due)
    assert step_at(remote, NOON + until_due) is Outcome.DELIVERED
    assert remote.received[0] == remote.received[1]
    assert remote.bodies() == ["one"]


@pytest.mark.parametrize(
    ("wrong", "until_free"),
    [
        pytest.param(timedelta(0), LEASE, id="the right time"),
        pytest.param(DAY, timedelta(0), id="a day ahead"),
        pytest.param(-AN_HOUR, timedelta(0), id="an hour back"),
    ],
)
def test_the_lease_of_a_dead_worker_with_a_wrong_clock_ends_no_later_than_any_other(room, wrong, until_free):
    remote = Remote.answering(Dies())
    with pytest.raises(Dies):
        step_at(remote, NOON + wrong, holder="dead")
    if until_free:
        assert not due(NOON + until_free - SECOND)
        assert step_at(remote, NOON + until_free - SECOND) is Outcome.NOT_OURS
    assert due(NOON + until_free)
    assert step_at(remote, NOON + until_free) is Outcome.DELIVERED
    assert remote.received[0] == remote.received[1]
    assert Destination.objects.get(server=PEER).failures == 0


def test_a_peers_key_that_was_good_is_good_again_after_the_clock_was_a_day_ahead():
    clock, network = Clock(), Network()
    keyring = Keyring(fetch=network, clock=clock)
    ours = key(1, "one")

    def accepts(now_ms):
        clock.now = now_ms
        return [bytes(known.key) for known in keyring.request_keys(KEY_PEER, ours.key_id, now_ms)] == [ours.public_key]

    for now_ms in (NOW, NOW + 24 * HOUR, NOW, NOW - HOUR, NOW + HOUR):
        network.answers[KEY_PEER] = answer(ours, valid_until_ts=now_ms + 12 * HOUR)
        assert accepts(now_ms), now_ms - NOW
