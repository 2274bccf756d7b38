"""The client of this process, made from the settings."""

from collections.abc import Iterator

import pytest
from django.conf import settings as configured

from keys.http import http_client
from linmatrix.transport.errors import NotConnected
from linmatrix.transport.http import HttpClient
from tests.transport.peers import plain_peer


@pytest.fixture(autouse=True)
def _made_anew() -> Iterator[None]:
    http_client.cache_clear()
    yield
    http_client.cache_clear()


def ask(client: HttpClient, name: str) -> int:
    return client.request(name, "GET", "/", headers={}, timeout=20, max_response_bytes=1000).status


def test_it_goes_where_the_operator_says(settings):
    with plain_peer() as (port, seen):
        settings.SERVER_OVERRIDES = {"peer.localhost:3500": f"http://127.0.0.1:{port}"}
        assert ask(http_client(), "peer.localhost:3500") == 200
    assert seen == ["HTTP/1.1 / peer.localhost:3500"]


def test_there_are_no_overrides_unless_they_are_set() -> None:
    assert configured.SERVER_OVERRIDES == {}


def test_private_addresses_are_refused_unless_the_settings_allow_them(settings):
    settings.ALLOW_PRIVATE_ADDRESSES = False
    with pytest.raises(NotConnected, match="loopback"):
        ask(http_client(), "peer.localhost:3500")


def test_there_is_one_for_all() -> None:
    assert http_client() is http_client()
