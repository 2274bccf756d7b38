"""Every list and every page of a row costs the same number of queries with few rows and with many, and uses indexes."""

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from federation.models import BlockedServer, Destination
from keys.models import Device, KeyFetch, KeyResponse, RemoteDeviceList, ServerKey
from linmatrix.console.models import Minute
from linmatrix.readonly_admin import EstimatingPaginator
from rooms.models import Event, LocalUser, PendingInvite, Room
from tests.rooms.test_admin import MAKERS, url
from tests.support.lines import append, make_room

pytestmark = pytest.mark.django_db


def make_key(number: int) -> None:
    response = KeyResponse.objects.create(server=f"peer{number}.example", json="{}", fetched_at=timezone.now())
    ServerKey.objects.create(
        server=response.server,
        key_id="ed25519:1",
        public_key=bytes(32),
        valid_until_ts=0,
        current=True,
        fetched_at=timezone.now(),
        response=response,
    )


def make_device(number: int) -> None:
    Device.objects.create(
        user_id="@creator:hub.example.org",
        device_id=f"DEVICE{number}",
        json='{"algorithms":["m.mls.v1"],"keys":{"ed25519:DEVICE":"key"}}',
        stream_id=number,
        changed_at=timezone.now(),
    )


def make_remote_list(number: int) -> None:
    row = RemoteDeviceList.objects.create(user_id=f"@user{number}:peer.example", changed_at=timezone.now())
    for device in range(number + 1):
        row.devices.create(device_id=f"DEVICE{device}", json='{"algorithms":["m.mls.v1"]}')


def make_entry(number: int) -> None:
    LogEntry.objects.create(user=make_account(number), action_flag=CHANGE, object_repr="x", change_message="Did it.")


def make_account(number: int) -> User:
    user, new = User.objects.get_or_create(username=f"clerk{number}")
    if new:
        user.groups.add(make_group(number))
    return user


def make_group(number: int) -> Group:
    group, _ = Group.objects.get_or_create(name=f"group{number}")
    group.permissions.set(Permission.objects.order_by("pk")[:3])
    return group


ALL: dict[type, Callable[[int], object]] = {
    **MAKERS,
    BlockedServer: lambda number: BlockedServer.objects.create(
        servers=f"peer{number}.example", blocked_at=timezone.now()
    ),
    ServerKey: make_key,
    KeyResponse: make_key,
    Device: make_device,
    RemoteDeviceList: make_remote_list,
    KeyFetch: lambda number: KeyFetch.objects.create(server=f"peer{number}.example"),
    User: make_account,
    Group: make_group,
    LogEntry: make_entry,
}
SMALL = {Destination, BlockedServer, User, Group}
"""As many rows as there are servers or staff: these may be put into any order."""


def queries(console: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert console.get(address, secure=True).status_code == 200
    return len(captured)


def test_these_tests_know_every_model_that_the_console_shows():
    assert set(ALL) == set(admin.site._registry)
    assert Minute not in ALL


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.__name__)
def test_more_rows_take_no_more_queries(console, model):
    ALL[model](0)
    row = quote(model.objects.order_by("pk").last().pk)
    addresses = [url(model, "changelist"), url(model, "change", row)]
    few = [queries(console, address) for address in addresses]
    for number in range(1, 8):
        ALL[model](number)
    # Not more: what is cached once per process was not cached yet.
    assert all(now <= before for now, before in zip([queries(console, one) for one in addresses], few, strict=True))


def test_a_longer_history_of_a_row_takes_no_more_queries(console):
    MAKERS[Room](0)
    room, content_type = Room.objects.get(), ContentType.objects.get_for_model(Room)
    address, counts = url(Room, "history", quote(room.pk)), []
    for number in range(8):
        LogEntry.objects.create(
            user=make_account(number), action_flag=CHANGE, object_id=room.pk, content_type=content_type
        )
        counts += [queries(console, address)] if number in (0, 7) else []
    assert counts[1] <= counts[0]


@pytest.mark.parametrize("model", [model for model in ALL if model not in SMALL], ids=lambda model: model.__name__)
def test_a_long_list_has_one_order_which_has_an_index(model):
    assert not list(admin.site._registry[model].get_sortable_by(RequestFactory().get("/")))


@pytest.mark.parametrize("model", [model for model in ALL if model not in SMALL], ids=lambda model: model.__name__)
def test_a_long_list_is_counted_and_paged_up_to_a_number_of_rows(model):
    model_admin = admin.site._registry[model]
    assert issubclass(model_admin.paginator, EstimatingPaginator)
    assert not model_admin.show_full_result_count


def test_an_action_on_all_that_a_list_finds_takes_no_more_than_a_number_of_rows(console):
    rooms = [Room(room_id=f"!{n}:b.example", version="1", role="hub", hub_server="b.example") for n in range(1001)]
    Room.objects.bulk_create(rooms)
    form = {"action": "block", "select_across": "1", "_selected_action": rooms[0].pk}
    console.post(url(Room, "changelist"), form, secure=True)
    assert not Room.objects.filter(blocked=True).exists()
    console.post(url(Room, "changelist") + "?q=!99", form, secure=True)
    assert Room.objects.filter(blocked=True).count() == 11


def test_nothing_offers_to_show_all_of_a_long_list(console):
    for number in range(60):
        ALL[PendingInvite](number)
    page = console.get(url(PendingInvite, "changelist"), secure=True)
    assert page.context["cl"].multi_page
    assert "Show all" not in page.content.decode()
    found = console.get(url(PendingInvite, "changelist"), {"q": "peer.example"}, secure=True)
    assert (found.context["cl"].multi_page, found.context["cl"].can_show_all) == (True, False)


def test_pages_end_where_the_exact_count_ends():
    class Hasty(EstimatingPaginator):
        exact_up_to = 6

    append(make_room("one"), *(str(number) for number in range(10)))
    pages = Hasty(Event.objects.order_by("position"), 3)
    assert (pages.count >= 7, pages.num_pages) == (True, 2)
    assert EstimatingPaginator(Event.objects.order_by("position"), 3).num_pages == 4


SEARCHED = [model for model, model_admin in admin.site._registry.items() if getattr(model_admin, "search_by", None)]


@pytest.mark.parametrize("model", SEARCHED, ids=lambda model: model.__name__)
@pytest.mark.parametrize("term", ["$id", "!room:b.example", "@user:b.example", "b.example"])
def test_a_search_looks_into_one_column(model, term):
    model_admin = admin.site._registry[model]
    found, _ = model_admin.get_search_results(RequestFactory().get("/"), model.objects.all(), term)
    assert found.query.is_empty() or str(found.query).count(f" = {term}") == 1


def test_a_search_finds_by_what_its_first_character_names(console):
    MAKERS[PendingInvite](1)
    invite = PendingInvite.objects.get()
    for term, found in [(invite.user_id, 1), (invite.room_id, 1), (invite.hub_server, 1), ("@nobody:b.example", 0)]:
        page = console.get(url(PendingInvite, "changelist"), {"q": term}, secure=True)
        assert page.context["cl"].result_count == found


def test_what_no_column_is_named_for_finds_nothing(console):
    MAKERS[Event](1)
    page = console.get(url(Event, "changelist"), {"q": "peer.example"}, secure=True)
    assert page.context["cl"].result_count == 0


def test_an_address_that_names_nothing_is_no_fault_of_ours(console):
    assert console.get(url(Event, "changelist"), {"room": "a\0b"}, secure=True).status_code == 302
    for address in (url(Destination, "change", "a_00b"), "/admin/keys/serverkey/x/refetch/"):
        assert console.get(address, secure=True).status_code in (302, 404)


# The menu and the accounts of the staff.

QUICK = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def test_the_menu_leads_to_every_list(console):
    page = console.get("/admin/", secure=True).content.decode()
    missing = {model for model in ALL if f'href="{url(model, "changelist")}"' not in page}
    assert not missing


def test_the_menu_shows_staff_what_they_may_view(client):
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_room"))
    client.force_login(clerk)
    page = client.get("/admin/", secure=True).content.decode()
    assert url(Room, "changelist") in page
    assert url(LocalUser, "changelist") not in page


def test_an_account_can_be_made_and_what_it_did_is_listed(console, settings):
    settings.PASSWORD_HASHERS = QUICK
    form = {"username": "clerk", "usable_password": "true", "password1": "a long secret", "password2": "a long secret"}
    console.post(url(User, "add"), form, secure=True)
    assert User.objects.get(username="clerk").check_password("a long secret")
    page = console.get(url(LogEntry, "changelist"), secure=True)
    assert [(entry.user.username, entry.object_repr) for entry in page.context["cl"].result_list] == [
        ("operator", "clerk")
    ]


def test_a_login_leads_to_the_dashboard(client, settings):
    settings.PASSWORD_HASHERS = QUICK
    User.objects.create_superuser("operator", password="a long secret")
    answer = client.post("/admin/login/", {"username": "operator", "password": "a long secret"}, secure=True)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def test_users_can_be_deactivated_in_their_list(console):
    ALL[LocalUser](1)
    form = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-localpart": "user1",
        "form-0-deactivated": "on",
        "_save": "Save",
    }
    console.post(url(LocalUser, "changelist"), form, secure=True)
    assert LocalUser.objects.get().deactivated
