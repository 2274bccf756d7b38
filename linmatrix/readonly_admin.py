"""What the console's pages share: they show rows, they change nothing, and they stay fast on tables of any size.

Read-only, because rooms, events and transactions are what servers have signed and agreed on: a row edited here would
be a row that no other server has.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import orjson
from django.contrib import admin
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

MAX_SHOWN_BYTES = 256 * 1024
"""Of a transaction's body: the largest has 3 MiB, which no browser shows with pleasure."""


class EstimatingPaginator(Paginator):
    """Counts small results exactly and takes PostgreSQL's estimate for large ones.

    PostgreSQL keeps no counts: counting a million rows reads a million rows.
    """

    exact_up_to = 10_000

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        assert isinstance(rows, models.QuerySet)
        counted = rows.order_by()[: self.exact_up_to + 1].count()
        if counted <= self.exact_up_to:
            return counted
        plan = orjson.loads(rows.order_by().explain(format="json"))
        return max(counted, int(plan[0]["Plan"]["Plan Rows"]))


class ReadOnlyAdmin(admin.ModelAdmin):
    """Lists and shows rows."""

    paginator = EstimatingPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 200
    actions = None

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
    try:
        indented = orjson.dumps(orjson.loads(encoded), option=orjson.OPT_INDENT_2)
    except orjson.JSONDecodeError:
        indented = encoded
    cut = indented[:MAX_SHOWN_BYTES].decode(errors="replace")
    rest = "\n…" if len(indented) > MAX_SHOWN_BYTES else ""
    return format_html(
        '<div>{}</div><pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0">{}{}</pre>',
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
