"""What is remembered of servers' keys: nothing is overwritten but validity, and nothing by a bad answer."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from django.db import IntegrityError

from keys import history
from keys.clock import at
from keys.fetchers import check_server_keys, parse_server_keys
from keys.keyring import Keyring
from keys.models import KeyFetch, KeyResponse, ServerKey
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.signing import SigningKey
from tests.keys.test_fetchers import INVALID
from tests.support.keys import DAY, HOUR, NOW, PEER, Clock, Network, answer, key

pytestmark = pytest.mark.django_db

ONE, TWO, THREE = key(1, "one"), key(2, "two"), key(3, "three")


def store(*current: SigningKey, now_ms: int = NOW, **more: Any) -> None:
    body = answer(*current, **{"valid_until_ts": now_ms + HOUR, **more})
    history.store(parse_server_keys(body, server=PEER, now_ms=now_ms), now_ms=now_ms)


def rows() -> dict[tuple[str, bytes], tuple[int, int | None, bool]]:
    """Validity, expiry and whether it is current, by key id and public key."""
    return {
        (row.key_id, bytes(row.public_key)): (row.valid_until_ts, row.expired_ts, row.current)
        for row in ServerKey.objects.all()
    }


def row(item: SigningKey) -> tuple[int, int | None, bool]:
    return rows()[item.key_id, item.public_key]


def test_an_answer_is_kept_as_it_came() -> None:
    store(ONE, old={TWO: NOW - DAY})
    assert row(ONE) == (NOW + HOUR, None, True)
    assert row(TWO) == (NOW + HOUR, NOW - DAY, False)
    response = KeyResponse.objects.get()
    assert response.fetched_at == at(NOW)
    assert parse_server_keys(response.json.encode(), server=PEER, now_ms=NOW).response == response.json


def test_asking_again_moves_validity_and_adds_no_rows() -> None:
    store(ONE)
    store(ONE, now_ms=NOW + DAY)
    assert rows() == {(ONE.key_id, ONE.public_key): (NOW + DAY + HOUR, None, True)}
    assert KeyResponse.objects.get().fetched_at == at(NOW + DAY)


def test_a_key_that_is_listed_no_more_stays_with_its_answer() -> None:
    store(ONE)
    store(TWO, now_ms=NOW + DAY)
    assert row(ONE) == (NOW + HOUR, None, False)
    assert row(TWO) == (NOW + DAY + HOUR, None, True)
    of_one = ServerKey.objects.get(key_id=ONE.key_id).response
    assert parse_server_keys(of_one.json.encode(), server=PEER, now_ms=NOW).keys[0].key_id == ONE.key_id
    assert KeyResponse.objects.count() == 2


def test_a_key_that_becomes_old_expires_and_may_come_back() -> None:
    store(ONE, TWO)
    store(ONE, old={TWO: NOW - 5})
    assert row(TWO) == (NOW + HOUR, NOW - 5, False)
    store(ONE, TWO)
    assert row(TWO) == (NOW + HOUR, None, True)


def test_new_material_under_a_known_id_is_a_second_key_and_ends_the_first() -> None:
    confused = SigningKey(ONE.key_id, TWO.key)
    store(ONE)
    store(confused, now_ms=NOW + 60)
    assert row(ONE) == (NOW + 60, None, False)
    assert row(confused) == (NOW + 60 + HOUR, None, True)


def test_new_material_under_a_known_id_does_not_prolong_the_first() -> None:
    store(ONE)
    store(SigningKey(ONE.key_id, TWO.key), now_ms=NOW + DAY)
    assert row(ONE) == (NOW + HOUR, None, False)


def test_keys_of_another_server_stay_as_they_are() -> None:
    store(ONE)
    body = answer(TWO, server="other.example.org")
    history.store(parse_server_keys(body, server="other.example.org", now_ms=NOW), now_ms=NOW)
    assert row(ONE) == (NOW + HOUR, None, True)
    assert set(history.load([PEER])) == {PEER}


@pytest.mark.parametrize("changed", [pytest.param(case.values[0], id=case.id) for case in INVALID])
def test_history_is_untouched_by_an_answer_with(
    keyring: Keyring, network: Network, clock: Clock, changed: Callable[[dict[str, Any]], None]
) -> None:
    network.answers[PEER] = answer(ONE, old={THREE: NOW - DAY})
    assert keyring.event_keys([(PEER, ONE.key_id, NOW)])
    before = rows(), KeyResponse.objects.values().get()
    clock.now += 13 * HOUR

    def change(value: dict[str, Any]) -> None:
        value["valid_until_ts"] = clock.now + HOUR
        changed(value)

    network.answers[PEER] = answer(ONE, change=change)
    keyring.event_keys([(PEER, ONE.key_id, clock.now)])
    assert len(network.asked) == 2
    assert (rows(), KeyResponse.objects.values().get()) == before
    assert KeyFetch.objects.get().failures == 1

    network.answers[PEER] = answer(ONE, valid_until_ts=clock.now + HOUR)
    clock.now += 10_000
    assert keyring.event_keys([(PEER, ONE.key_id, clock.now)])[PEER, ONE.key_id][0].valid_at(clock.now)


def test_a_server_cannot_fill_our_disk_with_keys() -> None:
    numbers = count()

    def many(number: int) -> dict[SigningKey, int]:
        return {key(9, f"old{next(numbers)}"): 0 for _ in range(number)}

    for number in (60, 60, 60, 60, DEFAULTS.keys_per_server - 241):
        store(ONE, old=many(number))
    before = rows()
    assert len(before) == DEFAULTS.keys_per_server
    with pytest.raises(Malformed, match="more than 256 keys"):
        store(ONE, old=many(1), now_ms=NOW + 1)
    assert rows() == before
    store(ONE, now_ms=NOW + 1)
    assert row(ONE) == (NOW + 1 + HOUR, None, True)


# What notaries passed on.

NOTARY = "notary.example.org"


def store_of_notary(*current: SigningKey, now_ms: int = NOW, notary: str = NOTARY, **more: Any) -> None:
    value = canonical_json.loads_object(answer(*current, **{"valid_until_ts": now_ms + HOUR, **more}))
    history.store(check_server_keys(value, server=PEER, now_ms=now_ms, notary=notary), now_ms=now_ms)


def of_notaries() -> dict[tuple[str, str], tuple[int, int | None]]:
    """Validity and expiry by notary and key id."""
    rows = ServerKey.objects.exclude(notary="")
    assert not rows.filter(current=True).exists()
    return {(row.notary, row.key_id): (row.valid_until_ts, row.expired_ts) for row in rows}


def test_what_a_notary_says_is_kept_beside_what_the_server_said() -> None:
    store(ONE)
    store_of_notary(ONE, TWO, now_ms=NOW + DAY)
    assert ServerKey.objects.get(key_id=ONE.key_id, notary="").valid_until_ts == NOW + HOUR
    assert ServerKey.objects.get(current=True).notary == ""
    assert of_notaries() == {
        (NOTARY, ONE.key_id): (NOW + DAY + HOUR, None),
        (NOTARY, TWO.key_id): (NOW + DAY + HOUR, None),
    }
    assert KeyResponse.objects.filter(notary=NOTARY).count() == 1


def test_each_notary_has_its_own_rows() -> None:
    store_of_notary(ONE)
    store_of_notary(ONE, notary="other.example.org", valid_until_ts=NOW + 1)
    assert of_notaries() == {
        (NOTARY, ONE.key_id): (NOW + HOUR, None),
        ("other.example.org", ONE.key_id): (NOW + 1, None),
    }


def test_a_server_that_answers_itself_takes_the_place_of_what_a_notary_said() -> None:
    store_of_notary(ONE, old={TWO: NOW - 1})
    store(ONE)
    assert of_notaries() == {(NOTARY, TWO.key_id): (NOW + HOUR, NOW - 1)}
    store(ONE, old={TWO: NOW - DAY})
    assert of_notaries() == {}
    assert not KeyResponse.objects.exclude(notary="").exists()


def test_a_notary_does_not_revive_a_key_that_the_server_has_declared_old() -> None:
    store(ONE, old={TWO: NOW - DAY})
    store_of_notary(TWO)
    assert of_notaries() == {}
    assert row(TWO) == (NOW + HOUR, NOW - DAY, False)
    assert KeyResponse.objects.count() == 1


def test_a_notary_does_not_put_another_key_under_an_id_that_the_server_uses() -> None:
    store(ONE)
    store_of_notary(SigningKey(ONE.key_id, TWO.key))
    assert of_notaries() == {}


def test_a_notarys_key_ends_when_the_server_puts_another_under_its_id() -> None:
    store_of_notary(ONE)
    store(SigningKey(ONE.key_id, TWO.key), now_ms=NOW + 60)
    assert of_notaries() == {(NOTARY, ONE.key_id): (NOW + 60, None)}


def test_a_notary_cannot_use_up_the_number_of_keys_that_a_server_may_have() -> None:
    for number in range(4):
        store_of_notary(ONE, old={key(9, f"old{number}_{index}"): 0 for index in range(63)})
    with pytest.raises(Malformed, match="more than 256 keys"):
        store_of_notary(ONE, old={key(9, f"more{index}"): 0 for index in range(4)})
    store(ONE, old={key(9, f"own{index}"): 0 for index in range(63)})
    assert row(ONE) == (NOW + HOUR, None, True)


def test_a_key_that_becomes_known_as_leaked_is_not_used() -> None:
    store(ONE)
    ServerKey.objects.update(public_key=SigningKey.from_seed("ed25519:1", bytes(32)).public_key)
    assert history.load([PEER]) == {}


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"public_key": TWO.public_key}, "key_one_current_per_id"),
        ({"current": False}, "key_once_per_source"),
        ({"key_id": "ed25519:other", "expired_ts": NOW}, "key_current_is_not_expired"),
        ({"key_id": "ed25519:other", "notary": "notary.example.org"}, "key_of_a_notary_is_not_current"),
    ],
)
def test_the_database_refuses(fields: dict[str, Any], constraint: str) -> None:
    store(ONE)
    twin = ServerKey.objects.get()
    twin.pk = None
    for name, value in fields.items():
        setattr(twin, name, value)
    with pytest.raises(IntegrityError, match=constraint):
        twin.save()
