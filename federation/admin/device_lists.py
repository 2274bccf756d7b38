"""What is known of the devices of other servers' users, and whether that is to be fetched anew.

Here and not beside the keys, since the lever asks another server.
"""

from collections.abc import Mapping

from django.contrib import admin
from django.db import models
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from federation.blocking import block_list
from federation.devices import query
from keys.device_admin import algorithms_of
from keys.models import RemoteDevice, RemoteDeviceList
from linmatrix.protocol.identifiers import domain_of
from linmatrix.readonly_admin import pretty_json
from linmatrix.row_levers import LeverAdmin, NotDone, RowLever
from rooms.wording import shown

MAX_SHOWN = 25
"""Devices of a user that a page shows, each with its object of up to 64 KiB."""


@admin.register(RemoteDeviceList)
class RemoteDeviceListAdmin(LeverAdmin):
    """Users of other servers whose devices were asked for, or told of."""

    list_display = (
        "user_id", "number", "standing", "fetched_at", "changed_at", "next_attempt", "failures", "last_error",
    )  # fmt: skip
    list_filter = ("stale",)
    search_fields = ("user_id__exact",)
    search_help_text = "A user's id, in full"
    ordering = ("user_id",)
    fields = (*list_display, "known")
    readonly_fields = ("number", "standing", "known")
    lever = RowLever(
        text="Refetch list",
        icon="refresh",
        permission="keys.change_remotedevicelist",
        lead="The user's server is asked for all of the user's devices now, whenever it was asked last.",
        points=("Should it not answer, what is known stays in use.",),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[RemoteDeviceList]:
        devices = RemoteDevice.objects.filter(user=OuterRef("pk")).order_by().values("user")
        counted = Subquery(devices.annotate(number=Count("pk")).values("number"))
        return super().get_queryset(request).annotate(devices_known=Coalesce(counted, 0))

    def useful(self, row: models.Model) -> bool:
        return not block_list.blocks(domain_of(str(row.pk)))

    def pull(self, row: models.Model, answer: Mapping[str, str]) -> str:
        user_id = str(row.pk)
        server = domain_of(user_id)
        if block_list.blocks(server):
            raise NotDone(f"{server} is blocked, and is not asked for anything.")
        found = query([user_id], now=timezone.now(), fresh=True)
        if found.failures:
            raise NotDone(f"No list from {server}: {shown(found.failures.get(server, 'no answer'), limit=500)}")
        number = len(found.devices.get(user_id, {}))
        left_out = f" Left out: {shown('; '.join(found.left_out), limit=500)}" if found.left_out else ""
        return f"{server} told {number} device{'' if number == 1 else 's'} of {user_id}.{left_out}"

    @admin.display(description="devices")
    def number(self, row: RemoteDeviceList) -> int:
        return int(getattr(row, "devices_known", 0))

    @admin.display(description="state")
    def standing(self, row: RemoteDeviceList) -> str:
        if row.stale:
            return "stale: is to be fetched"
        return "known" if row.fetched_at else "not whole: fetched when somebody asks"

    @admin.display(description="what is known")
    def known(self, row: RemoteDeviceList) -> SafeString | str:
        found = list(row.devices.order_by("device_id").values_list("device_id", "json")[: MAX_SHOWN + 1])
        rows = [
            (shown(device_id), ", ".join(map(shown, algorithms_of(text))) or "-", pretty_json(text))
            for device_id, text in found[:MAX_SHOWN]
        ]
        line = '<details class="lm-json"><summary>{}: {}</summary>{}</details>'
        rest = f"These are the first {MAX_SHOWN}." if len(found) > MAX_SHOWN else ""
        return format_html_join("", "{}", [(format_html_join("", line, rows) or "-",), (rest,)])
