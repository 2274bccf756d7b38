"""Servers that we send to: how they are, what waits for them, and the levers on each one's page."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from unfold.decorators import display

from federation.admin.edus import IS_DUE
from federation.admin.levers import LEVERS, Lever, offered
from federation.admin.profile import ProfileForm
from federation.blocking import block_list
from federation.condition import (
    MOST_COUNTED,
    STAYS_IN_LIST,
    STAYS_ON_PAGE,
    Condition,
    Waiting,
    condition_of,
    in_condition,
    waiting_for,
)
from federation.models import Destination, DeviceListCursor, OutboundEdu, OutboundLpdu, OutboundTransaction
from federation.wire_profile import FIELDS, STALE_SECONDS, profiles
from keys.models import ServerKey
from linmatrix.pages import Crumb, ask
from linmatrix.readonly_admin import PagedList, ReadOnlyAdmin, list_link
from linmatrix.row_levers import NotDone

LABELS = {
    Condition.HEALTHY.value: "success",
    Condition.BACKING_OFF.value: "warning",
    Condition.FAILING.value: "danger",
    Condition.PAUSED.value: "info",
    Condition.BLOCKED.value: "primary",
}


class ConditionFilter(admin.SimpleListFilter):
    """By how destinations are."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(condition.name.lower(), condition.value) for condition in Condition]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        chosen = next((item for item in Condition if item.name.lower() == self.value()), None)
        return queryset.filter(in_condition(chosen, now=timezone.now())) if chosen else queryset


class WaitingList(PagedList):
    """The list, with what waits for the servers on the page that is shown."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        waiting = waiting_for([row.server for row in rows if row.pending], most_stays=STAYS_IN_LIST)
        for row in rows:
            row.waiting_events = waiting.get(row.server, Waiting(0))
        self.result_list = rows


@admin.register(Destination)
class DestinationAdmin(ReadOnlyAdmin):
    """Servers that we send to. What can be done about one is on its page."""

    list_display = ("server", "state", "detail", "waiting", "set_aside", "last_error", "last_success_at", "wire")
    list_filter = (ConditionFilter, "pending", "single_events", "timeline_state")
    search_fields = ("server__startswith",)
    search_help_text = "The beginning of a server's name"
    ordering = ("-failures", "server")
    fields = (
        "server", "state", "detail", "waiting", "edus", "set_aside", "failures", "failing_since", "next_attempt",
        "last_error", "last_success_at", "paused_at", "paused_reason", "lease_until", "lease_holder", "turn", *FIELDS,
        "profile", "more",
    )  # fmt: skip
    readonly_fields = ("state", "detail", "waiting", "edus", "set_aside", "profile", "more")
    change_form_outer_before_template = "console/parts/levers.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Destination]:
        aside = OutboundTransaction.objects.filter(destination=OuterRef("pk"), set_aside_at__isnull=False)
        counted = aside.order_by().values("destination").values(number=Count("pk"))
        return super().get_queryset(request).annotate(set_aside_transactions=Coalesce(Subquery(counted), 0))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return WaitingList

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<path:object_id>/wire-profile/", view(self.profile_view), name="federation_destination_profile"),
            path("<path:object_id>/do/<slug:name>/", view(self.lever_view), name="federation_destination_lever"),
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The server's page, with the levers that it calls for and that this operator may pull."""
        destination = Destination.objects.filter(pk=unquote(object_id)).first()
        context = {"levers": [] if destination is None else offered(request, destination)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def lever_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Ask before a lever is pulled, and on a POST pull it."""
        lever = next((lever for lever in LEVERS if lever.name == name), None)
        if lever is None:
            raise Http404
        if not lever.allowed(request) or not self.has_view_permission(request):
            raise PermissionDenied
        destination = get_object_or_404(Destination, pk=unquote(object_id))
        form = lever.form(request.POST if request.method == "POST" else None) if lever.form else None
        if request.method != "POST" or (form is not None and not form.is_valid()):
            return self._ask(request, lever, destination, form)
        try:
            done = lever.pull(destination, form.cleaned_data if form else {})
        except NotDone as refusal:
            self.message_user(request, str(refusal), messages.WARNING)
        else:
            self.log_change(request, destination, done)
            self.message_user(request, done, messages.SUCCESS)
        return HttpResponseRedirect(_url("change", quote(destination.pk)))

    def _ask(
        self, request: HttpRequest, lever: Lever, destination: Destination, form: forms.Form | None
    ) -> HttpResponse:
        return ask(
            request,
            title=f"{lever.text}: {destination}",
            lead=lever.lead,
            points=lever.points,
            form=form,
            submit=lever.text,
            back=_url("change", quote(destination.pk)),
            crumbs=_crumbs(destination),
        )

    def profile_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show and set how a peer wants to be spoken to. Only these columns are written: workers write the others."""
        if not request.user.has_perm("federation.change_destination"):
            raise PermissionDenied
        destination = get_object_or_404(Destination, pk=unquote(object_id))
        form = ProfileForm(request.POST or None, instance=destination)
        shown = _url("change", quote(destination.pk))
        if request.method == "POST" and form.is_valid():
            destination.save(update_fields=FIELDS)
            profiles.forget(destination.server)
            self.log_change(request, destination, "Set the wire profile.")
            text = f"Set. All processes know within {STALE_SECONDS:.0f} seconds."
            self.message_user(request, text, messages.SUCCESS)
            return HttpResponseRedirect(shown)
        return ask(
            request,
            title=f"{destination}: wire profile",
            lead="Learnt from the server's answers, unless it is set here. What is unknown or empty is learnt anew.",
            form=form,
            submit="Save",
            back=shown,
            crumbs=_crumbs(destination),
        )

    @display(description="state", label=LABELS)
    def state(self, destination: Destination) -> str:
        return condition_of(destination, now=timezone.now()).value

    @admin.display(description="since, until", ordering="failing_since")
    def detail(self, destination: Destination) -> str:
        return _detail(destination, now=timezone.now())

    @admin.display(description="waiting", ordering="pending")
    def waiting(self, destination: Destination) -> str:
        if not destination.pending:
            return "-"
        waiting = getattr(destination, "waiting_events", None)
        if waiting is None:
            waiting = waiting_for([destination.server], most_stays=STAYS_ON_PAGE).get(destination.server, Waiting(0))
        return str(waiting)

    @admin.display(description="EDUs among it")
    def edus(self, destination: Destination) -> SafeString:
        messages = _counted(OutboundEdu.objects.filter(destination=destination))
        lists = _counted(DeviceListCursor.objects.filter(IS_DUE, destination=destination))
        return format_html(
            "{}, {}",
            list_link(OutboundEdu, f"to-device messages: {messages}", destination=destination.pk),
            list_link(DeviceListCursor, f"users' device lists: {lists}", destination=destination.pk, due="yes"),
        )

    @admin.display(description="not delivered", ordering="set_aside_transactions")
    def set_aside(self, destination: Destination) -> SafeString | str:
        number = getattr(destination, "set_aside_transactions", 0)
        if not number:
            return "-"
        text = f"{number} set aside"
        return list_link(OutboundTransaction, text, destination=destination.pk, set_aside_at__isempty="0")

    @admin.display(description="wire")
    def wire(self, destination: Destination) -> str:
        words = (
            (destination.stable_paths is False, "unstable paths"),
            (destination.signs_without_content, "no empty content"),
            (destination.max_body_bytes is not None, f"{destination.max_body_bytes or 0:,} bytes"),
            (destination.single_events, "one event each"),
            (destination.timeline_state, "line as state"),
        )
        return ", ".join(word for holds, word in words if holds) or "-"

    @admin.display(description="wire profile")
    def profile(self, destination: Destination) -> SafeString:
        return format_html('<a href="{}">set or reset</a>', _url("profile", quote(destination.pk)))

    @admin.display(description="see")
    def more(self, destination: Destination) -> SafeString:
        lists = (
            list_link(OutboundTransaction, "transactions", destination=destination.pk),
            list_link(OutboundLpdu, "LPDUs", destination=destination.pk),
            list_link(OutboundEdu, "EDUs", destination=destination.pk),
            list_link(DeviceListCursor, "device lists", destination=destination.pk),
            list_link(ServerKey, "keys", server=destination.pk),
        )
        return SafeString(" · ".join(lists))


def _counted(rows: QuerySet[Any]) -> str:
    number = rows.order_by()[: MOST_COUNTED + 1].count()
    return f"{number:,}" if number <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"


def _url(page: str, *args: str) -> str:
    return reverse(f"admin:federation_destination_{page}", args=args)


def _crumbs(destination: Destination) -> list[Crumb]:
    return [
        Crumb("Destinations", reverse("admin:federation_destination_changelist")),
        Crumb(destination.server, _url("change", quote(destination.pk))),
    ]


def _detail(destination: Destination, *, now: datetime) -> str:
    if entry := block_list.entry_for(destination.server):
        return f"as {entry}"
    if destination.paused_at is not None:
        return f"for {timesince(destination.paused_at, now, depth=1)}"
    if destination.failing_since is None:
        return "-" if destination.last_success_at else "nothing sent yet"
    due = destination.next_attempt
    again = f"next try in {_soon(due - now)}" if due is not None and due > now else "due now"
    return f"for {timesince(destination.failing_since, now, depth=1)}, {again}"


def _soon(wait: timedelta) -> str:
    seconds = round(wait.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
