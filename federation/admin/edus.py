"""What waits for other servers outside of rooms: to-device messages, and news of our users' devices.

Contents of messages are for the devices that they are addressed to: no page shows them, and nothing here reads them.
"""

from typing import Any

from django.contrib import admin
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest

from federation.models import DeviceListCursor, OutboundEdu
from linmatrix.readonly_admin import ChosenValues, ReadOnlyAdmin

IS_DUE = Q(told__lt=F("wanted"))
"""A server has not been told all of a user's devices: what `federation.edus.device_lists` sends, and an index has."""


@admin.register(OutboundEdu)
class OutboundEduAdmin(ReadOnlyAdmin):
    """To-device messages for users of other servers that have not been sent, newest first. Each server gets its own
    in order."""

    list_display = ("id", "destination_id", "kind", "sender", "created_at")
    search_fields = ("destination_id__exact",)
    search_help_text = "A server's name, in full"
    ordering = ("-id",)
    fields = ("id", "destination", "kind", "sender", "created_at")
    readonly_fields = ("kind",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboundEdu]:
        return super().get_queryset(request).defer("json")

    @admin.display(description="type")
    def kind(self, edu: OutboundEdu) -> str:
        """All are of one type: other EDUs are made when they are sent."""
        return "to-device message"


class Due(ChosenValues):
    """What is still to be told."""

    title = "to be told"
    parameter_name = "due"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[Any, str]]:
        return [("yes", "something"), ("no", "nothing")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(IS_DUE if self.value() == "yes" else ~IS_DUE) if self.value() else queryset


@admin.register(DeviceListCursor)
class DeviceListCursorAdmin(ReadOnlyAdmin):
    """What each server has been told of the devices of each of our users that it shares a room with."""

    list_display = ("destination_id", "user_id", "standing", "told", "wanted")
    list_display_links = ("destination_id", "user_id")
    list_filter = (Due,)
    search_fields = ("destination_id__exact",)
    search_help_text = "A server's name, in full"
    ordering = ("destination", "user_id")
    fields = ("destination", "user_id", "standing", "told", "wanted")
    readonly_fields = ("standing",)

    @admin.display(description="state")
    def standing(self, cursor: DeviceListCursor) -> str:
        if cursor.told >= cursor.wanted:
            return "has been told all"
        return "is to be told what changed" if cursor.told else "is to be told all"
