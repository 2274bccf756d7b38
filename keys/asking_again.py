"""The console's lever that asks servers for their keys again, on every list of rows that are about a server."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from keys import refetching
from keys.refetching import REFETCH
from linmatrix.pages import ask
from linmatrix.readonly_admin import ReadOnlyAdmin

MAX_REFETCHED = 16
"""Servers asked by one click: all at the same time, so that the page comes back within twenty seconds."""


class RefetchingAdmin(ReadOnlyAdmin):
    """Rows with a `server` that can be asked for its keys again, from the list or on their own pages."""

    actions = ("refetch",)  # type: ignore[assignment]  # the base has none, which is not meant for ever
    change_form_outer_before_template = "admin/keys/refetch.html"

    def has_refetch_permission(self, request: HttpRequest) -> bool:
        """Whether the operator may have servers asked. Named as Django wants it for an action's permission."""
        return request.user.has_perm(REFETCH)

    def get_urls(self) -> list[URLPattern]:
        """Where the button of a row's own page leads."""
        name = f"keys_{self.opts.model_name}_refetch"
        view = self.admin_site.admin_view(self.refetch_view)
        return [path("<path:object_id>/refetch/", view, name=name), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The row, and the button for those who may."""
        url = reverse(f"admin:keys_{self.opts.model_name}_refetch", args=[object_id])
        context = {"refetch_url": url if self.has_refetch_permission(request) else ""}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def refetch_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask the server of a row, on a POST; before that, whether to."""
        if not self.has_refetch_permission(request) or not self.has_view_permission(request):
            raise PermissionDenied
        row: Any = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        shown = reverse(f"admin:keys_{self.opts.model_name}_change", args=[object_id])
        if request.method != "POST":
            lead = "The server is asked for its keys now, whenever it was asked last."
            title = f"Ask {row.server} for its keys"
            return ask(request, title=title, lead=lead, submit="Refetch keys", back=shown)
        self._refetch(request, {row.server})
        # What is known of the server may be other rows now.
        exists = self.model._default_manager.filter(pk=row.pk).exists()
        return HttpResponseRedirect(shown if exists else reverse(f"admin:keys_{self.opts.model_name}_changelist"))

    @admin.action(description="Ask these servers for their keys again", permissions=["refetch"])
    def refetch(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Ask now, without regard to when they were asked last, and say what came of it."""
        servers = set(chosen.order_by().values_list("server", flat=True).distinct()[: MAX_REFETCHED + 1])
        if len(servers) > MAX_REFETCHED:
            self.message_user(request, f"Choose at most {MAX_REFETCHED} servers at once.", messages.ERROR)
            return
        self._refetch(request, servers)

    def _refetch(self, request: HttpRequest, servers: set[str]) -> None:
        for server, error in refetching.refetch(servers).items():
            if error:
                self.message_user(request, f"No keys from {server}: {error}", messages.WARNING)
            else:
                self.message_user(request, f"Keys came from {server}.", messages.SUCCESS)
            log(request, server, "Asked for its keys again.")


def log(request: HttpRequest, about: str, message: str) -> None:
    """Put an action that is about no single row into the log."""
    assert request.user.pk is not None  # who has a permission has logged in
    LogEntry.objects.create(user_id=request.user.pk, action_flag=CHANGE, object_repr=about, change_message=message)
