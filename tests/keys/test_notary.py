"""This server as a notary: what it passes on, when it asks, and that strangers cannot make it ask often."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from keys import history, notary
from keys.fetchers import check_server_keys, parse_server_keys
from keys.keyring import Keyring
from keys.local import server_keys, signing_key
from keys.models import KeyFetch
from keys.notary import Quota, Wanted
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.errors import Malformed, NotJson
from linmatrix.protocol.signing import SigningKey, VerifyKey, object_bytes
from tests.keys.test_fetchers import INVALID
from tests.support.keys import DAY, HOUR, MINUTE, NOW, PEER, SECOND, Clock, Network, answer, key

pytestmark = pytest.mark.django_db

OWN = settings.SERVER_NAME
ONE, TWO, THREE = key(1, "one"), key(2, "two"), key(3, "three")

Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def quota(clock: Clock) -> Quota:
    return Quota(DEFAULTS.notary_unknown_names, per_ms=MINUTE, clock=clock)


@pytest.fixture
def ask(keyring: Keyring, quota: Quota, clock: Clock) -> Ask:
    """Asks the notary, by default for all keys of PEER."""

    def ask(*wanted: Wanted, minimum: int | None = None) -> list[dict[str, Any]]:
        asked = wanted or (Wanted(PEER, {None: minimum}),)
        return notary.answer(asked, keyring=keyring, unknown_names=quota, now_ms=clock.now)

    return ask


def listed(answers: list[dict[str, Any]]) -> list[list[str]]:
    """The current key ids of each answer."""
    return [list(item["verify_keys"]) for item in answers]


def signed_by(item: dict[str, Any], server: str, signing: SigningKey) -> bool:
    signature = decode_base64(item["signatures"][server][signing.key_id], length=64)
    return VerifyKey.from_bytes(signing.public_key, valid_until_ts=0).verifies(object_bytes(item), signature)


# What is passed on.


def test_row2_a_servers_answer_is_passed_on_as_it_came_with_our_signature_added(ask: Ask, network: Network) -> None:
    network.answers[PEER] = answer(ONE, old={TWO: NOW - DAY})
    (item,) = ask()
    assert set(item["signatures"]) == {PEER, OWN}
    assert signed_by(item, PEER, ONE)
    assert signed_by(item, OWN, signing_key())
    original = json.loads(network.answers[PEER])
    assert object_bytes(item) == object_bytes(original)
    assert item["signatures"][PEER] == original["signatures"][PEER]


def test_row3_several_servers_are_answered_for_at_once(ask: Ask, network: Network) -> None:
    names = [f"s{number}.example.org" for number in range(3)]
    network.answers = {name: answer(ONE, server=name) for name in names[:2]}
    found = ask(*(Wanted(name, {None: None}) for name in names))
    assert sorted(item["server_name"] for item in found) == names[:2]


def test_row4_an_expired_answer_is_passed_on_when_there_is_no_other(ask: Ask, network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    assert listed(ask()) == [["ed25519:one"]]
    network.answers.clear()
    clock.now += 2 * DAY
    (item,) = ask()
    assert item["valid_until_ts"] == NOW + 12 * HOUR
    assert network.asked == [PEER, PEER]
    (item,) = ask(Wanted(PEER, {ONE.key_id: None}))
    assert item["valid_until_ts"] == NOW + 12 * HOUR


@pytest.mark.parametrize("changed", [pytest.param(case.values[0], id=case.id) for case in INVALID])
def test_row5_a_spurious_answer_takes_nothing_from_a_good_one(
    ask: Ask, network: Network, clock: Clock, changed: Callable[[dict[str, Any]], None]
) -> None:
    network.answers[PEER] = answer(ONE)
    before = ask()
    clock.now += 7 * HOUR

    def change(value: dict[str, Any]) -> None:
        value["valid_until_ts"] = clock.now + HOUR
        changed(value)

    network.answers[PEER] = answer(ONE, change=change)
    assert ask() == before
    assert network.asked == [PEER, PEER]


def test_answers_with_distinct_keys_are_all_passed_on_the_latest_first(
    ask: Ask, network: Network, clock: Clock
) -> None:
    network.answers[PEER] = answer(ONE, TWO)
    ask()
    clock.now += DAY
    network.answers[PEER] = answer(TWO, THREE, valid_until_ts=clock.now + HOUR)
    assert listed(ask()) == [["ed25519:three", "ed25519:two"], ["ed25519:one", "ed25519:two"]]
    assert listed(ask(Wanted(PEER, {"ed25519:one": None}))) == [["ed25519:one", "ed25519:two"]]
    assert listed(ask(Wanted(PEER, {"ed25519:two": None}))) == [["ed25519:three", "ed25519:two"]]


def test_an_answer_that_lists_two_wanted_keys_is_passed_on_once(ask: Ask, network: Network) -> None:
    network.answers[PEER] = answer(ONE, old={TWO: NOW - DAY})
    assert len(ask(Wanted(PEER, {"ed25519:one": None, "ed25519:two": None}))) == 1


def test_a_key_id_that_nobody_has_gives_nothing(ask: Ask, network: Network) -> None:
    network.answers[PEER] = answer(ONE)
    assert ask(Wanted(PEER, {"ed25519:other": None})) == []
    assert ask(Wanted(PEER, {"not a key id\0": None})) == []


def test_signatures_of_others_are_not_passed_on(ask: Ask, network: Network) -> None:
    value = json.loads(answer(ONE))
    value["signatures"] |= {OWN: {"ed25519:fake": "x"}, "third.example.org": 5}
    network.answers[PEER] = json.dumps(value).encode()
    (item,) = ask()
    assert set(item["signatures"]) == {PEER, OWN}
    assert list(item["signatures"][OWN]) == [signing_key().key_id]


def test_what_another_notary_said_is_not_passed_on(ask: Ask) -> None:
    value = canonical_json.loads_object(answer(ONE))
    history.store(check_server_keys(value, server=PEER, now_ms=NOW, notary="other.example.org"), now_ms=NOW)
    assert ask() == []


def test_no_more_than_the_latest_answers_of_a_server_are_passed_on(ask: Ask) -> None:
    for number in range(DEFAULTS.notary_responses + 2):
        body = answer(key(9, f"k{number}"), valid_until_ts=NOW + number + HOUR)
        history.store(parse_server_keys(body, server=PEER, now_ms=NOW + number), now_ms=NOW + number)
    found = ask()
    assert listed(found) == [[f"ed25519:k{number}"] for number in range(DEFAULTS.notary_responses + 1, 1, -1)]
    assert listed(ask(Wanted(PEER, {"ed25519:k0": None}))) == [["ed25519:k0"]]


def test_an_answer_ends_where_it_would_become_too_large(ask: Ask) -> None:
    def padded(value: dict[str, Any]) -> None:
        value["padding"] = "x" * 60_000

    names = [f"s{number}.example.org" for number in range(DEFAULTS.notary_servers)]
    for name in names:
        history.store(parse_server_keys(answer(ONE, server=name, change=padded), server=name, now_ms=NOW), now_ms=NOW)
    found = ask(*(Wanted(name, {None: None}) for name in names))
    assert 60 < len(found) < DEFAULTS.notary_servers
    assert sum(len(canonical_json.dumps(item)) for item in found) < DEFAULTS.notary_bytes + 100 * 300


# Our own keys.


def test_our_own_name_is_answered_with_our_own_keys_and_asks_nobody(ask: Ask, network: Network, clock: Clock) -> None:
    assert ask(Wanted(OWN, {None: None})) == [server_keys(clock.now)]
    assert ask(Wanted(OWN, {signing_key().key_id: clock.now + 12 * HOUR})) == [server_keys(clock.now)]
    assert ask(Wanted(OWN, {signing_key().key_id: clock.now + 12 * HOUR + 1})) == []
    assert ask(Wanted(OWN, {"ed25519:other": None})) == []
    assert network.asked == []


# minimum_valid_until_ts (decision 102).


@pytest.mark.parametrize(("minimum", "given"), [(NOW + 12 * HOUR, 1), (NOW + 12 * HOUR + 1, 0), (0, 1), (None, 1)])
def test_an_explicit_minimum_leaves_out_what_is_not_valid_so_long(
    ask: Ask, network: Network, minimum: int | None, given: int
) -> None:
    network.answers[PEER] = answer(ONE)
    assert len(ask(minimum=minimum)) == given
    assert len(ask(Wanted(PEER, {"ed25519:one": minimum}))) == given


def test_a_minimum_counts_with_seven_days_at_most(ask: Ask, network: Network) -> None:
    network.answers[PEER] = answer(ONE, valid_until_ts=NOW + 99 * DAY)
    assert len(ask(minimum=NOW + 7 * DAY)) == 1
    assert ask(minimum=NOW + 7 * DAY + 1) == []


def test_a_minimum_of_one_key_id_says_nothing_of_another(ask: Ask, network: Network) -> None:
    network.answers[PEER] = answer(ONE, TWO)
    assert len(ask(Wanted(PEER, {"ed25519:one": NOW + DAY, "ed25519:two": None}))) == 1
    assert ask(Wanted(PEER, {"ed25519:one": NOW + DAY, "ed25519:two": NOW + DAY})) == []


# When servers are asked (decision 105, threat T26).


def test_an_answer_is_good_for_half_of_its_lifetime(ask: Ask, network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    ask()
    clock.now = NOW + 6 * HOUR - 1
    ask()
    assert network.asked == [PEER]
    clock.now += 1
    network.answers[PEER] = answer(ONE, valid_until_ts=clock.now + 12 * HOUR)
    assert ask()[0]["valid_until_ts"] == clock.now + 12 * HOUR
    assert network.asked == [PEER, PEER]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(Wanted(PEER, {"ed25519:two": None}), id="an unknown key"),
        pytest.param(Wanted(PEER, {"ed25519:one": NOW + 13 * HOUR}), id="a later validity"),
        pytest.param(Wanted(PEER, {None: NOW + 13 * HOUR}), id="a later validity of any key"),
    ],
)
def test_a_server_is_asked_earlier_once_a_minute_at_most_for(
    ask: Ask, network: Network, clock: Clock, wanted: Wanted
) -> None:
    network.answers[PEER] = answer(ONE)
    ask()
    for _ in range(59):
        clock.now += SECOND
        assert ask(wanted) == []
    assert network.asked == [PEER]
    clock.now += SECOND
    network.answers[PEER] = answer(ONE, TWO, valid_until_ts=clock.now + DAY)
    assert len(ask(wanted)) == 1
    assert network.asked == [PEER, PEER]


def test_a_minimum_that_nothing_can_meet_asks_nobody(ask: Ask, network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    ask()
    clock.now += 5 * MINUTE
    assert ask(minimum=clock.now + 7 * DAY + 1) == []
    assert network.asked == [PEER]


def test_a_name_that_does_not_answer_is_left_alone_for_an_hour(ask: Ask, network: Network, clock: Clock) -> None:
    for _ in range(60):
        assert ask() == []
        clock.now += MINUTE - 1
    assert network.asked == [PEER]
    clock.now = NOW + HOUR
    assert ask() == []
    assert network.asked == [PEER, PEER]


def test_strangers_do_not_keep_us_from_asking_a_server_for_events(
    ask: Ask, network: Network, clock: Clock, keyring: Keyring
) -> None:
    assert ask() == []
    network.answers[PEER] = answer(ONE)
    clock.now += 5 * SECOND
    assert keyring.event_keys([(PEER, ONE.key_id, clock.now)])


@pytest.mark.parametrize(
    "name",
    ["", "127.0.0.1", "127.1", "[::1]", "a b", "peer.example.org:0", "peer_example.org", "x\0y", "é.org", "a" * 300],
)
def test_an_improper_name_gives_nothing_and_asks_nobody(ask: Ask, network: Network, name: str) -> None:
    assert ask(Wanted(name, {None: None})) == []
    assert network.asked == []
    assert not KeyFetch.objects.exists()


def test_unknown_names_have_a_quota_that_known_servers_do_not_need(ask: Ask, network: Network, clock: Clock) -> None:
    network.answers[PEER] = answer(ONE)
    ask()

    def made_up(prefix: str) -> list[Wanted]:
        return [Wanted(f"{prefix}{number}.example.org", {None: None}) for number in range(DEFAULTS.notary_servers)]

    for prefix in "abcdef":
        ask(*made_up(prefix))
    assert len(network.asked) == DEFAULTS.notary_unknown_names
    clock.now += 50 * SECOND
    ask(*made_up("g"))
    assert len(network.asked) == DEFAULTS.notary_unknown_names
    network.answers[PEER] = answer(TWO, valid_until_ts=NOW + DAY)
    clock.now += 9 * SECOND + 999
    ask()
    clock.now = NOW + 7 * HOUR
    assert listed(ask()) == [["ed25519:two"], ["ed25519:one"]]
    ask(*made_up("g"))
    assert len(network.asked) == DEFAULTS.notary_unknown_names + 1 + DEFAULTS.notary_servers


def test_asking_for_one_name_again_and_again_does_not_use_the_quota_up(ask: Ask, network: Network) -> None:
    for _ in range(DEFAULTS.notary_unknown_names + 1):
        assert ask(Wanted("down.example.org", {None: None})) == []
    network.answers[PEER] = answer(ONE)
    assert len(ask()) == 1
    assert network.asked == ["down.example.org", PEER]


@pytest.mark.django_db(transaction=True)
def test_queries_for_names_that_do_not_answer_hold_up_few_threads(network: Network) -> None:
    network.answers[PEER] = answer(ONE)
    keyring, quota = Keyring(fetch=network, clock=Clock()), Quota(DEFAULTS.notary_unknown_names, per_ms=MINUTE)
    network.open.clear()
    names = iter(f"made-up{number}.example.org" for number in range(DEFAULTS.key_strangers_waiting))

    def query(name: str) -> None:
        notary.answer([Wanted(name, {None: None})], keyring=keyring, unknown_names=quota, now_ms=NOW)
        connection.close()

    holders = [threading.Thread(target=query, args=(name,)) for name in names]
    for thread in holders:
        thread.start()
    for _ in range(1000):
        if len(network.asked) == DEFAULTS.key_strangers_waiting:
            break
        threading.Event().wait(0.01)
    one_more = [Wanted("one-more.example.org", {None: None})]
    assert notary.answer(one_more, keyring=keyring, unknown_names=quota, now_ms=NOW) == []
    assert "one-more.example.org" not in network.asked
    network.open.set()
    for thread in holders:
        thread.join()


# The body of a query.


def test_a_query_names_servers_key_ids_and_minimums() -> None:
    body = {"server_keys": {"a": {}, "b": {"k": {}, "l": {"minimum_valid_until_ts": 5, "unknown": []}}}}
    assert notary.parse_query(json.dumps(body).encode()) == [
        Wanted("a", {None: None}),
        Wanted("b", {"k": None, "l": 5}),
    ]
    assert notary.parse_query(b'{"server_keys":{}}') == []


@pytest.mark.parametrize(
    ("servers", "problem"),
    [
        (..., "server_keys is not an object"),
        (None, "server_keys is not an object"),
        ([], "server_keys is not an object"),
        ({"a": None}, "asked for of a server is not an object"),
        ({"a": ["k"]}, "asked for of a server is not an object"),
        ({"a": {"k": None}}, "not a time in milliseconds"),
        ({"a": {"k": {"minimum_valid_until_ts": "5"}}}, "not a time in milliseconds"),
        ({"a": {"k": {"minimum_valid_until_ts": True}}}, "not a time in milliseconds"),
        ({"a": {"k": {"minimum_valid_until_ts": 0.5}}}, "not a time in milliseconds"),
        ({"a": {"k": {"minimum_valid_until_ts": 2**53}}}, "outside"),
        ({f"s{number}": {} for number in range(DEFAULTS.notary_servers + 1)}, "101 servers are more than 100"),
        ({"a": {f"k{number}": {} for number in range(DEFAULTS.notary_key_ids + 1)}}, "65 key ids are more than 64"),
    ],
)
def test_a_query_is_refused_for(servers: Any, problem: str) -> None:
    body: dict[str, Any] = {} if servers is ... else {"server_keys": servers}
    with pytest.raises(Malformed, match=problem):
        notary.parse_query(json.dumps(body).encode())


def test_a_query_of_the_largest_size_is_taken() -> None:
    body: dict[str, Any] = {
        "server_keys": {
            f"s{n}": {f"k{m}": {} for m in range(DEFAULTS.notary_key_ids)} for n in range(DEFAULTS.notary_servers)
        }
    }
    assert len(notary.parse_query(json.dumps(body).encode())) == DEFAULTS.notary_servers


def test_a_query_that_is_no_json_is_refused() -> None:
    with pytest.raises(NotJson):
        notary.parse_query(b"<html>")
