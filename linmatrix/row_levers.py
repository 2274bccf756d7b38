"""What can be done about one row of a list, from the row's own page: a button, a question, a POST, a line in the log.

`federation.admin.levers` has the many levers of a destination; here is what a row has of which one thing can be done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from linmatrix.pages import Button, Crumb, ask
from linmatrix.readonly_admin import ReadOnlyAdmin


class NotDone(Exception):
    """Why a lever had no effect, for the operator."""


@dataclass(frozen=True, slots=True)
class RowLever:
    """A lever in words, and the permission that it needs. `lead` says what will happen and `points` what else there is
    to know; `danger` marks what cannot be taken back."""

    text: str
    icon: str
    permission: str
    lead: str
    points: tuple[str, ...] = ()
    danger: bool = False


class LeverAdmin(ReadOnlyAdmin):
    """Rows about each of which one thing can be done. It is asked for once more before it is done."""

    lever: ClassVar[RowLever]
    change_form_outer_before_template = "console/parts/levers.html"

    def useful(self, row: models.Model) -> bool:
        """Whether the lever would do anything."""
        return True

    def about(self, row: models.Model) -> dict[str, str]:
        """What the question is about besides the row; comes back with the answer."""
        return {}

    def pull(self, row: models.Model, answer: Mapping[str, str]) -> str:
        """Do it, and say what was done. Raises `NotDone`. No transaction is open."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.lever_view)
        return [path("<path:object_id>/lever/", view, name=self._name("lever")), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The row, and the button where the lever does something and the operator may pull it."""
        row = self.get_object(request, unquote(object_id)) if self._may(request) else None
        url = reverse(f"admin:{self._name('lever')}", args=[object_id])
        levers = [Button(self.lever.text, url, self.lever.icon)] if row is not None and self.useful(row) else []
        return super().change_view(request, object_id, form_url, {"levers": levers, **(extra_context or {})})

    def lever_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, and on a POST do it."""
        if not self._may(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if request.method != "POST":
            return self._ask(request, row)
        try:
            done = self.pull(row, {name: str(value) for name, value in request.POST.items()})
        except NotDone as refusal:
            self.message_user(request, str(refusal), messages.WARNING)
        else:
            self.log_change(request, row, done)
            self.message_user(request, done, messages.SUCCESS)
        # It may be gone now.
        there = self.get_object(request, unquote(object_id)) is not None
        return HttpResponseRedirect(self._url("change", quote(row.pk)) if there else self._url("changelist"))

    def _ask(self, request: HttpRequest, row: models.Model) -> HttpResponse:
        shown = self._url("change", quote(row.pk))
        return ask(
            request,
            title=f"{self.lever.text}: {row}",
            lead=self.lever.lead,
            points=self.lever.points,
            hidden=self.about(row),
            submit=self.lever.text,
            danger=self.lever.danger,
            back=shown,
            crumbs=[
                Crumb(str(self.opts.verbose_name_plural).capitalize(), self._url("changelist")),
                Crumb(str(row), shown),
            ],
        )

    def _may(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(self.lever.permission)

    def _name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def _url(self, page: str, *args: str) -> str:
        return reverse(f"admin:{self._name(page)}", args=args)
