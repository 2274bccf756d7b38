"""The embedded Valkey keeps what it was given, and lets nobody in without the password."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from linmatrix.stack.valkey import Valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def test_it_keeps_its_data_and_its_address(valkey: Valkey) -> None:
    url = valkey.url()
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
    valkey.stop()
    assert valkey.start() == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_it_asks_for_the_password(valkey: Valkey) -> None:
    with redis.Redis(port=valkey.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_it_can_be_killed_and_started_again(valkey: Valkey) -> None:
    valkey.kill()
    assert not valkey.alive
    with redis.Redis.from_url(valkey.start()) as client:
        assert client.ping()
