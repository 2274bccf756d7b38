"""What an operator sees of the traffic with other servers: who is reached, what waits, and what was said."""

from typing import ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from federation.isolation import MIN_LIMIT_BYTES, send_again
from federation.models import Destination, InboundTransaction, OutboundLpdu, OutboundTransaction, PendingLeave
from federation.wire_profile import FIELDS, STALE_SECONDS, profiles
from linmatrix.readonly_admin import ReadOnlyAdmin, list_link, pretty_json


def _set_aside_of(destination: OuterRef) -> QuerySet[OutboundTransaction]:
    return OutboundTransaction.objects.filter(destination=destination, set_aside_at__isnull=False)


class ProfileForm(forms.ModelForm):
    """How a peer wants to be spoken to. A field that is emptied is learnt anew."""

    class Meta:
        model = Destination
        fields = FIELDS
        labels: ClassVar = {
            "stable_paths": "Serves stable paths",
            "signs_without_content": "Wants signatures of requests without a body to omit content",
            "max_body_bytes": "Largest transaction of several events, in bytes",
            "single_events": "Takes one event in a transaction",
            "timeline_state": "Needs the whole line of a room as state when it joins",
        }

    def clean_max_body_bytes(self) -> int | None:
        limit: int | None = self.cleaned_data["max_body_bytes"]
        most = settings.LIMITS.transaction_bytes
        if limit is not None and not MIN_LIMIT_BYTES <= limit <= most:
            raise ValidationError(f"From {MIN_LIMIT_BYTES:,} to {most:,} bytes, or empty.")
        return limit


@admin.register(Destination)
class DestinationAdmin(ReadOnlyAdmin):
    """Servers that we send to. How they want to be spoken to can be set, on a page of its own."""

    list_display = (
        "server", "waiting", "set_aside", "failures", "failing_since", "next_attempt", "last_success_at", "last_error",
    )  # fmt: skip
    list_filter = ("pending", ("failing_since", admin.EmptyFieldListFilter), "single_events", "timeline_state")
    search_fields = ("server__startswith",)
    search_help_text = "The beginning of a server's name"
    ordering = ("-failures", "server")
    fields = (*list_display, "lease_until", "lease_holder", "turn", *FIELDS, "profile", "more")
    readonly_fields = ("waiting", "set_aside", "profile", "more")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Destination]:
        counted = _set_aside_of(OuterRef("pk")).order_by().values("destination").values(number=Count("pk"))
        return super().get_queryset(request).annotate(set_aside_events=Coalesce(Subquery(counted), 0))

    def get_urls(self) -> list[URLPattern]:
        page = path(
            "<path:object_id>/wire-profile/",
            self.admin_site.admin_view(self.profile_view),
            name="federation_destination_profile",
        )
        return [page, *super().get_urls()]

    def profile_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show and set how a peer wants to be spoken to. Only these columns are written: workers write the others."""
        if not request.user.has_perm("federation.change_destination"):
            raise PermissionDenied
        destination = get_object_or_404(Destination, pk=unquote(object_id))
        form = ProfileForm(request.POST or None, instance=destination)
        shown = reverse("admin:federation_destination_change", args=[quote(destination.pk)])
        if request.method == "POST" and form.is_valid():
            destination.save(update_fields=FIELDS)
            profiles.forget(destination.server)
            text = f"Set. All processes know within {STALE_SECONDS:.0f} seconds."
            self.message_user(request, text, messages.SUCCESS)
            return HttpResponseRedirect(shown)
        context = {**self.admin_site.each_context(request), "form": form, "title": f"{destination}: wire profile"}
        return TemplateResponse(request, "admin/federation/wire_profile.html", {**context, "back": shown})

    @admin.display(description="waiting", ordering="pending")
    def waiting(self, destination: Destination) -> str:
        return "events wait" if destination.pending else "-"

    @admin.display(description="not delivered", ordering="set_aside_events")
    def set_aside(self, destination: Destination) -> SafeString | str:
        number = getattr(destination, "set_aside_events", 0)
        if not number:
            return "-"
        text = f"{number} set aside"
        return list_link(OutboundTransaction, text, destination=destination.pk, set_aside_at__isempty="0")

    @admin.display(description="wire profile")
    def profile(self, destination: Destination) -> SafeString:
        url = reverse("admin:federation_destination_profile", args=[quote(destination.pk)])
        return format_html('<a href="{}">set or reset</a>', url)

    @admin.display(description="see")
    def more(self, destination: Destination) -> SafeString:
        lists = ((OutboundTransaction, "transactions"), (OutboundLpdu, "LPDUs"))
        return SafeString(" · ".join(list_link(model, text, destination=destination.pk) for model, text in lists))


@admin.register(OutboundTransaction)
class OutboundTransactionAdmin(ReadOnlyAdmin):
    """What was sent, byte for byte, whether it was taken, and what was set aside because it was not."""

    list_display = (
        "txn_id", "destination_id", "state", "events", "attempts", "created_at", "acked_at", "set_aside_at",
        "last_error",
    )  # fmt: skip
    list_filter = (
        ("acked_at", admin.EmptyFieldListFilter),
        ("set_aside_at", admin.EmptyFieldListFilter),
        ("split_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("txn_id__exact", "lineage__exact", "destination_id__exact")
    search_help_text = "A transaction id or a server's name, in full"
    ordering = ("-id",)
    fields = (
        *list_display, "split_at", "lineage", "branch", "refusals", "first_refused_at", "path", "cursors", "lpdus",
        "pretty_body",
    )  # fmt: skip
    readonly_fields = ("state", "pretty_body")
    actions = ("send_again",)  # type: ignore[assignment]  # the base class has none, and is typed by that

    @admin.action(description="Send again what was set aside", permissions=["send_again"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[OutboundTransaction]) -> None:
        """Queue transactions that were set aside once more."""
        number = send_again(chosen.filter(set_aside_at__isnull=False).only("destination_id"))
        self.message_user(request, f"{number} of {len(chosen)} will be sent again.", messages.SUCCESS)

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        """Staff who may change transactions, were they not read-only."""
        return request.user.has_perm("federation.change_outboundtransaction")

    @admin.display(description="state")
    def state(self, row: OutboundTransaction) -> str:
        ends = ((row.acked_at, "delivered"), (row.split_at, "split into parts"), (row.set_aside_at, "not delivered"))
        return next((text for at, text in ends if at), "under way")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboundTransaction]:
        # Up to 3 MiB each, which a list does not show; a single page fetches its own.
        return super().get_queryset(request).defer("body")

    @admin.display(description="body")
    def pretty_body(self, row: OutboundTransaction) -> SafeString | str:
        return pretty_json(row.body)


@admin.register(OutboundLpdu)
class OutboundLpduAdmin(ReadOnlyAdmin):
    """Events of our users for rooms that others host."""

    list_display = ("lpdu_id", "room_id", "sender", "destination_id", "status", "created_at", "reason")
    list_filter = ("status",)
    search_fields = ("lpdu_id__exact", "destination_id__exact")
    search_help_text = "An LPDU id or a server's name, in full"
    ordering = ("-id",)
    fields = ("lpdu_id", "room_id", "sender", "destination", "status", "reason", "created_at", "pretty")
    readonly_fields = ("pretty",)

    @admin.display(description="LPDU")
    def pretty(self, row: OutboundLpdu) -> SafeString | str:
        return pretty_json(row.json)


@admin.register(PendingLeave)
class PendingLeaveAdmin(ReadOnlyAdmin):
    """Refused invites and knocks that were taken back, of which the hub has not heard yet."""

    list_display = ("room_id", "user_id", "hub_server", "created_at", "next_attempt", "failures", "last_error")
    search_fields = ("room_id__exact", "user_id__exact", "hub_server__exact")
    search_help_text = "A room's or user's id, or a server's name, in full"
    ordering = ("next_attempt",)


@admin.register(InboundTransaction)
class InboundTransactionAdmin(ReadOnlyAdmin):
    """Requests with a transaction id that others made, and what we answered."""

    list_display = ("txn_id", "endpoint", "origin", "status", "received_at", "lease_until")
    list_filter = ("endpoint", "status")
    search_fields = ("origin__exact",)
    search_help_text = "A server's name, in full"
    ordering = ("-received_at",)
    fields = (*list_display, "body_hash", "pretty_response")
    readonly_fields = ("body_hash", "pretty_response")

    def get_queryset(self, request: HttpRequest) -> QuerySet[InboundTransaction]:
        return super().get_queryset(request).defer("response")

    @admin.display(description="SHA-256 of the body")
    def body_hash(self, row: InboundTransaction) -> str:
        return bytes(row.body_sha256).hex()

    @admin.display(description="answer")
    def pretty_response(self, row: InboundTransaction) -> SafeString | str:
        return pretty_json(row.response)
