"""To-device messages that wait for our users' devices: how many, since when and from where, never what is in them.

The lever drops what waits for a device, as for one that will never come back and whose inbox is full.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db import models
from django.db.models import Count, Min, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from federation.edus import inbox
from federation.models import ToDeviceInbox, ToDeviceMessage
from linmatrix.readonly_admin import ChosenValues, seconds_precise
from linmatrix.row_levers import LeverAdmin, NotDone, RowLever
from rooms.wording import shown

MAX_SHOWN = 20
"""Messages of an inbox that are listed: the oldest."""

MOST_COUNTED = 10_000
"""Messages of an inbox, the oldest, that are counted by the servers that sent them."""


class Fill(ChosenValues):
    """By how full inboxes are."""

    title = "messages"
    parameter_name = "messages"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[Any, str]]:
        return [("some", "some wait"), ("half", "half full or more"), ("none", "none wait")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        limits = settings.LIMITS
        half = Q(waiting__gte=limits.to_device_messages / 2) | Q(waiting_bytes__gte=limits.to_device_bytes / 2)
        chosen = {"some": Q(waiting__gt=0), "half": half, "none": Q(waiting=0)}
        return queryset.filter(chosen.get(self.value() or "", Q()))


@admin.register(ToDeviceInbox)
class ToDeviceInboxAdmin(LeverAdmin):
    """The inbox of each device that ever got a message."""

    list_display = ("user_id", "device_id", "waiting", "full", "oldest_at")
    list_display_links = ("user_id", "device_id")
    list_filter = (Fill,)
    search_fields = ("user_id__exact",)
    search_help_text = "A user's id, in full"
    ordering = ("user_id", "device_id")
    fields = ("user_id", "device_id", "waiting", "full", "oldest_at", "last_position", "senders", "first_messages")
    readonly_fields = ("full", "oldest_at", "senders", "first_messages")
    lever = RowLever(
        text="Drop what waits",
        icon="delete_sweep",
        permission="federation.delete_todevicemessage",
        lead="All messages that wait for the device now are dropped, unread.",
        points=(
            "Keys of encrypted rooms may be among them: what was said there stays unreadable for the device, unless "
            "another one sends it the keys again.",
            "Their senders are not told. Messages that come from now on are kept as ever.",
        ),
        danger=True,
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ToDeviceInbox]:
        # Positions have no gaps, and what is acknowledged comes first.
        first = ToDeviceMessage.objects.filter(
            inbox=OuterRef("pk"), position=OuterRef("last_position") - OuterRef("waiting") + 1
        )
        return super().get_queryset(request).annotate(oldest=Subquery(first.values("received_at")[:1]))

    def useful(self, row: models.Model) -> bool:
        return isinstance(row, ToDeviceInbox) and row.waiting > 0

    def about(self, row: models.Model) -> dict[str, str]:
        """Up to where: what comes while the operator thinks about it is kept."""
        assert isinstance(row, ToDeviceInbox)
        return {"upto": str(row.last_position)}

    def pull(self, row: models.Model, answer: Mapping[str, str]) -> str:
        assert isinstance(row, ToDeviceInbox)
        upto = answer.get("upto", "")
        if not upto.isascii() or not upto.isdigit() or len(upto) > 18:
            raise NotDone("The form was sent incomplete. Nothing was dropped.")
        number = inbox.acknowledge(row.user_id, row.device_id, int(upto), now=timezone.now())
        if not number:
            raise NotDone(f"Nothing that was to be dropped waits for {row} any more.")
        return f"Dropped {number:,} message{'' if number == 1 else 's'} for {row}."

    @admin.display(description="waiting since (UTC)")
    def oldest_at(self, row: ToDeviceInbox) -> str:
        oldest: datetime | None = getattr(row, "oldest", None)
        return seconds_precise(oldest)

    @admin.display(description="full")
    def full(self, row: ToDeviceInbox) -> str:
        limits = settings.LIMITS
        share = max(row.waiting / limits.to_device_messages, row.waiting_bytes / limits.to_device_bytes)
        rounded = f"{share:.0%}" if share >= 0.01 else "under 1%"
        return f"{rounded} ({row.waiting_bytes:,} bytes)" if row.waiting else "-"

    @admin.display(description="from")
    def senders(self, row: ToDeviceInbox) -> SafeString | str:
        first = row.last_position - row.waiting + 1
        oldest = _waiting(row).filter(position__lt=first + MOST_COUNTED).order_by().values("origin")
        counted = oldest.annotate(number=Count("pk"), since=Min("received_at")).order_by("-number", "origin")
        lines = [
            (shown(found["origin"]), f"{found['number']:,}", seconds_precise(found["since"]))
            for found in counted[:MAX_SHOWN]
        ]
        told = format_html_join("", "<div>{}: {}, the oldest came {}</div>", lines) or "-"
        rest = f"Only the oldest {MOST_COUNTED:,} were looked at." if row.waiting > MOST_COUNTED else ""
        return format_html_join("", "{}", [(told,), (rest,)])

    @admin.display(description="the oldest")
    def first_messages(self, row: ToDeviceInbox) -> SafeString | str:
        found = _waiting(row).order_by("position").values_list("position", "type", "sender", "received_at")
        lines = [
            (position, shown(kind, limit=60), shown(sender), seconds_precise(at))
            for position, kind, sender, at in found[:MAX_SHOWN]
        ]
        return format_html_join("", "<div>{}: {} of {}, {}</div>", lines) or "-"


def _waiting(row: ToDeviceInbox) -> QuerySet[ToDeviceMessage]:
    """The messages that wait in an inbox; only columns that are named are read, and never their contents."""
    first = row.last_position - row.waiting + 1
    return ToDeviceMessage.objects.filter(inbox=row, position__gte=first, acknowledged_at__isnull=True)
