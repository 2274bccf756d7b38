"""What an operator sees of the traffic with other servers: who is reached, what waits, and what was said."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from federation.models import Destination, InboundTransaction, OutboundLpdu, OutboundTransaction
from linmatrix.readonly_admin import ReadOnlyAdmin, list_link, pretty_json


@admin.register(Destination)
class DestinationAdmin(ReadOnlyAdmin):
    """Servers that we send to."""

    list_display = ("server", "waiting", "failures", "failing_since", "next_attempt", "last_success_at", "last_error")
    list_filter = ("pending", ("failing_since", admin.EmptyFieldListFilter))
    search_fields = ("server__startswith",)
    search_help_text = "The beginning of a server's name"
    ordering = ("-failures", "server")
    fields = (*list_display, "lease_until", "lease_holder", "turn", "more")
    readonly_fields = ("waiting", "more")

    @admin.display(description="waiting", ordering="pending")
    def waiting(self, destination: Destination) -> str:
        return "events wait" if destination.pending else "-"

    @admin.display(description="see")
    def more(self, destination: Destination) -> SafeString:
        lists = ((OutboundTransaction, "transactions"), (OutboundLpdu, "LPDUs"))
        return SafeString(" · ".join(list_link(model, text, destination=destination.pk) for model, text in lists))


@admin.register(OutboundTransaction)
class OutboundTransactionAdmin(ReadOnlyAdmin):
    """What was sent, byte for byte, and whether it was taken."""

    list_display = ("txn_id", "destination_id", "events", "attempts", "created_at", "acked_at", "last_error")
    list_filter = (("acked_at", admin.EmptyFieldListFilter),)
    search_fields = ("txn_id__exact", "destination_id__exact")
    search_help_text = "A transaction id or a server's name, in full"
    ordering = ("-id",)
    fields = (*list_display, "path", "cursors", "lpdus", "pretty_body")
    readonly_fields = ("pretty_body",)

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
