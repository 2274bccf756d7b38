"""Limits on what other servers may cost us, against real ones: each as the operator has set it, from both sides."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from federation import devices, gaps, handshakes
from federation.client import federation_client
from federation.errors import ApiError
from federation.handshakes import HandshakeFailed
from federation.idempotency import Transaction, once
from federation.responses import json_response
from federation.sending import send_event
from keys import history
from keys.fetchers import fetch_server_keys, parse_server_keys
from keys.http import http_client
from keys.keyring import Keyring
from keys.notaries import query_notary
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.signing import sign_object
from linmatrix.protocol.state import StateEvent
from linmatrix.transport.errors import NotConnected, TransportError
from rooms.joining import note_join
from rooms.models import Event, Gap
from rooms.server_acl import Decisions
from rooms.state_events import StateEventCache
from tests.support import keys as published
from tests.support.hosted import CREATOR
from tests.support.peer_rooms import PeerRoom

ALICE = "@alice:hub.example.org"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def limit(settings):
    """Sets limits."""

    def change(**limits):
        settings.LIMITS = replace(DEFAULTS, **limits)

    return change


@pytest.fixture
def reasons(caplog):
    """Why a request failed, where whoever asked is not told."""
    caplog.set_level(logging.INFO, logger="federation.invitations")
    return caplog


@pytest.fixture
def room(tls_peer):
    """A room on the peer."""
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    return room


# What a request of ours is about: the endpoint that answers it, and how to make it; what went wrong as text.


def complaint(call: Callable[[], object]) -> str:
    try:
        call()
    except (HandshakeFailed, TransportError) as error:
        return str(error)
    except ApiError as error:
        return str(error)
    return ""


def knock(tls_peer, room, private):
    return complaint(lambda: handshakes.knock(room_id=room.room_id, user_id=ALICE, via=tls_peer.name))


def join(tls_peer, room, private):
    return complaint(lambda: handshakes.join(room_id=room.room_id, user_id=ALICE))


def invite(tls_peer, room, private):
    return complaint(lambda: handshakes.invite(room_id=private.room_id, sender=CREATOR, user_id=tls_peer.user("user")))


def backfill(tls_peer, room, private):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    gaps.fill_gap(Gap.objects.get().pk)
    return Gap.objects.get().last_error


def fetch_keys(tls_peer, room, private):
    return complaint(lambda: fetch_server_keys(tls_peer.name, client=http_client()))


def anything(tls_peer, room, private):
    return complaint(lambda: federation_client().request(tls_peer.name, "GET", "/_matrix/federation/v1/anything"))


def query(tls_peer, room, private):
    return complaint(lambda: query_notary(tls_peer.name, ["a.example.org"], 20.0, client=http_client()))


def devices_of(tls_peer, room, private):
    return str(devices.query([tls_peer.user("user")], now=timezone.now()).failures)


REQUESTS = [
    ("handshake", ("GET", "make_knock"), knock),
    ("join", ("POST", "send_join"), join),
    ("invite", ("POST", "invite"), invite),
    ("backfill", ("GET", "backfill"), backfill),
    ("key", ("GET", "server"), fetch_keys),
    ("device_query", ("GET", "user"), devices_of),
    ("", ("GET", "anything"), anything),
]
SECONDS = {"": "request_seconds", "key": "key_fetch_seconds"}
BYTES = {"": "answer_bytes", "device_query": "device_answer_bytes"}
LARGE = [*REQUESTS, ("notary", ("POST", "query"), query)]


@pytest.mark.parametrize(("kind", "endpoint", "ask"), REQUESTS, ids=[ask.__name__ for _, _, ask in REQUESTS])
def test_a_server_that_does_not_answer_is_waited_for_as_long_as_is_set(
    kind, endpoint, ask, tls_peer, room, private, limit, reasons
):
    name = SECONDS.get(kind, f"{kind}_seconds")
    over = threading.Event()
    tls_peer.endpoints[endpoint] = lambda _request: (over.wait(timeout=120), (500, {}))[1]
    limit(**{name: 0.5})
    began = time.monotonic()
    try:
        said = ask(tls_peer, room, private)
    finally:
        over.set()
    assert "in time" in said + reasons.text
    # Without it, the default or the limit for transfers that stand still would have ended it.
    assert time.monotonic() - began < min(getattr(DEFAULTS, name), DEFAULTS.slow_seconds)


@pytest.mark.parametrize(("most", "too_much"), [(5_000, False), (4_999, True)])
@pytest.mark.parametrize(("kind", "endpoint", "ask"), LARGE, ids=[ask.__name__ for _, _, ask in LARGE])
def test_no_more_is_read_of_an_answer_than_is_set(
    kind, endpoint, ask, most, too_much, tls_peer, room, private, limit, reasons
):
    body = b'{"x":"%s"}' % (b"x" * (5_000 - 8))
    tls_peer.endpoints[endpoint] = lambda _request: (200, body)
    limit(**{BYTES.get(kind, f"{kind}_answer_bytes"): most})
    said = ask(tls_peer, room, private) + reasons.text
    assert (f"more than {most} bytes" in said) is too_much


def test_an_invited_server_has_less_time_while_the_room_is_locked(tls_peer, private, limit, reasons):
    """Which it is at the fourth try, after the room has changed under the first three."""
    over, tries = threading.Event(), []

    def interrupted(request):
        tries.append(time.monotonic())
        if len(tries) > 3:
            over.wait(timeout=120)
        else:
            send_event(room_id=private.room_id, sender=CREATOR, type="m.room.message", content={"n": len(tries)})
        return 200, {"pdu": sign_object(request.content["event"], server=tls_peer.name, key=tls_peer.key)}

    tls_peer.endpoints["POST", "invite"] = interrupted
    limit(locked_invite_seconds=0.5)
    try:
        said = invite(tls_peer, None, private)
    finally:
        over.set()
    assert "in time" in said + reasons.text
    assert time.monotonic() - tries[3] < DEFAULTS.locked_invite_seconds


@pytest.mark.parametrize(("seconds", "pages"), [(0.0, 1), (60.0, 3)])
def test_a_transaction_waits_for_what_is_missing_as_long_as_is_set(seconds, pages, tls_peer, room, limit):
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert gaps.fill_gap(Gap.objects.get().pk) is gaps.Progress.CLOSED
    for number in range(3):
        room.add(content={"n": number})
    new = room.add(content={"n": "new"})
    honest = tls_peer.endpoints["GET", "backfill"]
    tls_peer.endpoints["GET", "backfill"] = lambda request: (200, {"pdus": honest(request)[1]["pdus"][-1:]})
    limit(gap_seconds=seconds)
    before = len(tls_peer.requests)
    assert tls_peer.send([new.event]).status_code == (200 if pages == 3 else 503)
    assert len(tls_peer.requests) - before == pages
    assert Event.objects.filter(event_id=new.event_id).exists() is (pages == 3)


@pytest.mark.parametrize(("most", "followed"), [(0, False), (1, True)])
def test_hints_are_followed_as_often_as_is_set(most, followed, tls_peer, room, limit):
    wrong = {"errcode": "M_WRONG_SERVER", "error": "not the hub", "hub_server": "other.invalid"}
    tls_peer.endpoints["GET", "make_knock"] = lambda _request: (400, wrong)
    limit(hub_hints=most)
    assert ("other.invalid" in knock(tls_peer, room, None)) is followed


# Requests that wait in a thread of ours.


@pytest.mark.parametrize(
    ("name", "txn_id", "status", "errcode"),
    [
        ("repeated_transaction_seconds", "a", 429, "M_LIMIT_EXCEEDED"),
        ("other_transaction_seconds", "b", 400, "M_BAD_STATE"),
    ],
)
def test_a_request_waits_for_another_as_long_as_is_set(name, txn_id, status, errcode, limit):
    def request(txn_id):
        return Transaction("part.example.org", "send", txn_id, b"{}", stable=False, exclusive=True)

    def process():
        began = time.monotonic()
        with pytest.raises(ApiError) as refused:
            once(request(txn_id), lambda: json_response({}))
        assert (refused.value.status, refused.value.errcode) == (status, errcode)
        assert time.monotonic() - began < getattr(DEFAULTS, name)
        return json_response({})

    limit(**{name: 0.0})
    assert once(request("a"), process).status_code == 200


def test_events_wait_for_a_join_as_long_as_is_set(tls_peer, room, limit):
    note_join(room.room_id, ALICE, now=timezone.now())
    limit(join_wait_seconds=0.0)
    began = time.monotonic()
    assert tls_peer.send([room.add(content={"n": 1}).event]).status_code == 503
    assert time.monotonic() - began < DEFAULTS.join_wait_seconds


# What is kept in memory.


@pytest.mark.parametrize(("most", "kept"), [(200, ["$a", "$b"]), (199, ["$b"])])
def test_state_events_are_remembered_up_to_the_bytes_that_are_set(most, kept):
    cache = StateEventCache(most)
    for event_id in ("$a", "$b"):
        cache.put(StateEvent(event_id, "m.room.name", "", ALICE, {}), size=100)
    assert list(cache.get_many(["$a", "$b"])) == kept


@pytest.mark.parametrize(("most", "kept"), [(2, 2), (1, 1)])
def test_decisions_are_remembered_up_to_the_number_that_is_set(most, kept):
    decisions = Decisions(most)
    acl = StateEvent("$acl", "m.room.server_acl", "", ALICE, {"allow": ["a.example.org"]})
    assert [decisions.allows(acl, f"{name}.example.org") for name in "aba"] == [True, False, True]
    assert len(decisions) == kept


@pytest.mark.parametrize(("most", "looked_up"), [(2, 0), (1, 1)])
def test_keys_are_remembered_of_as_many_servers_as_are_set(most, looked_up, limit):
    limit(cached_key_servers=most)
    keyring = Keyring(fetch=published.Network(), clock=published.Clock())
    for server in ("a.example.org", "b.example.org"):
        body = published.answer(published.key(1), server=server)
        history.store(parse_server_keys(body, server=server, now_ms=published.NOW), now_ms=published.NOW)
        assert keyring.request_keys(server, "ed25519:1", published.NOW)
    with CaptureQueriesContext(connection) as queries:
        assert keyring.request_keys("a.example.org", "ed25519:1", published.NOW)
    assert len(queries) == looked_up


@pytest.mark.parametrize(("seconds", "asked"), [(0.0, 1), (10.0, 2)])
def test_servers_are_asked_for_keys_within_the_time_that_is_set(seconds, asked, limit):
    limit(key_wait_seconds=seconds, keys_asked_at_once=1)
    network = published.Network()
    wanted = [(f"{name}.example.org", "ed25519:1", published.NOW) for name in "ab"]
    assert Keyring(fetch=network, clock=published.Clock()).event_keys(wanted) == {}
    assert len(network.asked) == asked


@pytest.mark.parametrize("most", [1, 3])
def test_as_many_servers_are_asked_at_once_as_are_set(most, limit):
    limit(keys_asked_at_once=most)
    together = threading.Barrier(most, timeout=30)
    lock, under_way, seen = threading.Lock(), [], []

    def fetch(server):
        with lock:
            under_way.append(server)
            seen.append(len(under_way))
        together.wait()
        with lock:
            under_way.remove(server)
        raise NotConnected(f"{server} is down")

    wanted = [(f"s{number}.example.org", "ed25519:1", published.NOW) for number in range(3 * most)]
    Keyring(fetch=fetch, clock=published.Clock()).event_keys(wanted, seconds=60.0)
    assert max(seen) == most
    assert len(seen) == 3 * most
