"""The console shows keys and lets nobody edit them; asking again and rotating have permissions of their own."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils.html import strip_tags

from keys import history, leases, local
from keys.asking_again import MAX_REFETCHED
from keys.clock import now_ms
from keys.fetchers import check_server_keys, parse_server_keys
from keys.models import KeyFetch, KeyResponse, ServerKey
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from tests.support.keys import NOW, PEER, answer, key
from tests.support.tls_peer import TlsPeer

pytestmark = pytest.mark.django_db

ONE, TWO = key(1, "one"), key(2, "two")


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    history.store(parse_server_keys(answer(ONE, old={TWO: 0}), server=PEER, now_ms=NOW), now_ms=NOW)
    leases.take(PEER, now_ms=NOW)
    return client


def in_words(page: str) -> str:
    """What a page says, without its markup."""
    return " ".join(strip_tags(page).split())


def test_keys_are_listed_and_found(console: Client) -> None:
    page = console.get("/admin/keys/serverkey/", {"q": "peer.example"}, secure=True).content.decode()
    assert encode_base64(ONE.public_key) in page
    assert "2 server keys" in in_words(page)


def test_a_key_shows_its_answer(console: Client) -> None:
    found = ServerKey.objects.get(key_id=ONE.key_id)
    page = console.get(f"/admin/keys/serverkey/{found.pk}/change/", secure=True).content.decode()
    assert "m.linearized" in page


def test_fetches_are_listed(console: Client) -> None:
    assert PEER in console.get("/admin/keys/keyfetch/", secure=True).content.decode()


@pytest.mark.parametrize("model", ["serverkey", "keyresponse", "keyfetch"])
def test_nothing_can_be_added_changed_or_deleted(console: Client, model: str) -> None:
    pks = {
        "serverkey": ServerKey.objects.get(current=True).pk,
        "keyresponse": KeyResponse.objects.get().pk,
        "keyfetch": quote(PEER),
    }
    for path in ("add/", f"{pks[model]}/change/", f"{pks[model]}/delete/"):
        assert console.post(f"/admin/keys/{model}/{path}", {}, secure=True).status_code == 403
    assert (ServerKey.objects.count(), KeyResponse.objects.count(), KeyFetch.objects.count()) == (2, 1, 1)


def test_answers_are_listed_and_shown(console: Client) -> None:
    page = console.get("/admin/keys/keyresponse/", {"server": PEER}, secure=True).content.decode()
    assert "ed25519:one, ed25519:two" in page
    pk = KeyResponse.objects.get().pk
    page = console.get(f"/admin/keys/keyresponse/{pk}/change/", secure=True).content.decode()
    assert "valid_until_ts" in page


def test_a_key_leads_to_all_answers_of_its_server(console: Client) -> None:
    found = ServerKey.objects.get(key_id=ONE.key_id)
    page = console.get(f"/admin/keys/serverkey/{found.pk}/change/", secure=True).content.decode()
    assert f"/admin/keys/keyresponse/?server={PEER}" in page


def test_a_key_from_a_notary_says_so(console: Client) -> None:
    value = canonical_json.loads_object(answer(ONE))
    history.store(check_server_keys(value, server=PEER, now_ms=NOW, notary="notary.example.org"), now_ms=NOW)
    page = console.get("/admin/keys/serverkey/", {"notary__isempty": "0"}, secure=True).content.decode()
    assert "the notary notary.example.org" in page
    assert "1 server key" in in_words(page)


def permitted(*codenames: str) -> Client:
    """A console for an operator who may see keys and has these permissions besides."""
    user = User.objects.create_user("clerk", is_staff=True)
    for codename in ("view_serverkey", "view_keyfetch", *codenames):
        user.user_permissions.add(Permission.objects.get(codename=codename, content_type__app_label="keys"))
    client = Client()
    client.force_login(user)
    return client


# Asking again.


def refetch(console: Client, model: str, *pks: object) -> str:
    form = {"action": "refetch", "_selected_action": list(pks)}
    return console.post(f"/admin/keys/{model}/", form, secure=True, follow=True).content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_server_is_asked_again_at_once(admin_client: Client, tls_peer: TlsPeer) -> None:
    tls_peer.publish()
    before = ServerKey.objects.get()
    leases.finish(leases.take(tls_peer.name, now_ms=now_ms()), now_ms=now_ms(), error="down")  # type: ignore[arg-type]
    assert f"Keys came from {tls_peer.name}." in refetch(admin_client, "keyfetch", tls_peer.name)
    assert ServerKey.objects.get().fetched_at > before.fetched_at
    assert f"Keys came from {tls_peer.name}." in refetch(admin_client, "serverkey", before.pk)
    assert len(tls_peer.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_a_server_that_does_not_answer_is_told_with_its_reason(admin_client: Client, tls_peer: TlsPeer) -> None:
    tls_peer.publish()
    tls_peer.endpoints["GET", "server"] = lambda _request: (503, {})
    page = refetch(admin_client, "serverkey", ServerKey.objects.get().pk)
    assert f"No keys from {tls_peer.name}: the answer has status 503" in page


def test_too_many_servers_at_once_are_not_asked(console: Client) -> None:
    names = [f"s{number}.example.org" for number in range(MAX_REFETCHED + 1)]
    KeyFetch.objects.bulk_create([KeyFetch(server=name) for name in names])
    assert f"at most {MAX_REFETCHED} servers" in refetch(console, "keyfetch", *names)
    assert not KeyFetch.objects.filter(server__in=names, asked_at__isnull=False).exists()


def test_asking_again_needs_its_permission(console: Client) -> None:
    pk = ServerKey.objects.get(current=True).pk
    KeyFetch.objects.all().delete()
    refetch(permitted("rotate_signing_key"), "serverkey", pk)
    assert not KeyFetch.objects.exists()


# Our own keys.

OWN, ROTATE = "/admin/keys/serverkey/own/", "/admin/keys/serverkey/own/rotate/"


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    """A key file of the test's own."""
    settings.SIGNING_KEY_FILE = tmp_path / "signing.key"
    return tmp_path / "signing.key"


def test_the_page_about_keys_leads_to_our_own(console: Client, file: Path) -> None:
    assert OWN in console.get("/admin/keys/serverkey/", secure=True).content.decode()
    page = console.get(OWN, secure=True).content.decode()
    assert local.signing_key().key_id in page
    assert encode_base64(local.signing_key().public_key) in page
    assert ROTATE in page


def test_rotation_is_confirmed_first(console: Client, file: Path) -> None:
    before = local.signing_key()
    page = console.get(ROTATE, secure=True).content.decode()
    assert f'name="key_id" value="{before.key_id}"' in page
    assert local.signing_key() == before


def test_a_confirmed_rotation_happens_once_and_is_on_record(console: Client, file: Path) -> None:
    before = local.signing_key().key_id
    secret = file.read_text().split()[2]
    page = console.post(ROTATE, {"key_id": before}, secure=True, follow=True).content.decode()
    new = local.signing_key().key_id
    assert new != before
    assert f"This server signs with {new} now." in page
    assert before in page
    assert secret not in page
    assert file.read_text().split()[2] not in page
    again = console.post(ROTATE, {"key_id": before}, secure=True, follow=True).content.decode()
    assert f"The key was not rotated: {before} does not sign, {new} does" in again
    assert local.signing_key().key_id == new
    (entry,) = LogEntry.objects.all()
    assert (entry.user.get_username(), entry.object_repr) == ("operator", new)
    assert entry.change_message == f"Rotated the signing key {before}."


def test_a_form_without_a_key_rotates_nothing(console: Client, file: Path) -> None:
    before = local.signing_key()
    assert "was not rotated" in console.post(ROTATE, {}, secure=True, follow=True).content.decode()
    assert local.signing_key() == before


def test_a_file_that_cannot_be_replaced_is_told(console: Client, file: Path) -> None:
    before = local.signing_key()
    file.chmod(0o644)
    page = console.post(ROTATE, {"key_id": before.key_id}, secure=True, follow=True).content.decode()
    assert "The key was not rotated" in page
    assert local.signing_key() == before


def test_rotation_needs_its_permission(db: None, file: Path) -> None:
    before = local.signing_key()
    clerk = permitted("refetch_keys")
    page = clerk.get(OWN, secure=True)
    assert page.status_code == 200
    assert ROTATE not in page.content.decode()
    assert clerk.get(ROTATE, secure=True).status_code == 403
    assert clerk.post(ROTATE, {"key_id": before.key_id}, secure=True).status_code == 403
    assert local.signing_key() == before


def test_who_has_the_permission_may_rotate(db: None, file: Path) -> None:
    before = local.signing_key()
    permitted("rotate_signing_key").post(ROTATE, {"key_id": before.key_id}, secure=True)
    assert local.signing_key() != before


def test_strangers_see_nothing_of_our_keys(db: None, file: Path) -> None:
    for page in (OWN, ROTATE):
        assert Client().get(page, secure=True).status_code == 302
    assert Client().post(ROTATE, {"key_id": local.signing_key().key_id}, secure=True).status_code == 302
    assert local.own_keys().old == ()


def test_rotation_needs_a_form_of_ours(console: Client, file: Path) -> None:
    before = local.signing_key()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="operator"))
    assert strict.post(ROTATE, {"key_id": before.key_id}, secure=True).status_code == 403
    assert local.signing_key() == before
