"""The operator's levers about other servers: each with its permission, on a POST, once, and in the admin log."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import conditional_escape

from federation.admin.reading import refusals_of
from federation.blocking import block
from federation.models import BlockedServer, Destination, InboundTransaction, OutboundLpdu, OutboundTransaction
from federation.pausing import pause
from keys.models import KeyFetch, ServerKey
from linmatrix.protocol import canonical_json
from tests.support.lines import append, make_room
from tests.support.tls_peer import TlsPeer

pytestmark = pytest.mark.django_db(transaction=True)

SERVER = "peer.example.net:8448"


@pytest.fixture
def destination() -> Destination:
    """A server that something waits for, and that does not answer."""
    append(make_room("a", SERVER), "one", "two")
    later = timezone.now() + timedelta(hours=1)
    Destination.objects.update(failures=5, failing_since=timezone.now() - timedelta(hours=1), next_attempt=later)
    return Destination.objects.get()


def operator(*permissions: str) -> Client:
    """A console for staff who may look at everything here and have these permissions besides."""
    user = User.objects.create_user(f"clerk{User.objects.count()}", is_staff=True)
    looking = ["view_destination", "view_blockedserver", "view_serverkey", "view_keyfetch", "view_outboundtransaction"]
    user.user_permissions.set(Permission.objects.filter(codename__in=[*looking, *permissions]))
    client = Client()
    client.force_login(user)
    return client


def lever(name: str, server: str = SERVER) -> str:
    return reverse("admin:federation_destination_lever", args=[quote(server), name])


def page_of(client: Client, server: str = SERVER) -> str:
    return client.get(
        reverse("admin:federation_destination_change", args=[quote(server)]), secure=True
    ).content.decode()


def row_of(server: str = SERVER) -> dict[str, Any]:
    columns = ("failures", "next_attempt", "paused_at", "paused_reason")
    found: dict[str, Any] = Destination.objects.values(*columns).get(server=server)
    return found


LEVERS = [
    ("retry", "retry_destination", {}, "Tried again"),
    ("reset", "retry_destination", {}, "Reset the back-off"),
    ("pause", "pause_destination", {"reason": "being <moved>"}, "Paused. being <moved>"),
]


@pytest.mark.parametrize(("name", "permission", "form", "logged"), LEVERS)
def test_a_lever_is_pulled_by_a_post_of_who_may_and_is_in_the_log(
    name: str, permission: str, form: dict[str, str], logged: str, destination: Destination
) -> None:
    before = row_of()
    client = operator(permission)
    assert lever(name) in page_of(client)
    assert client.get(lever(name), secure=True).status_code == 200
    assert row_of() == before
    assert not LogEntry.objects.exists()
    assert client.post(lever(name), form, secure=True).status_code == 302
    assert row_of() != before
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user) == (SERVER, User.objects.get())
    assert logged in entry.get_change_message()


@pytest.mark.parametrize(("name", "permission", "form", "logged"), LEVERS)
def test_without_its_permission_a_lever_is_not_offered_and_changes_nothing(
    name: str, permission: str, form: dict[str, str], logged: str, destination: Destination
) -> None:
    before = row_of()
    other = "pause_destination" if permission == "retry_destination" else "retry_destination"
    client = operator(other, "change_destination")
    assert lever(name) not in page_of(client)
    assert client.get(lever(name), secure=True).status_code == 403
    assert client.post(lever(name), form, secure=True).status_code == 403
    assert row_of() == before
    assert not LogEntry.objects.exists()


def test_a_lever_needs_a_form_of_ours(destination: Destination) -> None:
    User.objects.create_superuser("operator")
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get())
    assert client.post(lever("pause"), {"reason": ""}, secure=True).status_code == 403
    assert row_of()["paused_at"] is None


def test_a_paused_server_is_shown_as_such_with_its_reason_and_resumed(destination: Destination) -> None:
    client = operator("pause_destination", "retry_destination")
    pause(SERVER, reason="being <moved>", now=timezone.now())
    page = page_of(client)
    assert "being &lt;moved&gt;" in page
    assert lever("pause") not in page
    assert lever("retry") not in page
    answer = client.post(lever("retry"), {}, secure=True, follow=True)
    assert "is paused: resume it first" in answer.content.decode()
    client.post(lever("resume"), {}, secure=True)
    assert row_of()["paused_at"] is None
    again = client.post(lever("resume"), {}, secure=True, follow=True)
    assert "is not paused" in again.content.decode()
    assert LogEntry.objects.count() == 1


def test_unknown_servers_and_levers_are_not_found(destination: Destination) -> None:
    client = operator("pause_destination")
    assert client.post(lever("pause", "nobody.example.org"), {}, secure=True).status_code == 404
    assert client.post(lever("explode"), {}, secure=True).status_code == 404


def test_a_reason_too_long_is_said_and_changes_nothing(destination: Destination) -> None:
    client = operator("pause_destination")
    answer = client.post(lever("pause"), {"reason": "x" * 501}, secure=True)
    assert answer.status_code == 200
    assert "at most 500 characters" in answer.content.decode()
    assert row_of()["paused_at"] is None


# The list.


def test_the_list_says_how_servers_are_and_finds_them_by_it(client: Client) -> None:
    now = timezone.now()
    client.force_login(User.objects.create_superuser("operator"))
    Destination.objects.bulk_create(
        [
            Destination(server="well.example.net"),
            Destination(server="hiccup.example.net", failing_since=now - timedelta(minutes=1), failures=1),
            Destination(server="away.example.net", failing_since=now - timedelta(hours=1), failures=9),
            Destination(server="held.example.net", failing_since=now - timedelta(hours=1), failures=9, paused_at=now),
            Destination(server="evil.example.net", failing_since=now - timedelta(hours=1), paused_at=now),
        ]
    )
    block("evil.*", reason="", by="", now=now)
    states = {"healthy": "well", "backing_off": "hiccup", "failing": "away", "paused": "held", "blocked": "evil"}
    for state, name in states.items():
        listed = client.get(reverse("admin:federation_destination_changelist"), {"state": state}, secure=True)
        assert [row.server for row in listed.context["cl"].result_list] == [f"{name}.example.net"]
        assert state.replace("_", " ") in listed.content.decode()


def test_what_waits_is_counted_with_the_same_queries_for_any_number_of_servers(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    url = reverse("admin:federation_destination_changelist")
    first = make_room("a", "s0.example.net")
    append(first, "one", "two", "three")
    client.get(url, secure=True)  # what is looked up once in a process
    with django_assert_max_num_queries(12) as few:
        page = client.get(url, secure=True)
    (row,) = page.context["cl"].result_list
    assert str(row.waiting_events) == "3"
    rooms = [make_room(f"r{number}", *(f"s{at}.example.net" for at in range(1, 30))) for number in range(3)]
    for room in rooms:
        append(room, "one", "two")
    with django_assert_max_num_queries(len(few)):
        page = client.get(url, secure=True)
    assert {str(row.waiting_events) for row in page.context["cl"].result_list} == {"3", "6"}


def test_a_long_backlog_is_not_counted_to_its_end(client: Client, destination: Destination) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    room = make_room("b", SERVER)
    type(room).objects.filter(pk=room.pk).update(head_position=5_000_000, head_event_id="$x")
    listed = client.get(reverse("admin:federation_destination_changelist"), secure=True).content.decode()
    assert "at least 1,000" in listed
    assert "at least 1,000" in page_of(client)


def test_lpdus_count_as_waiting(client: Client) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    Destination.objects.create(server=SERVER, pending=True)
    for number in range(4):
        OutboundLpdu.objects.create(destination_id=SERVER, lpdu_id=f"${number}", room_id="!a:x", sender="", json="{}")
    listed = client.get(reverse("admin:federation_destination_changelist"), secure=True)
    assert str(listed.context["cl"].result_list[0].waiting_events) == "4"


# Blocking.

ADD = "/admin/federation/blockedserver/add/"


def test_blocking_is_asked_twice_then_done_and_in_the_log(destination: Destination) -> None:
    client = operator("add_blockedserver")
    assert f"{ADD}?servers=peer.example.net%3A8448" in page_of(client)
    assert SERVER in client.get(ADD, {"servers": SERVER}, secure=True).content.decode()
    form = {"servers": "*.example.NET", "reason": "spam"}
    question = client.post(ADD, form, secure=True).content.decode()
    assert f"It means 1 of the servers that we send to: {SERVER}" in question
    assert not BlockedServer.objects.exists()
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="view_destination"))
    assert SERVER not in client.post(ADD, form, secure=True).content.decode()
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_destination"))
    other = client.post(ADD, {**form, "confirmed": "evil.example"}, secure=True)
    assert other.status_code == 200
    assert not BlockedServer.objects.exists()
    client.post(ADD, {**form, "confirmed": "*.example.net"}, secure=True)
    row = BlockedServer.objects.get()
    assert (row.servers, row.reason, row.blocked_by) == ("*.example.net", "spam", User.objects.get().get_username())
    assert (LogEntry.objects.get().object_id, LogEntry.objects.get().user) == ("*.example.net", User.objects.get())
    assert "Blocked: see why" in page_of(client)


def test_the_page_of_a_blocked_server_says_what_becomes_of_which_rooms(destination: Destination) -> None:
    make_room("theirs", role="participant", hub=SERVER)
    make_room("else", role="participant", hub="other.example.org")
    block("peer.example.net", reason="<b>spam</b>", by="", now=timezone.now())
    url = reverse("admin:federation_blockedserver_change", args=[quote("peer.example.net")])
    assert quote("!theirs") not in operator().get(url, secure=True).content.decode()
    page = operator("view_room").get(url, secure=True).content.decode()
    assert reverse("admin:rooms_room_change", args=[quote("!a:hub.example.org")]) in page
    assert reverse("admin:rooms_room_change", args=[quote(f"!theirs:{SERVER}")]) in page
    assert quote("!else:other.example.org") not in page
    assert "nothing is rewritten" in page
    assert "&lt;b&gt;spam&lt;/b&gt;" in page
    assert "/delete/" not in page


def test_unblocking_is_asked_then_done_and_in_the_log(destination: Destination) -> None:
    block(SERVER, reason="", by="", now=timezone.now())
    url = reverse("admin:federation_blockedserver_delete", args=[quote(SERVER)])
    client = operator("delete_blockedserver")
    assert client.get(url, secure=True).status_code == 200
    assert BlockedServer.objects.exists()
    assert client.post(url, {}, secure=True).status_code == 302
    assert not BlockedServer.objects.exists()
    assert LogEntry.objects.get().object_id == SERVER
    assert client.post(url, {}, secure=True).status_code == 404


def test_blocking_and_unblocking_need_their_permissions(destination: Destination) -> None:
    form = {"servers": SERVER, "confirmed": SERVER}
    may_unblock = operator("delete_blockedserver", "change_blockedserver")
    assert may_unblock.post(ADD, form, secure=True).status_code == 403
    assert ADD not in page_of(may_unblock)
    assert not BlockedServer.objects.exists()
    block(SERVER, reason="", by="", now=timezone.now())
    url = reverse("admin:federation_blockedserver_delete", args=[quote(SERVER)])
    may_block = operator("add_blockedserver", "change_blockedserver")
    assert may_block.post(url, {}, secure=True).status_code == 403
    assert BlockedServer.objects.exists()
    assert not LogEntry.objects.exists()


REFUSED_ENTRIES = {
    "https://evil.example": "neither a server name nor a glob",
    "*": "would block this server itself",
    "": "required",
    "peer.example.net": "is blocked already",
    "a\0b": "Null characters",
}


def test_what_cannot_be_blocked_is_said_and_changes_nothing() -> None:
    block("peer.example.net", reason="", by="", now=timezone.now())
    client = operator("add_blockedserver")
    for servers, reason in REFUSED_ENTRIES.items():
        answer = client.post(ADD, {"servers": servers, "confirmed": servers}, secure=True)
        assert answer.status_code == 200
        assert reason in answer.content.decode()
    assert BlockedServer.objects.count() == 1
    assert not LogEntry.objects.exists()


# Keys.


def test_keys_are_asked_for_from_the_servers_page_and_from_the_keys(tls_peer: TlsPeer) -> None:
    tls_peer.publish()
    Destination.objects.create(server=tls_peer.name)
    client = operator("refetch_keys")
    key = ServerKey.objects.get()
    pages = (
        (page_of(client, tls_peer.name), lever("refetch", tls_peer.name)),
        (
            client.get(f"/admin/keys/serverkey/{key.pk}/change/", secure=True).content.decode(),
            f"/admin/keys/serverkey/{key.pk}/refetch/",
        ),
    )
    for asked, (page, url) in enumerate(pages):
        assert url in page
        assert client.get(url, secure=True).status_code == 200
        assert len(tls_peer.requests) == asked
        assert client.post(url, {}, secure=True).status_code == 302
        assert len(tls_peer.requests) == asked + 1
    assert LogEntry.objects.count() == 2
    clerk = operator("rotate_signing_key")
    for _, url in pages:
        assert clerk.post(url, {}, secure=True).status_code == 403
    blind = operator("refetch_keys")
    blind_user = User.objects.get(pk=blind.session["_auth_user_id"])
    blind_user.user_permissions.set(Permission.objects.filter(codename="refetch_keys"))
    for _, url in pages:
        assert blind.get(url, secure=True).status_code == 403
        assert blind.post(url, {}, secure=True).status_code == 403
    assert len(tls_peer.requests) == 2


def test_a_blocked_server_is_not_asked_for_its_keys(tls_peer: TlsPeer) -> None:
    Destination.objects.create(server=tls_peer.name)
    block(tls_peer.name, reason="", by="", now=timezone.now())
    client = operator("refetch_keys")
    assert lever("refetch", tls_peer.name) not in page_of(client, tls_peer.name)
    answer = client.post(lever("refetch", tls_peer.name), {}, secure=True, follow=True)
    assert "is blocked, and is not asked for anything" in answer.content.decode()
    assert tls_peer.requests == []


@pytest.mark.parametrize(("permission", "left"), [("refetch_keys", 0), ("rotate_signing_key", 3)])
def test_that_a_server_did_not_answer_for_its_keys_is_forgotten_by_who_may(permission: str, left: int) -> None:
    KeyFetch.objects.create(server="away.example.org", asked_at=timezone.now(), failures=3, last_error="down")
    form = {"action": "forget", "_selected_action": ["away.example.org"]}
    operator(permission).post("/admin/keys/keyfetch/", form, secure=True)
    assert KeyFetch.objects.get().failures == left
    assert LogEntry.objects.count() == (left == 0)


# Transactions in words.


def test_a_transaction_tells_its_events_and_what_was_refused(client: Client) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    Destination.objects.create(server=SERVER)
    event = {"type": "m.room.message", "sender": "@a:x.example", "room_id": "!r:x.example", "content": {"body": "<hi>"}}
    lpdu = OutboundLpdu.objects.create(
        destination_id=SERVER,
        lpdu_id="$lpdu",
        room_id="!r:x",
        sender="",
        json="{}",
        status="refused",
        reason="no <power>",
    )
    row = OutboundTransaction.objects.create(
        destination_id=SERVER,
        txn_id="one",
        path="/",
        body=canonical_json.dumps({"pdus": [event, {"type": 3}, "x"], "edus": []}),
        cursors=[],
        lpdus=[lpdu.pk],
        events=3,
    )
    page = client.get(f"/admin/federation/outboundtransaction/{row.pk}/change/", secure=True).content.decode()
    assert "@a:x.example &lt;hi&gt;" in page
    assert "something that is no event" in page
    assert "no &lt;power&gt;" in page


ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"failed_pdus": {"$a": {"error": "rule 6 <x>"}}}, "<ul><li>$a: rule 6 &lt;x&gt;</li></ul>"),
    ({"failed_pdus": {}}, "none"),
    ({"failed_pdus": [1]}, "none"),
    ({"errcode": "M_FORBIDDEN", "error": "<no>"}, "all: M_FORBIDDEN &lt;no&gt;"),
]


@pytest.mark.parametrize(("response", "told"), ANSWERS)
def test_an_answer_of_ours_tells_what_we_refused(response: dict[str, Any], told: str) -> None:
    assert conditional_escape(refusals_of(canonical_json.dumps(response))) == told


def test_what_we_refused_is_on_the_page_of_a_request(client: Client) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    row = InboundTransaction.objects.create(
        origin=SERVER,
        endpoint="send",
        txn_id="one",
        body_sha256=b"x" * 32,
        lease_until=timezone.now(),
        received_at=timezone.now(),
        status=200,
        response=canonical_json.dumps(ANSWERS[0][0]),
    )
    page = client.get(f"/admin/federation/inboundtransaction/{row.pk}/change/", secure=True).content.decode()
    assert ANSWERS[0][1] in page
