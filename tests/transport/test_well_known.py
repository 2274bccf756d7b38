""".well-known delegation from the asking side, against a real web server (decisions 72 and 73, threats T2 to T4).

The web server holds the names under `example.org`; it is asked on the port that stands in for 443.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import trustme

from linmatrix.limits import DEFAULTS
from linmatrix.transport.errors import Unreachable
from linmatrix.transport.exchange import Exchange
from linmatrix.transport.hosts import FAILURE_TTL, Hosts
from linmatrix.transport.lookup import Answer
from linmatrix.transport.trust import TrustStore
from linmatrix.transport.well_known import (
    DEFAULT_TTL,
    FIRST_ERROR_TTL,
    MAX_ERROR_TTL,
    MAX_TTL,
    MIN_TTL,
    WellKnown,
)
from tests.support.web import WELL_KNOWN, AtPort443, Web, delegate, redirect
from tests.transport.clock import Clock
from tests.transport.peers import Script, answer, server_context

PAGE = f"example.org{WELL_KNOWN}"
TO = "matrix.example.org:443"


class Asking:
    """A `WellKnown` that finds every name at the web server, but for `inside.example.org`, which is at `inside`."""

    def __init__(self, web: Web, ca_file: str, *, allow_private: bool = True) -> None:
        self.clock = Clock()
        self.known_to_dns = True
        self.inside = "127.0.0.1"
        exchange = Exchange(user_agent="tests", trust=TrustStore(ca_file), allow_tls12=True)
        hosts = Hosts(self._look_up, allow_private=allow_private, clock=self.clock)
        self._well_known = WellKnown(hosts, AtPort443(exchange, web.port), clock=self.clock)

    def _look_up(self, host: str, _within: float) -> Answer:
        if not self.known_to_dns:
            raise Unreachable(f"{host} could not be looked up in time")
        return Answer((self.inside if host == "inside.example.org" else "127.0.0.1",), 60.0)

    def __call__(self, host: str = "example.org", *, seconds: float = 30.0) -> str | None:
        return self._well_known.delegated(host, time.monotonic() + seconds)


@pytest.fixture
def web(authority: trustme.CA) -> Iterator[Web]:
    certificate = authority.issue_cert("example.org", "www.example.org", "inside.example.org")
    with Web(server_context(certificate), {}) as server:
        yield server


@pytest.fixture
def ask(web: Web, ca_file: str) -> Asking:
    return Asking(web, ca_file)


def test_a_valid_answer_delegates(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = delegate(TO)
    assert ask() == TO
    assert web.server_names == ["example.org"]
    assert b"\r\nHost: example.org\r\n" in web.requests[0]


def test_the_content_type_does_not_matter(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = delegate(TO, "Content-Type: text/html")
    assert ask() == TO


def test_other_members_do_not_matter(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = answer(body=b'{"m.server": "a.example", "m.client": {"x": [1.5]}}')
    assert ask() == "a.example"


INVALID: dict[str, Script] = {
    "not found": answer("404 Not Found", b'{"m.server": "a.example"}'),
    "a failure": answer("500 Internal Server Error", b'{"m.server": "a.example"}'),
    "another success": answer("203 Non-Authoritative Information", b'{"m.server": "a.example"}'),
    "not JSON": answer(body=b"<html>"),
    "no body": answer(body=b""),
    "not UTF-8": answer(body=b'{"m.server": "\xff"}'),
    "no object": answer(body=b'["m.server"]'),
    "no m.server": answer(body=b"{}"),
    "m.server twice": answer(body=b'{"m.server": "a.example", "m.server": "b.example"}'),
    "m.server null": answer(body=b'{"m.server": null}'),
    "m.server a number": answer(body=b'{"m.server": 8448}'),
    "m.server empty": delegate(""),
    "an IPv4 address": delegate("127.0.0.1"),
    "an IPv4 address with a port": delegate("8.8.8.8:8448"),
    "an IPv4 address in disguise": delegate("0x7f.1"),
    "an IPv6 address": delegate("[::1]:8448"),
    "a URL": delegate("https://a.example"),
    "port zero": delegate("a.example:0"),
    "a trailing dot": delegate("a.example."),
    "compressed": answer("200 OK", b"\x1f\x8b", "Content-Encoding: gzip"),
    "a hang-up": lambda connection, _head: connection.close(),
}


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_answer_delegates_nothing(web: Web, ask: Asking, kind: str) -> None:
    web.pages[PAGE] = INVALID[kind]
    assert ask() is None
    assert web.visited == [PAGE]


def test_a_host_without_a_web_server_delegates_nothing(web: Web, ask: Asking) -> None:
    web.stop_listening()
    assert ask() is None


def test_an_ordinary_certificate_is_needed(web: Web, ask: Asking) -> None:
    web.pages[f"other.example.org{WELL_KNOWN}"] = delegate(TO)
    assert ask("other.example.org") is None
    assert web.visited == []


def test_tls_1_2_is_enough_for_a_web_server(authority: trustme.CA, ca_file: str) -> None:
    context = server_context(authority.issue_cert("example.org"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Web(context, {PAGE: delegate(TO)}) as server:
        assert Asking(server, ca_file)() == TO


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_followed(web: Web, ask: Asking, status: str) -> None:
    web.pages |= {PAGE: redirect("/a/../b?c#d", status), "example.org/b?c": delegate(TO)}
    assert ask() == TO


def test_a_redirect_to_another_name_is_verified_under_that_name(web: Web, ask: Asking) -> None:
    web.pages |= {PAGE: redirect("https://www.example.org/m"), "www.example.org/m": delegate(TO)}
    assert ask() == TO
    assert web.server_names == ["example.org", "www.example.org"]


def test_a_redirect_to_a_name_that_the_certificate_is_not_for_ends_there(web: Web, ask: Asking) -> None:
    web.pages |= {PAGE: redirect("https://other.example.org/m"), "other.example.org/m": delegate(TO)}
    assert ask() is None
    assert web.visited == [PAGE]


def test_a_redirect_may_name_a_port(web: Web, ask: Asking) -> None:
    there = f"www.example.org:{web.port}"
    web.pages |= {PAGE: redirect(f"https://{there}/m"), f"{there}/m": delegate(TO)}
    assert ask() == TO


@pytest.mark.parametrize(
    "location",
    [
        "http://example.org/m",
        "//127.0.0.1/m",
        "https://127.0.0.1/m",
        "https://2130706433/m",
        "https://[::1]/m",
        "https://[::1/m",
        "https://user@example.org/m",
        "https://example.org:0/m",
        "https://example.org:99999/m",
        "file:///etc/passwd",
        "ftp://example.org/m",
        "gopher://example.org/m",
        "/with a space",
        "",
    ],
)
def test_a_redirect_to_anything_but_https_at_a_host_name_ends_there(web: Web, ask: Asking, location: str) -> None:
    web.pages |= {PAGE: redirect(location), "example.org/m": delegate(TO), "user@example.org/m": delegate(TO)}
    assert ask() is None
    assert web.visited == [PAGE]


@pytest.mark.parametrize("status", ["300 Multiple Choices", "304 Not Modified", "305 Use Proxy"])
def test_other_statuses_with_a_location_are_no_redirects(web: Web, ask: Asking, status: str) -> None:
    web.pages |= {PAGE: redirect("/m", status), "example.org/m": delegate(TO)}
    assert ask() is None
    assert web.visited == [PAGE]


def test_a_redirect_without_a_location_ends_there(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = answer("302 Found", b"")
    assert ask() is None
    assert web.visited == [PAGE]


@pytest.mark.parametrize(("inside", "expected"), [("127.0.0.1", TO), ("169.254.169.254", None), ("0.0.0.0", None)])  # noqa: S104
def test_a_redirect_to_an_address_that_is_never_allowed_is_refused(
    web: Web, ask: Asking, inside: str, expected: str | None
) -> None:
    ask.inside = inside
    web.pages |= {PAGE: redirect("https://inside.example.org/m"), "inside.example.org/m": delegate(TO)}
    assert ask() == expected
    assert len(web.visited) == (2 if expected else 1)


def test_no_private_address_is_asked_unless_they_are_allowed(web: Web, ca_file: str) -> None:
    web.pages[PAGE] = delegate(TO)
    assert Asking(web, ca_file, allow_private=False)() is None
    assert web.connections == 0
    assert Asking(web, ca_file, allow_private=True)() == TO


def chain(web: Web, length: int) -> None:
    """A chain of this many redirects, and then a valid answer."""
    pages = [PAGE, *(f"example.org/{number}" for number in range(length))]
    web.pages |= {page: redirect(f"https://{to}") for page, to in pairwise(pages)}
    web.pages[pages[-1]] = delegate(TO)


def test_five_redirects_are_followed_and_no_sixth(web: Web, ca_file: str) -> None:
    assert DEFAULTS.well_known_redirects == 5
    chain(web, DEFAULTS.well_known_redirects)
    assert Asking(web, ca_file)() == TO
    web.visited.clear()
    chain(web, DEFAULTS.well_known_redirects + 1)
    assert Asking(web, ca_file)() is None
    assert len(web.visited) == DEFAULTS.well_known_redirects + 1


def test_a_loop_ends_where_it_closes(web: Web, ask: Asking) -> None:
    web.pages |= {PAGE: redirect("/b"), "example.org/b": redirect(f"https://example.org{WELL_KNOWN}")}
    assert ask() is None
    assert web.visited == [PAGE, "example.org/b"]


@pytest.mark.parametrize(("over", "expected"), [(0, "a.example"), (1, None)])
def test_fifty_kibibytes_are_read_and_no_more(web: Web, ask: Asking, over: int, expected: str | None) -> None:
    body = b'{"m.server": "a.example"}'
    web.pages[PAGE] = answer(body=body + b" " * (DEFAULTS.well_known_bytes - len(body) + over))
    assert (ask(), DEFAULTS.well_known_bytes) == (expected, 51200)


def drip(connection: ssl.SSLSocket, _head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def test_a_slow_answer_takes_half_of_the_time_and_is_asked_for_again_soon(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = drip
    began = time.monotonic()
    assert ask(seconds=3) is None
    assert 1.4 < time.monotonic() - began < 3
    web.pages[PAGE] = delegate(TO)
    ask.clock.now = FAILURE_TTL - 1
    assert ask() is None
    ask.clock.now = FAILURE_TTL + 1
    assert ask() == TO


def test_what_took_less_than_a_second_is_asked_for_again_at_once(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = drip
    assert ask(seconds=1) is None
    web.pages[PAGE] = delegate(TO)
    assert ask() == TO


def test_one_deadline_holds_for_all_redirects(web: Web, ask: Asking) -> None:
    def slowly(script: Script) -> Script:
        def answer_later(connection: ssl.SSLSocket, head: bytes) -> None:
            time.sleep(0.4)
            script(connection, head)

        return answer_later

    chain(web, 5)
    web.pages = {page: slowly(script) for page, script in web.pages.items()}
    assert ask(seconds=2) is None, "each takes less than the second that all may take together"


def test_with_time_to_spare_ten_seconds_are_the_limit(web: Web, ca_file: str) -> None:
    given: list[float] = []
    exchange = Exchange(user_agent="tests", trust=TrustStore(ca_file), allow_tls12=True)

    class Timed(AtPort443):
        def send(self, request, *, target, deadline):
            given.append(deadline - time.monotonic())
            return super().send(request, target=target, deadline=deadline)

    web.pages[PAGE] = delegate(TO)
    hosts = Hosts(lambda _host, _within: Answer(("127.0.0.1",), 60.0), allow_private=True, clock=Clock())
    asking = WellKnown(hosts, Timed(exchange, web.port), clock=Clock())
    assert asking.delegated("example.org", time.monotonic() + 60) == TO
    assert DEFAULTS.well_known_seconds == 10
    assert 9 < given[0] <= 10


CACHED: dict[str, tuple[tuple[str, ...], float]] = {
    "no headers": ((), DEFAULT_TTL),
    "an hour": (("Cache-Control: max-age=3600",), 3600),
    "by Expires": (("Date: Tue, 01 Jul 2025 12:00:00 GMT", "Expires: Tue, 01 Jul 2025 13:00:00 GMT"), 3600),
    "ten years": (("Cache-Control: max-age=315360000",), MAX_TTL),
    "for ever and ever": ((f"Cache-Control: max-age={'9' * 20}", f"Age: {'9' * 20}"), MIN_TTL),
    "ten years by Expires": (
        ("Date: Tue, 01 Jul 2025 12:00:00 GMT", "Expires: Mon, 02 Jul 2035 12:00:00 GMT"),
        MAX_TTL,
    ),
    "a second": (("Cache-Control: max-age=1",), MIN_TTL),
    "never": (("Cache-Control: no-store",), MIN_TTL),
}


@pytest.mark.parametrize("headers", CACHED)
def test_an_answer_is_kept_as_long_as_it_says_within_bounds(web: Web, ask: Asking, headers: str) -> None:
    lines, kept = CACHED[headers]
    web.pages[PAGE] = delegate(TO, *lines)
    for now, visits in [(0, 1), (kept - 1, 1), (kept + 1, 2)]:
        ask.clock.now = now
        assert ask("Example.ORG") == TO
        assert len(web.visited) == visits


def test_the_bounds_are_the_drafts() -> None:
    assert (DEFAULT_TTL, MAX_TTL, MAX_ERROR_TTL) == (24 * 3600, 48 * 3600, 3600)


def test_an_answer_whose_time_is_over_is_not_used_again(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = delegate(TO, "Cache-Control: max-age=300")
    assert ask() == TO
    web.pages[PAGE] = answer("500 Internal Server Error")
    ask.clock.now = 299
    assert ask() == TO
    ask.clock.now = 301
    assert ask() is None


def until_asked_again(web: Web, ask: Callable[[], str | None], clock: Clock) -> float:
    """Seconds that pass until the web server is asked again, to within a second."""
    began, visits = clock.now, len(web.visited)
    while len(web.visited) == visits:
        clock.now += 1
        ask()
    return clock.now - began


def test_errors_in_a_row_are_kept_twice_as_long_each_up_to_an_hour(web: Web, ask: Asking) -> None:
    ask()
    waits = [until_asked_again(web, ask, ask.clock) for _ in range(9)]
    assert waits == [FIRST_ERROR_TTL * 2**n for n in range(6)] + [MAX_ERROR_TTL] * 3
    web.pages[PAGE] = delegate(TO, "Cache-Control: max-age=60")
    until_asked_again(web, ask, ask.clock)
    del web.pages[PAGE]
    until_asked_again(web, ask, ask.clock)
    assert until_asked_again(web, ask, ask.clock) == FIRST_ERROR_TTL, "a good answer ends the row"


def test_a_failure_of_dns_says_nothing_of_the_web_server(web: Web, ask: Asking) -> None:
    web.pages[PAGE] = delegate(TO)
    ask.known_to_dns = False
    assert ask() is None
    ask.known_to_dns = True
    ask.clock.now = FAILURE_TTL + 1
    assert ask() == TO


def test_many_who_want_to_know_at_once_cost_one_request(web: Web, ask: Asking) -> None:
    begun, release = threading.Event(), threading.Event()

    def wait(connection: ssl.SSLSocket, head: bytes) -> None:
        begun.set()
        release.wait(20)
        delegate(TO)(connection, head)

    web.pages[PAGE] = wait
    with ThreadPoolExecutor(20) as pool:
        results = [pool.submit(ask) for _ in range(20)]
        assert begun.wait(20)
        time.sleep(0.2)
        assert ask(seconds=0.2) is None, "one in a hurry goes on without"
        release.set()
        assert [result.result() for result in results] == [TO] * 20
    assert len(web.visited) == 1
