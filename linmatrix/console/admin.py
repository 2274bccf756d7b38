"""The console's own entries: its first page, the accounts of the staff, and what the staff did.

Staff accounts are Django's, in unfold's forms. They are no users of the messaging service: those are
`rooms.LocalUser`.
"""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from linmatrix.console.dashboard import figures
from linmatrix.readonly_admin import ReadOnlyAdmin, list_link

admin.site.unregister(User)
admin.site.unregister(Group)


def _extra_urls() -> list[URLPattern]:
    return [path("figures/", admin.site.admin_view(figures), name="console_figures")]


admin.site.index_template = "console/dashboard.html"
# unfold's site asks for this one when it makes its URLs.
admin.site.extra_urls = _extra_urls  # type: ignore[attr-defined]


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """Who may enter the console, and what they may do there."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """Permissions of several accounts together."""


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Every action that was taken in the console, newest first."""

    list_display = ("action_time", "by", "object_repr", "kind", "message")
    list_filter = ("action_flag",)
    list_select_related = ("user", "content_type")
    search_fields = ("user__username__exact", "object_id__exact")
    search_help_text = "An account's name, or the id of what was changed, in full"
    # The order in which they were written, by the primary key.
    ordering = ("-id",)
    fields = ("action_time", "by", "kind", "object_repr", "object_id", "message")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogEntry]:
        return super().get_queryset(request).select_related("user", "content_type")

    @admin.display(description="account")
    def by(self, entry: LogEntry) -> SafeString:
        return list_link(LogEntry, entry.user.get_username(), user__id__exact=str(entry.user.pk))

    @admin.display(description="what")
    def kind(self, entry: LogEntry) -> str:
        return str(entry.content_type) if entry.content_type else "-"

    @admin.display(description="action")
    def message(self, entry: LogEntry) -> Any:
        return entry.get_change_message() or entry.get_action_flag_display()
