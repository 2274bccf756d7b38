"""The console shows keys and lets nobody change them."""

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client

from keys import history, leases
from keys.fetchers import parse_server_keys
from keys.models import KeyFetch, ServerKey
from linmatrix.protocol.encoding import encode_base64
from tests.support.keys import NOW, PEER, answer, key

pytestmark = pytest.mark.django_db

ONE, TWO = key(1, "one"), key(2, "two")


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    history.store(parse_server_keys(answer(ONE, old={TWO: 0}), server=PEER, now_ms=NOW), now_ms=NOW)
    leases.take(PEER, now_ms=NOW)
    return client


def test_keys_are_listed_and_found(console: Client) -> None:
    page = console.get("/admin/keys/serverkey/", {"q": "peer.example"}, secure=True).content.decode()
    assert encode_base64(ONE.public_key) in page
    assert "2 server keys" in page


def test_a_key_shows_its_answer(console: Client) -> None:
    found = ServerKey.objects.get(key_id=ONE.key_id)
    page = console.get(f"/admin/keys/serverkey/{found.pk}/change/", secure=True).content.decode()
    assert "m.linearized" in page


def test_fetches_are_listed(console: Client) -> None:
    assert PEER in console.get("/admin/keys/keyfetch/", secure=True).content.decode()


@pytest.mark.parametrize("model", ["serverkey", "keyfetch"])
def test_nothing_can_be_added_changed_or_deleted(console: Client, model: str) -> None:
    pk = ServerKey.objects.get(current=True).pk if model == "serverkey" else quote(PEER)
    for path in ("add/", f"{pk}/change/", f"{pk}/delete/"):
        assert console.post(f"/admin/keys/{model}/{path}", {}, secure=True).status_code == 403
    assert (ServerKey.objects.count(), KeyFetch.objects.count()) == (2, 1)
