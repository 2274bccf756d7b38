"""Handles go from thread to thread with their connections, and never to two threads at once."""

import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pycurl
import pytest
import trustme

from linmatrix.transport.errors import Unreachable
from linmatrix.transport.handles import Handles
from linmatrix.transport.http import HttpClient
from tests.transport.peers import ScriptedPeer, answer, server_context

SECONDS = 20


def ask(client: HttpClient, peer: ScriptedPeer) -> None:
    client.request(f"hub.example.org:{peer.port}", "GET", "/", headers={}, timeout=SECONDS, max_response_bytes=100)


def in_a_thread_of_its_own(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@contextmanager
def scripted(certificate: trustme.LeafCert, count: int) -> Iterator[list[ScriptedPeer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ScriptedPeer(server_context(certificate), answer())) for _ in range(count)]


def test_a_connection_serves_whichever_thread_asks_next(client: HttpClient, hub_certificate: trustme.LeafCert) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        for _ in range(5):
            in_a_thread_of_its_own(lambda: ask(client, peer))
    assert (len(peer.requests), peer.connections) == (5, 1)


def test_threads_that_ask_at_the_same_time_have_a_connection_each(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    all_asked = threading.Barrier(4)

    def script(connection: ssl.SSLSocket, head: bytes) -> None:
        all_asked.wait(SECONDS)
        answer()(connection, head)

    with ScriptedPeer(server_context(hub_certificate), script) as peer, ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            list(pool.map(lambda _number: ask(client, peer), range(4)))
    assert (len(peer.requests), peer.connections) == (8, 4)


def test_many_servers_asked_in_turn_by_many_threads_are_connected_to_once(
    client: HttpClient, hub_certificate: trustme.LeafCert
) -> None:
    with scripted(hub_certificate, 8) as peers:
        for _ in range(3):
            for peer in peers:
                in_a_thread_of_its_own(lambda peer=peer: ask(client, peer))  # type: ignore[misc]
    assert [peer.connections for peer in peers] == [1] * 8


def test_a_handle_whose_request_failed_is_used_again(client: HttpClient, hub_certificate: trustme.LeafCert) -> None:
    with scripted(hub_certificate, 1) as (peer,):
        ask(client, peer)
    with pytest.raises(Unreachable):
        ask(client, peer)
    with ScriptedPeer(server_context(hub_certificate), answer(), port=peer.port) as again:
        ask(client, again)
    assert again.connections == 1


def lent(handles: Handles, *places: str) -> list[pycurl.Curl]:
    """The handles that are lent for these places one after the other."""
    found = []
    for place in places:
        with handles.lend((place,)) as handle:
            found.append(handle)
    return found


def lent_together(handles: Handles, *places: str) -> list[pycurl.Curl]:
    """The handles that are lent for these places at the same time."""
    with ExitStack() as stack:
        return [stack.enter_context(handles.lend((place,))) for place in places]


def test_there_are_as_many_handles_as_requests_at_once() -> None:
    handles = Handles(pycurl.Curl, connections=16)
    assert len(set(lent(handles, *map(str, range(100))))) == 1
    assert len(set(lent_together(handles, *map(str, range(5))))) == 5
    assert len(set(lent(handles, *map(str, range(100))))) <= 5


def test_each_place_gets_the_handle_that_knows_it() -> None:
    handles = Handles(pycurl.Curl, connections=16)
    one, two, three = lent_together(handles, "one", "two", "three")
    assert lent(handles, "two", "three", "one", "two") == [two, three, one, two]


def test_a_new_place_goes_to_the_handle_with_the_fewest() -> None:
    handles = Handles(pycurl.Curl, connections=16)
    one, two = lent_together(handles, "one", "two")
    assert {*lent(handles, "three", "four")} == {one, two}
