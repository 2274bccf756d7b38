"""What the console's pages share: they show rows, they change nothing, and they stay fast on tables of any size.

Read-only, because rooms, events and transactions are what servers have signed and agreed on: a row edited here would
be a row that no other server has.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlencode

import orjson
from django.contrib import admin, messages
from django.contrib.admin.checks import ModelAdminChecks
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

MAX_SHOWN_BYTES = 256 * 1024
"""Of a transaction's body: the largest has 3 MiB, which no browser shows with pleasure."""


MAX_CHOSEN = 1_000
"""Rows that an action takes at once."""


class EstimatingPaginator(Paginator):
    """Counts small results exactly, takes PostgreSQL's estimate for large ones, and ends after so many rows.

    PostgreSQL keeps no counts: counting a million rows reads a million rows, and so does the page that comes after
    them. Who looks for a row that far down searches for it.
    """

    exact_up_to = 10_000

    @cached_property
    def num_pages(self) -> int:
        pages: int = super().num_pages
        return min(pages, max(self.exact_up_to // self.per_page, 1))

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        assert isinstance(rows, models.QuerySet)
        counted = rows.order_by()[: self.exact_up_to + 1].count()
        if counted <= self.exact_up_to:
            return counted
        plan = orjson.loads(rows.order_by().explain(format="json"))
        return max(counted, int(plan[0]["Plan"]["Plan Rows"]))

    def page(self, number: int | str) -> Page:
        """A page; one further down by its rows' keys.

        PostgreSQL would else work out what is said beside a row (a room's name, its members) for all that come before.
        """
        rows, number = self.object_list, self.validate_number(number)
        if number == 1 or not isinstance(rows, models.QuerySet):
            return super().page(number)
        first = (number - 1) * self.per_page
        keys = rows.values_list("pk", flat=True)[first : first + self.per_page]
        return Page(rows.filter(pk__in=list(keys)), number, self)


class PagedList(ChangeList):
    """A list that is looked at in pages: where nothing narrows it down, nothing offers to show all of it."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> models.QuerySet:
        if any("\0" in value for name in request.GET for value in request.GET.getlist(name)):
            raise IncorrectLookupParameters  # PostgreSQL takes it in no text
        return super().get_queryset(request, exclude_parameters)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.query and not self.get_filters_params():
            self.full_result_count = self.result_count


class ReadOnlyAdmin(ModelAdmin):
    """Lists and shows rows.

    A list is in the order of an index. Where others can be chosen (`sortable_by`), the table is a small one. What is
    typed into the search box is looked up in one column, which its first character names: a condition on several
    columns at once could use the index of none.
    """

    # Django's: unfold's would ask the database whether permissions exist, and checks run before there are tables.
    checks_class = ModelAdminChecks
    search_by: ClassVar[Mapping[str, str]] = {}
    """Lookups by the first characters of what is searched for, "" for everything else; the first that fits."""

    sortable_by: Sequence[str] = ()

    paginator = EstimatingPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    actions = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PagedList

    def get_search_fields(self, request: HttpRequest) -> Sequence[str]:
        return [*self.search_by.values(), *super().get_search_fields(request)]

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet, search_term: str
    ) -> tuple[models.QuerySet, bool]:
        if not self.search_by or not search_term:
            return super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        found = (lookup for first, lookup in self.search_by.items() if term.startswith(first))
        lookup = next(found, None)
        return (queryset.filter(**{lookup: term}) if lookup else queryset.none()), False

    def response_action(self, request: HttpRequest, queryset: models.QuerySet) -> HttpResponse | None:
        """Refuse to act on everything that a list finds where that is more than `MAX_CHOSEN`."""
        across = request.POST.get("select_across", "0") not in ("", "0")
        if across and queryset.order_by()[: MAX_CHOSEN + 1].count() > MAX_CHOSEN:
            text = f"Choose at most {MAX_CHOSEN:,} at once: filter or search, or choose them on the page."
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class ChosenValues(admin.SimpleListFilter):
    """A filter by the values that matter. Django's own would read the whole table to find out which there are."""

    values: Sequence[str] = ()

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[Any, str]]:
        return [(value, value) for value in self.values]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet) -> models.QuerySet:
        assert self.parameter_name is not None
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset


def pretty_json(text: str | bytes | memoryview | None) -> SafeString | str:
    """JSON with indentation, or as it came where it is none or too long."""
    if text is None:
        return "-"
    encoded = text.encode() if isinstance(text, str) else bytes(text)
    size = f"{len(encoded):,} bytes"
    indented = encoded
    # Indentation can make a hundred bytes of one.
    if len(encoded) <= MAX_SHOWN_BYTES:
        with suppress(orjson.JSONDecodeError):
            indented = orjson.dumps(orjson.loads(encoded), option=orjson.OPT_INDENT_2)
    cut = indented[:MAX_SHOWN_BYTES].decode(errors="replace")
    rest = "\n…" if len(indented) > MAX_SHOWN_BYTES else ""
    return format_html(
        '<div class="lm-size">{}</div><pre class="lm-pre">{}{}</pre>',
        size,
        cut,
        rest,
    )


def seconds_precise(moment: datetime | None) -> str:
    """A time to the millisecond, in UTC as everything here."""
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}" if moment else "-"


def list_link(model: type[models.Model], text: str, **filters: str) -> SafeString:
    """A link to the list of a model's rows that match."""
    meta = model._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    return format_html('<a href="{}?{}">{}</a>', url, urlencode(filters), text)
