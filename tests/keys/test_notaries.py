"""Keys by way of notaries, which are real servers here: whom we ask, what we believe, and what it is good for."""

import json
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from keys.apps import KeysConfig
from keys.keyring import Keyring, event_keys, keyring, request_keys
from keys.models import KeyFetch, ServerKey
from keys.notaries import MAX_SERVERS_PER_QUERY, MAX_SIGNATURES, Notaries
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.signing import SigningKey, VerifyKey, sign_object
from tests.keys.test_coalescing import at_once
from tests.settings import TEST_AUTHORITY
from tests.support.keys import DAY, HOUR, NOW, PEER, Clock, answer, key
from tests.support.peers import Peer, now_ms
from tests.support.tls_peer import TlsPeer

pytestmark = pytest.mark.django_db(transaction=True)

AWAY = "away.localhost:1"
"""A server that nothing answers for."""


class Notary(TlsPeer):
    """Passes on what it was given, signed."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.objects = []
        self.endpoints["POST", "query"] = lambda _request: (200, {"server_keys": self.objects})

    @property
    def queries(self):
        return [request.content["server_keys"] for request in self.requests if request.parts == ["query"]]

    @property
    def asked_directly(self):
        return len([request for request in self.requests if request.parts == ["server"]])

    def keep(self, value, *, key=None):
        """Pass an object on, signed with this notary's key or another."""
        self.objects.append(sign_object(value, server=self.name, key=key or self.key))


@pytest.fixture
def start(transactional_db, tmp_path):
    """Starts notaries by name."""
    with ExitStack() as stack:
        yield lambda label: stack.enter_context(Notary(TEST_AUTHORITY, tmp_path / label, host=f"{label}.localhost"))


@pytest.fixture
def notary(start, settings):
    """The only configured notary."""
    notary = start("notary")
    settings.NOTARIES = [notary.name]
    return notary


@pytest.fixture
def away():
    """A server that cannot be reached, whose key we do not know."""
    return Peer(AWAY)


def published(peer, *, signed=True, **fields):
    """What a server would answer, were it there."""
    value = {
        "server_name": peer.name,
        "valid_until_ts": now_ms() + 12 * HOUR,
        "verify_keys": {peer.key.key_id: {"key": encode_base64(peer.key.public_key)}},
        "old_verify_keys": {},
    } | fields
    return sign_object(value, server=peer.name, key=peer.key) if signed else value


def found(peer, ts=None):
    """The public keys that an event of that time may be signed with."""
    when = now_ms() if ts is None else ts
    keys = event_keys([(peer.name, peer.key.key_id, when)]).get((peer.name, peer.key.key_id), [])
    return [bytes(key.key) for key in keys if key.valid_at(when)]


def test_keys_of_a_server_that_is_away_come_from_the_notary(notary, away):
    notary.keep(published(away))
    assert found(away) == [away.key.public_key]
    assert notary.queries == [{AWAY: {}}]
    assert ServerKey.objects.get(server=AWAY).notary == notary.name
    assert KeyFetch.objects.get(server=AWAY).failures == 1


def test_a_server_that_answers_itself_is_not_asked_about(notary, tls_peer):
    notary.keep(published(tls_peer))
    assert found(tls_peer) == [tls_peer.key.public_key]
    assert notary.queries == []
    assert ServerKey.objects.get(server=tls_peer.name).notary == ""


def test_a_server_that_gives_no_usable_answer_is_asked_about(notary, tls_peer):
    notary.keep(published(tls_peer))
    tls_peer.endpoints["GET", "server"] = lambda _request: (200, {})
    assert found(tls_peer) == [tls_peer.key.public_key]
    assert len(notary.queries) == 1


def test_without_notaries_nobody_is_asked(start, away):
    notary = start("notary")
    notary.keep(published(away))
    assert found(away) == []
    assert notary.requests == []


def test_a_key_from_a_notary_is_never_for_requests(notary, away):
    notary.keep(published(away))
    assert request_keys(AWAY, away.key.key_id, now_ms()) == []
    assert notary.queries == []
    KeyFetch.objects.all().delete()
    assert found(away) == [away.key.public_key]
    assert request_keys(AWAY, away.key.key_id, now_ms()) == []


def test_a_request_signed_with_a_key_from_a_notary_is_refused(notary, away):
    notary.keep(published(away))
    assert found(away) == [away.key.public_key]
    response = away.send([])
    assert (response.status_code, response.json()["errcode"]) == (401, "M_FORBIDDEN")


def test_a_notary_does_not_prolong_what_a_server_said_about_its_key_for_requests(notary, away):
    away.publish()
    ServerKey.objects.update(valid_until_ts=now_ms() - HOUR)
    assert found(away) == []
    notary.keep(published(away))
    KeyFetch.objects.all().delete()
    assert found(away) == [away.key.public_key]
    KeyFetch.objects.all().delete()
    assert request_keys(AWAY, away.key.key_id, now_ms()) == []


@pytest.mark.parametrize(("ts_after_expiry", "valid"), [(-DAY, True), (0, True), (1, False)])
def test_what_has_run_out_is_for_the_events_of_its_time(notary, away, ts_after_expiry, valid):
    until = now_ms() - DAY
    notary.keep(published(away, valid_until_ts=until))
    assert found(away, until + ts_after_expiry) == ([away.key.public_key] if valid else [])


def test_a_notarys_answer_is_valid_for_a_week_at_most(notary, away):
    notary.keep(published(away, valid_until_ts=now_ms() + 99 * DAY))
    assert found(away) == [away.key.public_key]
    assert ServerKey.objects.get(server=AWAY).valid_until_ts <= now_ms() + 7 * DAY


def test_an_old_key_from_a_notary_is_bounded_by_when_it_expired(notary, away):
    old, away.key = away.key, SigningKey.from_seed("ed25519:2", bytes([7]) * 32)
    expired = now_ms() - DAY
    notary.keep(
        published(away, old_verify_keys={old.key_id: {"key": encode_base64(old.public_key), "expired_ts": expired}})
    )
    away.key = old
    assert found(away, expired + 1) == []
    assert found(away, expired) == [old.public_key]


OTHER = SigningKey.from_seed("ed25519:1", bytes([9]) * 32)


def unsigned_by_notary(notary, away):
    notary.objects.append(published(away))


def signed_by_another_key(notary, away):
    notary.keep(published(away), key=OTHER)


def signed_by_an_unknown_key(notary, away):
    notary.keep(published(away), key=SigningKey("ed25519:unknown", OTHER.key))


def unsigned_by_origin(notary, away):
    notary.keep(published(away, signed=False))


def signed_by_another_origin(notary, away):
    notary.keep(sign_object(published(away, signed=False), server=AWAY, key=SigningKey(away.key.key_id, OTHER.key)))


def of_another_name(notary, away):
    notary.keep(published(away, server_name="other.example.org"))


def altered_after_signing(notary, away):
    notary.keep(published(away) | {"valid_until_ts": now_ms() + 13 * HOUR})


def signatures_of_another_kind(notary, away):
    notary.objects.append(published(away) | {"signatures": [notary.name]})


def no_object(notary, away):
    notary.objects += [None, 5, "x", [], {}]


FALSE = [
    unsigned_by_notary,
    signed_by_another_key,
    signed_by_an_unknown_key,
    unsigned_by_origin,
    signed_by_another_origin,
    of_another_name,
    altered_after_signing,
    signatures_of_another_kind,
    no_object,
]


@pytest.mark.parametrize("false", FALSE, ids=lambda false: false.__name__)
def test_an_object_is_not_believed_that_is(notary, away, false):
    false(notary, away)
    assert found(away) == []
    assert not ServerKey.objects.filter(server=AWAY).exists()


@pytest.mark.parametrize("false", FALSE, ids=lambda false: false.__name__)
def test_a_good_object_is_believed_beside_one_that_is(notary, away, false):
    false(notary, away)
    notary.keep(published(away))
    assert found(away) == [away.key.public_key]


@pytest.mark.parametrize(
    "answer",
    [
        (500, {}),
        (404, {"errcode": "M_UNRECOGNIZED"}),
        (200, b"<html>"),
        (200, b"[]"),
        (200, {}),
        (200, {"server_keys": {}}),
        (200, b" " * (DEFAULTS.notary_answer_bytes + 1)),
    ],
    ids=lambda answer: f"{answer[0]} {str(answer[1])[:20]}",
)
def test_another_notary_is_asked_when_one_answers(start, settings, away, answer):
    broken, notary = start("broken"), start("notary")
    settings.NOTARIES = [broken.name, notary.name]
    broken.endpoints["POST", "query"] = lambda _request: answer
    notary.keep(published(away))
    assert found(away) == [away.key.public_key]
    assert len(broken.queries) == 1


def test_a_second_notary_is_asked_only_about_what_the_first_did_not_know(start, settings, away):
    first, second = start("first"), start("second")
    settings.NOTARIES = [first.name, second.name]
    gone = Peer("gone.localhost:1")
    first.keep(published(away))
    second.keep(published(gone))
    keys = event_keys([(peer.name, peer.key.key_id, now_ms()) for peer in (away, gone)])
    assert set(keys) == {(AWAY, away.key.key_id), (gone.name, gone.key.key_id)}
    assert [sorted(asked) for asked in first.queries] == [[AWAY, gone.name]]
    assert [sorted(asked) for asked in second.queries] == [[gone.name]]


def test_keys_of_servers_that_nobody_asked_about_are_not_taken(notary, away):
    stranger = Peer("stranger.example.org")
    notary.keep(published(stranger))
    notary.keep(published(away))
    assert found(away)
    assert not ServerKey.objects.filter(server=stranger.name).exists()


def test_a_notary_is_known_by_what_it_says_of_itself_directly(notary, away):
    notary.keep(published(away))
    notary.endpoints["GET", "server"] = lambda _request: (500, {})
    notary.keep(notary.server_keys())
    assert found(away) == []
    assert notary.asked_directly == 1
    assert not ServerKey.objects.filter(server=notary.name).exists()


def test_a_notary_that_does_not_answer_for_itself_is_not_asked_about_itself(notary):
    notary.endpoints["GET", "server"] = lambda _request: (500, {})
    assert found(notary) == []
    assert notary.queries == []


def test_a_server_that_is_away_costs_one_query_until_it_is_asked_itself_again(notary, away):
    for _ in range(5):
        assert found(away) == []
    assert len(notary.queries) == 1
    KeyFetch.objects.update(asked_at=None)
    assert found(away) == []
    assert len(notary.queries) == 2


def test_who_waits_for_a_server_waits_for_the_notaries_too(notary, away):
    notary.keep(published(away))
    seen = []

    def answer(_request):
        seen.append(KeyFetch.objects.filter(server=AWAY, lease_until__isnull=False).count())
        connections.close_all()
        return 200, {"server_keys": notary.objects}

    notary.endpoints["POST", "query"] = answer
    assert found(away) == [away.key.public_key]
    assert seen == [1]
    assert not KeyFetch.objects.filter(lease_until__isnull=False).exists()


def test_four_who_share_only_the_database_make_one_query(notary, away):
    notary.keep(published(away))

    def answer(_request):
        time.sleep(0.3)
        return 200, {"server_keys": notary.objects}

    notary.endpoints["POST", "query"] = answer
    results = at_once(4, lambda: len(keyring.__wrapped__().event_keys([(AWAY, away.key.key_id, now_ms())])))
    assert results == [1] * 4
    assert len(notary.queries) == 1


def test_a_query_names_a_hundred_servers_at_most(network):
    asked = []

    def query(_notary, servers, _seconds):
        asked.append(len(servers))
        return b'{"server_keys":[]}'

    ring = Keyring(fetch=network, query=query, notaries=["notary.example.org"])
    ring.event_keys([(f"s{number}.example.org", "ed25519:1", now_ms()) for number in range(MAX_SERVERS_PER_QUERY + 5)])
    assert asked == [MAX_SERVERS_PER_QUERY, 5]


# One answer, and the time for all of them.

NOTARY, ITS_KEY = "notary.example.org", key(5)


class Asked:
    """Asks one notary about PEER, without a network: what it was given time for, and which of its keys were wanted."""

    def __init__(self, *objects, names=(NOTARY,)):
        self.seconds, self.wanted = [], []
        body = json.dumps({"server_keys": objects}).encode()

        def query(_notary, _servers, seconds):
            self.seconds.append(seconds)
            return body

        def keys(_notary, key_id):
            self.wanted.append(key_id)
            return [VerifyKey.from_bytes(ITS_KEY.public_key, valid_until_ts=NOW)] if key_id == ITS_KEY.key_id else []

        self.found = Notaries(names, query=query, keys=keys, clock=Clock()).ask([PEER])


def passed_on(*keys):
    """PEER's keys as the notary passes them on."""
    return sign_object(json.loads(answer(*keys)), server=NOTARY, key=ITS_KEY)


@pytest.mark.parametrize("times", [1, 3])
def test_a_notarys_key_is_looked_up_once_for_all_objects_of_its_answer(times):
    asked = Asked(*[passed_on(key(1))] * times)
    assert len(asked.found) == times
    assert asked.wanted == [ITS_KEY.key_id]


@pytest.mark.parametrize(("before", "found"), [(DEFAULTS.notary_objects - 1, 1), (DEFAULTS.notary_objects, 0)])
def test_no_more_than_so_many_objects_of_an_answer_are_looked_at(before, found):
    assert len(Asked(*[{}] * before, passed_on(key(1))).found) == found


def test_no_more_than_so_many_signatures_of_a_notary_are_looked_at():
    value = passed_on(key(1))
    value["signatures"][NOTARY] |= {f"ed25519:x{number}": "x" for number in range(MAX_SIGNATURES)}
    assert len(Asked(value).wanted) == MAX_SIGNATURES


def test_one_query_has_five_seconds():
    assert Asked().seconds == [DEFAULTS.notary_query_seconds] == [5]


def test_all_queries_share_their_time(settings):
    settings.LIMITS = replace(DEFAULTS, notary_queries_seconds=2.0)
    first, second = Asked(names=[NOTARY, "other.example.org"]).seconds
    assert second <= first <= 2
    settings.LIMITS = replace(DEFAULTS, notary_queries_seconds=0.0)
    assert Asked().seconds == []


# What becomes of it.


def test_strangers_cannot_make_us_ask_notaries(notary, away, client):
    notary.keep(published(away))
    answer = client.get(f"/_matrix/key/v2/query/{AWAY}")
    assert answer.json() == {"server_keys": []}
    assert notary.requests == []


def test_what_came_from_a_notary_is_not_passed_on(notary, away, client):
    notary.keep(published(away))
    assert found(away)
    assert client.get(f"/_matrix/key/v2/query/{AWAY}").json() == {"server_keys": []}


def test_the_keyring_of_the_process_asks_the_configured_notaries(notary, away):
    notary.keep(published(away))
    assert keyring().event_keys([(AWAY, away.key.key_id, now_ms())])


@pytest.mark.parametrize("name", ["127.0.0.1", "not a name", "", "hub.example.org"])
def test_a_server_does_not_start_with_a_notary_that_is_no_other_server(settings, name):
    settings.NOTARIES = ["fine.example.org", name]
    with pytest.raises(ImproperlyConfigured, match="LINMATRIX_NOTARIES"):
        KeysConfig.create("keys").ready()
