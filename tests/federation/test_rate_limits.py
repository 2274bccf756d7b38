"""Buckets of requests in a real Redis: per origin and endpoint, shared by processes, no obstacle when it is away."""

import logging
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from federation.errors import ApiError
from federation.rate_limits import (
    DEFAULT_RATES,
    LOG_SECONDS,
    MAX_RETRY_MS,
    QUIET_SECONDS,
    Rate,
    RateLimiter,
    check_rate,
    configured_rates,
    rate_limiter,
)
from federation.urls import urlpatterns
from linmatrix.stack.valkey import Valkey
from rooms.models import Room
from tests.support.peers import Peer

SLOW = Rate(per_second=0.01, burst=3)


def limiter(rate: Rate = SLOW, **options) -> RateLimiter:
    return RateLimiter(settings.REDIS_URL, {"event": rate, "state": rate}, ours="hub.example.org", **options)


@pytest.fixture
def origin() -> str:
    """A server that no bucket knows."""
    return f"{secrets.token_hex(8)}.example.org"


def passed(limits: RateLimiter, origin: str, endpoint: str = "event", *, tries: int) -> int:
    """How many of some requests pass."""
    count = 0
    for _ in range(tries):
        try:
            limits.check(origin, endpoint)
            count += 1
        except ApiError:
            continue
    return count


def test_one_request_too_many_is_told_when_to_come_back(origin: str) -> None:
    limits = limiter()
    assert passed(limits, origin, tries=3) == 3
    with pytest.raises(ApiError, match=r"3 at once, 0\.01 a second") as caught:
        limits.check(origin, "event")
    body = caught.value.response()
    assert body.status_code == 429
    assert caught.value.errcode == "M_LIMIT_EXCEEDED"
    assert 90_000 < caught.value.extra["retry_after_ms"] <= 100_000


@pytest.mark.parametrize(("twin", "endpoint"), [("other", "event"), ("same", "state")])
def test_another_origin_and_another_endpoint_have_buckets_of_their_own(twin: str, endpoint: str, origin: str) -> None:
    limits = limiter()
    assert passed(limits, origin, tries=4) == 3
    assert passed(limits, origin if twin == "same" else f"{twin}.{origin}", endpoint, tries=4) == 3


def test_all_processes_share_a_bucket(origin: str) -> None:
    assert passed(limiter(), origin, tries=2) == 2
    assert passed(limiter(), origin, tries=2) == 1


def test_racing_requests_get_no_more_than_there_is(origin: str) -> None:
    limits = limiter(Rate(per_second=0.01, burst=20))
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: passed(limits, origin, tries=10), range(8))) == 20


def let_pass(milliseconds: int, origin: str) -> None:
    """Have an origin's bucket as it will be after some time."""
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        [key] = client.keys(f"linmatrix:rate:*{origin}")
        client.set(key, int(client.get(key)) - 1000 * milliseconds, keepttl=True)


def test_who_waits_as_told_passes_and_a_refused_request_costs_nothing(origin: str) -> None:
    limits = limiter()
    assert passed(limits, origin, tries=50) == 3
    with pytest.raises(ApiError) as caught:
        limits.check(origin, "event")
    wait = caught.value.extra["retry_after_ms"]
    let_pass(wait - 50_000, origin)
    assert passed(limits, origin, tries=1) == 0
    let_pass(50_000, origin)
    assert passed(limits, origin, tries=2) == 1


def test_a_bucket_that_is_full_again_is_kept_nowhere(origin: str) -> None:
    limits = limiter()
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for requests in (1, 2, 3):
            limits.check(origin, "event")
            [key] = client.keys(f"linmatrix:rate:*{origin}")
            assert requests * 100_000 - 10_000 < client.pttl(key) <= requests * 100_000


def test_the_wait_that_is_asked_for_has_an_end(origin: str) -> None:
    limits = limiter(Rate(per_second=0.00001, burst=1))
    limits.check(origin, "event")
    with pytest.raises(ApiError) as caught:
        limits.check(origin, "event")
    assert caught.value.extra["retry_after_ms"] == MAX_RETRY_MS


def test_two_servers_at_one_redis_do_not_spend_each_others_tokens(origin: str) -> None:
    assert passed(limiter(), origin, tries=3) == 3
    theirs = RateLimiter(settings.REDIS_URL, {"event": SLOW}, ours="another.example.org")
    assert passed(theirs, origin, tries=3) == 3


# Without Redis


def test_requests_pass_without_redis_and_this_is_said_once_a_minute(
    origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    away = RateLimiter("redis://127.0.0.1:1/0", {"event": SLOW}, ours="hub.example.org", clock=lambda: now[0])
    with caplog.at_level(logging.WARNING, logger="federation.rate_limits"):
        assert passed(away, origin, tries=10) == 10
        while now[0] < 1000 + LOG_SECONDS:
            assert passed(away, origin, tries=1) == 1
            now[0] += QUIET_SECONDS
        assert len(caplog.records) == 1
        assert passed(away, origin, tries=1) == 1
    assert len(caplog.records) == 2


def test_limits_come_back_with_redis(origin: str, tmp_path: Path) -> None:
    now = [0.0]
    valkey = Valkey(tmp_path / "valkey")
    limits = RateLimiter(valkey.start(), {"event": SLOW}, ours="hub.example.org", clock=lambda: now[0])
    try:
        assert passed(limits, origin, tries=4) == 3
        valkey.kill()
        assert passed(limits, origin, tries=4) == 4
        valkey.start()
        assert passed(limits, origin, tries=4) == 4, "it is not asked again at once"
        now[0] += QUIET_SECONDS
        assert passed(limits, f"new.{origin}", tries=4) == 3
    finally:
        valkey.stop()


# Which endpoints


def test_what_the_draft_does_not_mark_is_never_limited(origin: str) -> None:
    for endpoint in ("send", "server", "query", ""):
        for _ in range(2000):
            check_rate(origin, endpoint)


@pytest.fixture
def defaults() -> Iterator[None]:
    """The rates that nobody has changed."""
    rate_limiter.cache_clear()
    with override_settings(RATE_LIMITS={}):
        yield
    rate_limiter.cache_clear()


def test_the_process_has_the_rates_of_the_settings(origin: str, defaults: None) -> None:
    def ask(times: int) -> None:
        for _ in range(times):
            check_rate(origin, "state")

    burst = DEFAULT_RATES["state"].burst
    ask(burst)
    with pytest.raises(ApiError, match=f"{burst} at once"):
        ask(1000)  # on a slow machine some more are refilled meanwhile


def test_every_endpoint_that_we_serve_is_limited_but_send() -> None:
    assert {pattern.name for pattern in urlpatterns} == {*DEFAULT_RATES, "send"}


def test_settings_change_a_rate_or_take_it_away() -> None:
    rates = configured_rates({"event": [1, 2], "invite": None})
    assert rates["event"] == Rate(1.0, 2)
    assert "invite" not in rates
    assert rates["state"] == DEFAULT_RATES["state"]


@pytest.mark.parametrize("changes", [{"send": [1, 1]}, {"event": [0, 1]}, {"event": [1, 0]}, {"event": [1, 10**7]}])
def test_settings_that_make_no_sense_are_refused_at_the_start(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"rate-limited|numbers above 0"):
        configured_rates(changes)


@pytest.mark.parametrize("changes", [{"send": [1, 1]}, {"event": [0, 1]}, {"event": 5}, {"event": [1]}])
def test_a_setting_that_cannot_be_followed_stops_the_start_with_its_name(changes: Any) -> None:
    with override_settings(RATE_LIMITS=changes), pytest.raises(ImproperlyConfigured, match="LINMATRIX_RATE_LIMITS"):
        apps.get_app_config("federation").ready()
    with override_settings(RATE_LIMITS={"event": [5, 10], "backfill": None}):
        apps.get_app_config("federation").ready()


@pytest.fixture
def limited() -> Iterator[None]:
    """We let each origin ask for a template of a join twice, and then about once an hour."""
    rate_limiter.cache_clear()
    with override_settings(RATE_LIMITS={"make_join": [0.0003, 2]}):
        yield
    rate_limiter.cache_clear()


def test_a_request_too_many_is_a_429_that_says_when_to_come_again(peer: Peer, hosted: Room, limited: None) -> None:
    def ask(origin: Peer) -> Any:
        return origin.get("make_join", hosted.room_id, origin.user("user"), version="v1", query="ver=I.1")

    # A name that no other test has used, whose bucket is full.
    often = Peer(f"often{secrets.token_hex(4)}.example.org").publish()
    assert [ask(often).status_code for _ in range(2)] == [400, 400]
    refused = ask(often)
    assert (refused.status_code, refused.json()["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    assert 0 < refused.json()["retry_after_ms"] <= MAX_RETRY_MS
    another = Peer(f"another{secrets.token_hex(4)}.example.org").publish()
    assert ask(another).status_code == 400


def test_a_request_without_a_valid_signature_is_counted_for_nobody(hosted: Room, limited: None) -> None:
    target = f"/_matrix/federation/v1/make_join/{quote(hosted.room_id)}/x?ver=I.1"
    often = Peer(f"often{secrets.token_hex(4)}.example.org").publish()
    assert [often.request("GET", target, header="").status_code for _ in range(4)] == [401] * 4
    assert often.request("GET", target).status_code == 400
