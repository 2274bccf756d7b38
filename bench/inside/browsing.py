"""Every list and page of the console, as an operator would click through it, and how long the server takes.

Of the pages of rooms those of the one with the largest MLS group, whose members are compared with the room's."""

import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db import connection, models
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from linmatrix.console.rooms.frame import TABS, url
from rooms.models import MlsGroup

TIMES = 4

SEARCHES: dict[str, tuple[str, ...]] = {
    "rooms.Room": ("!cfcd2084", "!", "peer1.", "nothing.example"),
    "rooms.Event": ("$e", "!cfcd208495d565ef66e7dff9f98764da:hub.example.org", "$nothing"),
    "rooms.StateEntry": ("!cfcd208495d565ef66e7dff9f98764da:hub.example.org", "!nothing"),
    "rooms.RoomServer": ("peer1.example.org", "!cfcd208495d565ef66e7dff9f98764da:hub.example.org", "nothing"),
    "rooms.LocalUser": ("user7", "User 7", "nothing"),
    "keys.Device": ("@user7:hub.example.org", "@nobody:hub.example.org"),
    "keys.RemoteDeviceList": ("@user7:peer7.example.org", "@nobody:hub.example.org"),
    "federation.ToDeviceInbox": ("@user7:hub.example.org", "@nobody:hub.example.org"),
    "rooms.PendingInvite": ("@user7:hub.example.org", "peer1.example.org", "nothing"),
}
"""What operators type by model; others are searched for these."""

ANYWHERE = (
    "peer1.example.org",
    "!cfcd208495d565ef66e7dff9f98764da:hub.example.org",
    "$x",
    "@user7:hub.example.org",
    "nothing",
)


def browse() -> list[tuple[str, float, int]]:
    """Open all pages. Of each the best of some times, warm: what the page takes, and not what else the machine does."""
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="operator"))
    return [_timed(client, address) for address in _addresses(client)]


def _timed(client: Client, address: str) -> tuple[str, float, int]:
    """A page, how many milliseconds it took, and how many queries."""
    with CaptureQueriesContext(connection) as captured:
        first = client.get(address, secure=True)
    queries = len(captured)  # now: the next request clears them
    if first.status_code != HTTPStatus.OK:
        raise RuntimeError(f"{address} has status {first.status_code}")
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        client.get(address, secure=True)
        times.append(time.perf_counter() - begun)
    return address, 1000 * min(times), queries


def _addresses(client: Client) -> Iterator[str]:
    yield reverse("admin:index")
    yield f"{reverse('admin:index')}?span=week"
    yield reverse("admin:console_figures")
    for model, model_admin in sorted(admin.site._registry.items(), key=lambda item: item[0]._meta.label):
        yield from _of_model(client, model, model_admin)
    largest = MlsGroup.objects.defer("state").order_by("-devices").first()
    if largest is not None:
        yield from (url(tab.name, largest.room_id) for tab in TABS)


def _of_model(client: Client, model: type[models.Model], model_admin: admin.ModelAdmin) -> Iterator[str]:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    listed = reverse(f"{name}_changelist")
    request = RequestFactory().get(listed)
    request.user = User.objects.get(username="operator")
    changes = model_admin.get_changelist_instance(request)
    yield listed
    if changes.paginator.num_pages > 1:
        yield f"{listed}?p={changes.paginator.num_pages}"
    for filters in changes.filter_specs:
        for choice in filters.choices(changes):
            if choice["query_string"] not in ("?", ""):
                yield f"{listed}{choice['query_string']}"
    if model_admin.get_search_fields(request):
        for term in SEARCHES.get(model._meta.label, ANYWHERE):
            yield f"{listed}?{urlencode({'q': term})}"
    for number in _sortable(changes, model_admin, request):
        yield f"{listed}?o={number}"
        yield f"{listed}?o=-{number}"
    for row in list(changes.result_list)[:1]:
        yield reverse(f"{name}_change", args=[quote(row.pk)])
        yield reverse(f"{name}_history", args=[quote(row.pk)])


def _sortable(changes: Any, model_admin: admin.ModelAdmin, request: Any) -> list[int]:
    allowed = model_admin.get_sortable_by(request)
    return [
        number
        for number, column in enumerate(changes.list_display)
        if column in allowed and changes.get_ordering_field(column)
    ]
