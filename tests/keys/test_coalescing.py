"""One request for many waiters. Keyrings here share what those of several processes share: the database."""

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from keys import leases
from keys.clock import now_ms
from keys.keyring import SLOT_SECONDS, Keyring
from keys.models import KeyFetch, ServerKey
from linmatrix.limits import DEFAULTS
from tests.support.keys import HOUR, PEER, Network, answer, key

pytestmark = pytest.mark.django_db(transaction=True)

ONE, TWO = key(1, "one"), key(2, "two")


def fresh_answer() -> bytes:
    return answer(ONE, valid_until_ts=now_ms() + HOUR)


def at_once(number: int, work: Callable[[], object]) -> list[object]:
    """What `work` returned in each of so many threads that begin together."""
    barrier, results = threading.Barrier(number), []

    def run() -> None:
        try:
            barrier.wait()
            results.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def slow(network: Network, seconds: float) -> Callable[[str], bytes]:
    def fetch(server: str) -> bytes:
        time.sleep(seconds)
        return network(server)

    return fetch


def test_eight_threads_that_need_a_key_for_events_make_one_request(network: Network) -> None:
    network.answers[PEER] = fresh_answer()
    keyring = Keyring(fetch=slow(network, 0.3))
    results = at_once(8, lambda: list(keyring.event_keys([(PEER, ONE.key_id, now_ms())])))
    assert results == [[(PEER, ONE.key_id)]] * 8
    assert network.asked == [PEER]


def test_eight_threads_that_need_a_key_for_requests_make_one_request(network: Network) -> None:
    network.answers[PEER] = fresh_answer()
    keyring = Keyring(fetch=slow(network, 0.3))
    results = at_once(8, lambda: len(keyring.request_keys(PEER, ONE.key_id, now_ms())))
    assert results == [1] * 8
    assert network.asked == [PEER]


def test_keyrings_that_share_only_the_database_make_one_request(network: Network) -> None:
    network.answers[PEER] = fresh_answer()
    results = at_once(8, lambda: len(Keyring(fetch=slow(network, 0.3)).event_keys([(PEER, ONE.key_id, now_ms())])))
    assert results == [1] * 8
    assert network.asked == [PEER]


def test_eight_threads_that_find_a_server_down_make_one_request(network: Network) -> None:
    keyring = Keyring(fetch=slow(network, 0.3))
    assert at_once(8, lambda: keyring.event_keys([(PEER, ONE.key_id, now_ms())])) == [{}] * 8
    assert network.asked == [PEER]


@pytest.mark.parametrize("attempt", range(5))
def test_one_of_eight_threads_gets_the_lease_of_a_server_that_is_due(attempt: int) -> None:
    KeyFetch.objects.create(server=PEER)
    results = at_once(8, lambda: leases.take(PEER, now_ms=now_ms()))
    assert sorted(type(result).__name__ for result in results) == ["Lease", *["Refusal"] * 7]


def test_no_transaction_is_open_during_a_request(network: Network) -> None:
    states = []

    def fetch(server: str) -> bytes:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE state LIKE 'idle in transaction%' AND datname = current_database()"
            )
            states.append(cursor.fetchone())
        connection.close()
        return fresh_answer()

    assert Keyring(fetch=fetch).event_keys([(PEER, ONE.key_id, now_ms())])
    assert states == [(0,)]


def test_asking_within_a_transaction_is_refused_and_asks_nobody(network: Network) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        Keyring(fetch=network).event_keys([(PEER, ONE.key_id, now_ms())])
    assert network.asked == []


def test_waiting_for_another_process_ends_in_time(network: Network) -> None:
    leases.take(PEER, now_ms=now_ms())
    begun = time.monotonic()
    assert Keyring(fetch=network).event_keys([(PEER, ONE.key_id, now_ms())], seconds=0.3) == {}
    assert 0.3 <= time.monotonic() - begun < 2
    assert network.asked == []


def test_servers_that_do_not_answer_do_not_hold_up_those_that_do(network: Network) -> None:
    silent = [f"silent{number}.example.org" for number in range(8)]
    network.answers[PEER] = fresh_answer()

    def fetch(server: str) -> bytes:
        time.sleep(0.5 if server in silent else 0)
        return network(server)

    begun = time.monotonic()
    found = Keyring(fetch=fetch).event_keys([(server, ONE.key_id, now_ms()) for server in [*silent, PEER]])
    assert set(found) == {(PEER, ONE.key_id)}
    assert time.monotonic() - begun < 1.5


def test_servers_that_were_not_asked_in_time_may_be_asked_at_once(network: Network) -> None:
    servers = [f"s{number:02}.example.org" for number in range(20)]
    Keyring(fetch=slow(network, 0.2)).event_keys([(server, ONE.key_id, now_ms()) for server in servers], seconds=0.1)
    assert sorted(network.asked) == servers[:16]
    assert KeyFetch.objects.filter(server__in=servers[16:]).count() == 0
    assert isinstance(leases.take(servers[16], now_ms=now_ms()), leases.Lease)


def test_made_up_origins_hold_up_few_threads_and_no_known_peer(network: Network) -> None:
    network.answers[PEER] = fresh_answer()
    keyring = Keyring(fetch=network)
    assert keyring.request_keys(PEER, ONE.key_id, now_ms())
    network.open.clear()
    names = iter(f"made-up{number}.example.org" for number in range(DEFAULTS.key_requests_waiting))

    def hold() -> None:
        keyring.request_keys(next(names), ONE.key_id, now_ms())
        connection.close()

    holders = [threading.Thread(target=hold) for _ in range(DEFAULTS.key_requests_waiting)]
    for thread in holders:
        thread.start()
    begun = time.monotonic()
    while len(network.asked) < 1 + DEFAULTS.key_requests_waiting:
        assert time.monotonic() - begun < 10
        time.sleep(0.01)
    begun = time.monotonic()
    assert keyring.request_keys("one-more.example.org", ONE.key_id, now_ms()) == []
    assert SLOT_SECONDS <= time.monotonic() - begun < SLOT_SECONDS + 2
    assert keyring.request_keys(PEER, ONE.key_id, now_ms())
    network.open.set()
    for thread in holders:
        thread.join()
    assert "one-more.example.org" not in network.asked


def test_an_answer_that_came_after_another_took_the_lease_is_not_stored() -> None:
    def overtaken(server: str) -> bytes:
        KeyFetch.objects.filter(server=server).update(lease_until="2100-01-01T00:00:00Z")
        connection.close()
        return fresh_answer()

    Keyring(fetch=overtaken).event_keys([(PEER, ONE.key_id, now_ms())], seconds=1)
    assert not ServerKey.objects.exists()
