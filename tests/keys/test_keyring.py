"""Which keys are had for events and for requests, and how seldom servers are asked for them."""

from typing import Any

import pytest
from django.conf import settings

from keys.keyring import CACHE_SECONDS, Keyring
from keys.local import signing_key
from keys.models import KeyFetch
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.signing import SigningKey
from tests.support.keys import DAY, HOUR, MINUTE, NOW, PEER, SECOND, Clock, Network, answer, key

pytestmark = pytest.mark.django_db

ONE, TWO = key(1, "one"), key(2, "two")
OWN = settings.SERVER_NAME


def has(keyring: Keyring, item: SigningKey, ts: int) -> bool:
    """Whether an event of PEER with this `origin_server_ts` may be signed by the key."""
    keys = keyring.event_keys([(PEER, item.key_id, ts)]).get((PEER, item.key_id), [])
    return any(bytes(known.key) == item.public_key and known.valid_at(ts) for known in keys)


def accepts(keyring: Keyring, item: SigningKey, now_ms: int) -> bool:
    """Whether a request of PEER may be signed by the key."""
    return [bytes(known.key) for known in keyring.request_keys(PEER, item.key_id, now_ms)] == [item.public_key]


# Events (decision 27).


@pytest.mark.parametrize(
    ("published", "ts", "valid"),
    [
        pytest.param({}, NOW, True, id="now"),
        pytest.param({}, 0, True, id="long ago"),
        pytest.param({}, NOW + 12 * HOUR, True, id="at the end of validity"),
        pytest.param({}, NOW + 12 * HOUR + 1, False, id="after the end of validity"),
        pytest.param({"valid_until_ts": NOW + 99 * DAY}, NOW + 7 * DAY, True, id="a week ahead"),
        pytest.param({"valid_until_ts": NOW + 99 * DAY}, NOW + 7 * DAY + 1, False, id="over a week ahead"),
    ],
)
def test_a_current_key_is_for_events(
    keyring: Keyring, network: Network, published: dict[str, Any], ts: int, valid: bool
) -> None:
    network.answers[PEER] = answer(ONE, **published)
    assert has(keyring, ONE, ts) is valid


@pytest.mark.parametrize(("ts", "valid"), [(NOW - DAY - 1, True), (NOW - DAY, True), (NOW - DAY + 1, False)])
def test_an_old_key_is_for_events_until_it_expired(keyring: Keyring, network: Network, ts: int, valid: bool) -> None:
    network.answers[PEER] = answer(ONE, old={TWO: NOW - DAY})
    assert has(keyring, TWO, ts) is valid


def test_a_key_that_is_listed_no_more_is_for_events_of_its_time(
    keyring: Keyring, network: Network, clock: Clock
) -> None:
    network.answers[PEER] = answer(ONE)
    assert has(keyring, ONE, NOW)
    clock.now += DAY
    network.answers[PEER] = answer(TWO, valid_until_ts=clock.now + HOUR)
    assert has(keyring, TWO, clock.now)
    assert has(keyring, ONE, NOW + 12 * HOUR)
    assert not has(keyring, ONE, clock.now)


def test_a_key_past_its_validity_is_asked_for_again(keyring: Keyring, network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    assert has(keyring, ONE, NOW)
    clock.now += DAY
    network.answers[PEER] = answer(ONE, valid_until_ts=clock.now + HOUR)
    assert has(keyring, ONE, clock.now)
    assert network.asked == [PEER, PEER]


def test_an_event_from_the_far_future_makes_nobody_ask(keyring: Keyring, network: Network) -> None:
    network.answers[PEER] = answer(ONE)
    assert not has(keyring, ONE, NOW + 7 * DAY + 1)
    assert network.asked == []


def test_many_events_of_many_servers_cost_one_request_each(keyring: Keyring, network: Network) -> None:
    servers = [f"s{number}.example.org" for number in range(3 * DEFAULTS.keys_asked_at_once)]
    network.answers = {server: answer(ONE, server=server) for server in servers[1:]}
    wanted = [(server, f"ed25519:{version}", NOW + n) for server in servers for version in ("one", "x") for n in (0, 1)]
    found = keyring.event_keys(wanted)
    assert set(found) == {(server, ONE.key_id) for server in servers[1:]}
    assert sorted(network.asked) == sorted(servers)


def test_our_own_events_need_no_request(keyring: Keyring, network: Network) -> None:
    found = keyring.event_keys([(OWN, signing_key().key_id, NOW), (OWN, "ed25519:other", NOW)])
    assert [bytes(item.key) for item in found[OWN, signing_key().key_id]] == [signing_key().public_key]
    assert set(found) == {(OWN, signing_key().key_id)}
    assert network.asked == []


# Requests (decision 68).


def test_a_current_key_is_for_requests_until_it_is_no_longer_valid(
    keyring: Keyring, network: Network, clock: Clock
) -> None:
    network.answers[PEER] = answer(ONE, valid_until_ts=NOW + HOUR)
    assert accepts(keyring, ONE, NOW)
    assert accepts(keyring, ONE, NOW + HOUR - 1)
    network.answers.clear()
    clock.now += HOUR
    assert not accepts(keyring, ONE, NOW + HOUR)
    assert has(keyring, ONE, NOW + HOUR)


def test_an_old_key_is_never_for_requests(keyring: Keyring, network: Network) -> None:
    network.answers[PEER] = answer(ONE, old={TWO: NOW + HOUR})
    assert has(keyring, TWO, NOW)
    assert not accepts(keyring, TWO, NOW)


def test_a_key_that_is_listed_no_more_is_never_for_requests(keyring: Keyring, network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    assert accepts(keyring, ONE, NOW)
    network.answers[PEER] = answer(TWO)
    clock.now += 10 * SECOND
    assert accepts(keyring, TWO, clock.now)
    assert not accepts(keyring, ONE, clock.now)
    assert has(keyring, ONE, NOW)


def test_new_material_under_a_known_id_is_what_requests_are_signed_with(
    keyring: Keyring, network: Network, clock: Clock
) -> None:
    confused = SigningKey(ONE.key_id, TWO.key)
    network.answers[PEER] = answer(ONE)
    assert accepts(keyring, ONE, NOW)
    network.answers[PEER] = answer(confused, valid_until_ts=NOW + DAY)
    clock.now += 12 * HOUR
    assert accepts(keyring, confused, clock.now)
    assert not accepts(keyring, ONE, clock.now)
    assert has(keyring, ONE, NOW)
    assert has(keyring, confused, clock.now)


def test_our_own_name_makes_nobody_ask(keyring: Keyring, network: Network) -> None:
    assert len(keyring.request_keys(OWN, signing_key().key_id, NOW)) == 1
    assert keyring.request_keys(OWN, "ed25519:other", NOW) == []
    assert network.asked == []


# Asking seldom (threat T26).


def test_a_server_that_is_down_is_asked_again_after_growing_pauses(
    keyring: Keyring, network: Network, clock: Clock
) -> None:
    asked_at = []
    while clock.now < NOW + 100 * SECOND:
        count = len(network.asked)
        assert not has(keyring, ONE, NOW)
        if len(network.asked) > count:
            asked_at.append(clock.now - NOW)
        clock.now += SECOND
    assert asked_at == [0, 5 * SECOND, 15 * SECOND, 35 * SECOND, 75 * SECOND]
    assert KeyFetch.objects.get().last_error == f"{PEER} is down"


def test_a_server_that_was_down_for_long_is_recognised_within_a_minute_of_its_request(
    keyring: Keyring, network: Network, clock: Clock
) -> None:
    assert not accepts(keyring, ONE, NOW)
    KeyFetch.objects.update(failures=20)
    network.answers[PEER] = answer(ONE)
    clock.now += MINUTE - 1
    assert not accepts(keyring, ONE, clock.now)
    clock.now += 1
    assert not has(keyring, ONE, clock.now)
    assert accepts(keyring, ONE, clock.now)


def test_unknown_key_ids_do_not_make_us_flood_a_server(keyring: Keyring, network: Network) -> None:
    network.answers[PEER] = answer(ONE)
    for number in range(50):
        assert keyring.request_keys(PEER, f"ed25519:made_up_{number}", NOW) == []
        assert keyring.event_keys([(PEER, f"ed25519:made_up_{number}", NOW)]) == {}
    assert network.asked == [PEER]


def test_a_known_key_costs_no_query(keyring: Keyring, network: Network, django_assert_num_queries: Any) -> None:
    network.answers[PEER] = answer(ONE)
    assert accepts(keyring, ONE, NOW)
    with django_assert_num_queries(0):
        assert accepts(keyring, ONE, NOW)
        assert has(keyring, ONE, NOW)


def test_what_another_process_stored_is_found_without_asking(network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    one, other = Keyring(fetch=network, clock=clock), Keyring(fetch=network, clock=clock)
    assert accepts(one, ONE, NOW)
    network.answers[PEER] = answer(TWO)
    clock.now += 10 * SECOND
    assert accepts(other, TWO, clock.now)
    clock.now += 15 * SECOND
    assert accepts(one, TWO, clock.now)
    assert network.asked == [PEER, PEER]


def test_what_another_process_learnt_of_a_withdrawn_key_counts_here_soon(network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    one, other = Keyring(fetch=network, clock=clock), Keyring(fetch=network, clock=clock)
    assert accepts(one, ONE, NOW)
    network.answers[PEER] = answer(TWO)
    clock.now += 10 * SECOND
    assert accepts(other, TWO, clock.now)
    clock.now = NOW + int(CACHE_SECONDS * SECOND)
    assert not accepts(one, ONE, clock.now)
