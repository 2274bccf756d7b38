"""The console shows rooms and traffic, and changes nothing but our own users."""

import re
from collections.abc import Callable

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from federation.models import (
    BlockedServer,
    Destination,
    DeviceListCursor,
    InboundTransaction,
    OutboundEdu,
    OutboundLpdu,
    OutboundTransaction,
    PendingLeave,
    ToDeviceInbox,
)
from linmatrix.readonly_admin import EstimatingPaginator, ReadOnlyAdmin, pretty_json
from rooms.creation import create_room
from rooms.models import Event, Finding, Gap, LocalUser, PendingInvite, Room, RoomServer, StateEntry
from rooms.overview import name_of, with_overview
from tests.support.lines import append, make_room

pytestmark = pytest.mark.django_db

CREATOR = "@creator:hub.example.org"


def make_rooms(number: int) -> None:
    create_room(creator=CREATOR, now=timezone.now(), name=f"Room {number}", topic="<script>")


def make_gap(number: int) -> None:
    Gap.objects.create(room=make_room(f"gap{number}"), before_position=5, missing_event_id="$x")


def make_finding(number: int) -> None:
    Finding.objects.create(
        room=make_room(f"finding{number}"),
        server="peer.example",
        kind=Finding.Kind.FORK,
        event_id=f"${number}",
        evidence='it forks\n{"a":1}',
    )


def make_user(number: int) -> None:
    LocalUser.objects.create(localpart=f"user{number}", display_name="A user")


def make_invite(number: int) -> None:
    PendingInvite.objects.create(
        room_id=f"!invite{number}:peer.example",
        user_id=CREATOR,
        hub_server="peer.example",
        room_version="I.1",
        event_id="$x",
        json="{}",
        stripped_state="[]",
    )


def make_destination(number: int) -> Destination:
    return Destination.objects.create(server=f"peer{number}.example", failures=number, last_error="connection refused")


def make_lpdu(number: int) -> None:
    OutboundLpdu.objects.create(
        destination=make_destination(number), lpdu_id=f"${number}", room_id="!a:b.example", sender=CREATOR, json="{}"
    )


def make_transaction(number: int) -> None:
    OutboundTransaction.objects.create(
        destination=make_destination(number),
        txn_id=f"txn{number}",
        path="/",
        body=b'{"pdus":[]}',
        cursors=[[1, 2]],
        lpdus=[],
        events=1,
    )


def make_request(number: int) -> None:
    InboundTransaction.objects.create(
        origin=f"peer{number}.example",
        endpoint="send",
        txn_id="txn",
        body_sha256=bytes(32),
        lease_until=timezone.now(),
        received_at=timezone.now(),
        response=b"{}",
    )


def make_leave(number: int) -> None:
    PendingLeave.objects.create(
        room_id=f"!invite{number}:peer.example",
        user_id=CREATOR,
        hub_server="peer.example",
        room_version="I.1",
        created_at=timezone.now(),
        next_attempt=timezone.now(),
    )


def make_edu(number: int) -> None:
    OutboundEdu.objects.create(destination=make_destination(number), sender=CREATOR, json="{}")


def make_cursor(number: int) -> None:
    DeviceListCursor.objects.create(destination=make_destination(number), user_id=CREATOR, told=0, wanted=number)


def make_inbox(number: int) -> None:
    device = f"DEVICE{number}"
    row = ToDeviceInbox.objects.create(
        user_id=CREATOR, device_id=device, last_position=number, waiting=number, waiting_bytes=2 * number
    )
    row.messages.create(
        position=1,
        sender="@user:peer.example",
        type="m.room.encrypted",
        json="{}",
        origin="peer.example",
        source=bytes(32),
        received_at=timezone.now(),
    )


MAKERS: dict[type, Callable[[int], object]] = {
    Room: make_rooms,
    Event: make_rooms,
    StateEntry: make_rooms,
    RoomServer: make_rooms,
    Gap: make_gap,
    Finding: make_finding,
    LocalUser: make_user,
    PendingInvite: make_invite,
    Destination: make_destination,
    OutboundLpdu: make_lpdu,
    OutboundTransaction: make_transaction,
    InboundTransaction: make_request,
    PendingLeave: make_leave,
    OutboundEdu: make_edu,
    DeviceListCursor: make_cursor,
    ToDeviceInbox: make_inbox,
}
READ_ONLY = [model for model in MAKERS if model is not LocalUser]


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


def url(model, page, *arguments):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


def test_these_tests_know_every_model_that_is_only_shown():
    shown = [model for model in admin.site._registry if model._meta.app_label in ("rooms", "federation")]
    only_shown = {model for model in shown if isinstance(admin.site._registry[model], ReadOnlyAdmin)}
    assert only_shown - {BlockedServer} == set(READ_ONLY)  # to block is to add one


@pytest.mark.parametrize("model", MAKERS, ids=lambda model: model.__name__)
def test_lists_and_pages_render(console, model):
    MAKERS[model](1)
    listed = console.get(url(model, "changelist"), secure=True)
    assert listed.status_code == 200
    for pk in model.objects.values_list("pk", flat=True):
        page = console.get(url(model, "change", quote(pk)), secure=True)
        assert page.status_code == 200
        assert b"<script>&" not in page.content


@pytest.mark.parametrize("model", MAKERS, ids=lambda model: model.__name__)
def test_searching_and_filtering_work(console, model):
    MAKERS[model](1)
    model_admin = admin.site._registry[model]
    assert console.get(url(model, "changelist"), {"q": "peer1.example"}, secure=True).status_code == 200
    page = console.get(url(model, "changelist"), secure=True)
    for specification in page.context["cl"].filter_specs:
        for choice in specification.choices(page.context["cl"]):
            found = console.get(url(model, "changelist") + choice["query_string"], secure=True)
            assert found.status_code == 200
    assert model_admin.get_search_fields(page.wsgi_request)


@pytest.mark.parametrize("model", READ_ONLY, ids=lambda model: model.__name__)
def test_nothing_can_be_added_changed_or_deleted(console, model):
    MAKERS[model](1)
    before = list(model.objects.order_by("pk").values())
    pk = quote(before[0][model._meta.pk.attname])
    for address in (url(model, "add"), url(model, "change", pk), url(model, "delete", pk)):
        assert console.post(address, {}, secure=True).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [pk]}
    console.post(url(model, "changelist"), data, secure=True)
    assert list(model.objects.order_by("pk").values()) == before


def test_the_newest_event_of_a_room_comes_first(console):
    room = make_room("one")
    append(room, "first", "second")
    page = console.get(url(Event, "changelist"), {"room": room.pk}, secure=True)
    assert [event.position for event in page.context["cl"].result_list] == [2, 1]


def test_a_room_shows_its_name_and_how_many_are_in_it(console):
    make_rooms(7)
    page = console.get(url(Room, "changelist"), secure=True).content.decode()
    assert re.search(r"field-name[^>]*>\s*Room 7\s*<", page)
    assert re.search(r"field-joined_users[^>]*>\s*1\s*<", page)


def test_a_local_user_can_be_added_and_deactivated(console):
    console.post(url(LocalUser, "add"), {"localpart": "alice", "display_name": "Alice"}, secure=True)
    assert LocalUser.objects.get().display_name == "Alice"
    console.post(url(LocalUser, "change", "alice"), {"display_name": "Alice", "deactivated": "on"}, secure=True)
    assert LocalUser.objects.get().deactivated
    assert console.post(url(LocalUser, "delete", "alice"), {"post": "yes"}, secure=True).status_code == 403


@pytest.mark.parametrize("localpart", ["Alice", "a b", "a:b", "x" * 255])
def test_a_localpart_that_makes_no_user_id_is_refused(console, localpart):
    page = console.post(url(LocalUser, "add"), {"localpart": localpart}, secure=True)
    assert "Lower-case letters" in page.content.decode()
    assert not LocalUser.objects.exists()


def test_large_results_are_estimated():
    class Hasty(EstimatingPaginator):
        exact_up_to = 5

    append(make_room("one"), *(str(number) for number in range(10)))
    assert EstimatingPaginator(Event.objects.order_by("position"), 3).count == 10
    with CaptureQueriesContext(connection) as captured:
        assert Hasty(Event.objects.order_by("position"), 3).count >= 6
    assert ["LIMIT 6" in query["sql"] or "EXPLAIN" in query["sql"] for query in captured] == [True, True]


def test_a_page_further_down_works_out_what_is_said_of_its_rows_alone():
    for number in range(5):
        make_rooms(number)
    listed = with_overview(Room.objects.order_by("room_id"))
    paginator = EstimatingPaginator(listed, 2)
    assert [list(paginator.page(number)) for number in (1, 2, 3)] == [
        list(listed[:2]),
        list(listed[2:4]),
        list(listed[4:]),
    ]
    with CaptureQueriesContext(connection) as captured:
        (last,) = paginator.page(3)
    assert name_of(last)
    assert ["OFFSET" in query["sql"] for query in captured] == [True, False]
    assert "m.room.name" not in captured[0]["sql"]


def test_what_is_no_json_is_shown_as_it_came():
    assert "&lt;b&gt;" in pretty_json(b"<b>\xff")
    assert pretty_json(None) == "-"
    assert "…" in pretty_json("[" + "1," * 100_000 + "1]")


def test_json_too_long_to_be_shown_is_not_indented():
    assert "[1,1" in pretty_json("[" + "1," * 200_000 + "1]")
    assert "[1,1" not in pretty_json("[" + "1," * 100_000 + "1]")
