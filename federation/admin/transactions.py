"""What was sent, what was received, and what waits besides: transactions, LPDUs for hubs, leaves."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from federation.admin.reading import body_of, events_of, refusals_of, refused_lpdus
from federation.isolation import send_again
from federation.models import InboundTransaction, OutboundLpdu, OutboundTransaction, PendingLeave
from linmatrix.readonly_admin import ReadOnlyAdmin, pretty_json


@admin.register(OutboundTransaction)
class OutboundTransactionAdmin(ReadOnlyAdmin):
    """What was sent, but for what messages to devices say; whether it was taken, and what was set aside."""

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
        "told", "refused", "pretty_body",
    )  # fmt: skip
    readonly_fields = ("state", "told", "refused", "pretty_body")
    actions = ("send_again",)  # type: ignore[assignment]  # the base class has none, and is typed by that

    @admin.action(description="Send again what was set aside", permissions=["send_again"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[OutboundTransaction]) -> None:
        """Queue transactions that were set aside once more."""
        number_chosen = chosen.count()
        again = list(chosen.filter(set_aside_at__isnull=False).only("destination_id", "txn_id"))
        number = send_again(again)
        for row in again:
            self.log_change(request, row, "Queued once more.")
        self.message_user(request, f"{number} of {number_chosen} will be sent again.", messages.SUCCESS)

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

    @admin.display(description="what it says")
    def told(self, row: OutboundTransaction) -> SafeString | str:
        return events_of(row.body)

    @admin.display(description="refused LPDUs")
    def refused(self, row: OutboundTransaction) -> SafeString | str:
        return refused_lpdus(row)

    @admin.display(description="body")
    def pretty_body(self, row: OutboundTransaction) -> SafeString | str:
        return body_of(row.body)


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
    fields = (*list_display, "body_hash", "refused", "pretty_response")
    readonly_fields = ("body_hash", "refused", "pretty_response")

    def get_queryset(self, request: HttpRequest) -> QuerySet[InboundTransaction]:
        return super().get_queryset(request).defer("response")

    @admin.display(description="events that we refused")
    def refused(self, row: InboundTransaction) -> SafeString | str:
        return refusals_of(row.response) if row.response is not None else "no answer yet"

    @admin.display(description="SHA-256 of the body")
    def body_hash(self, row: InboundTransaction) -> str:
        return bytes(row.body_sha256).hex()

    @admin.display(description="answer")
    def pretty_response(self, row: InboundTransaction) -> SafeString | str:
        return pretty_json(row.response)
