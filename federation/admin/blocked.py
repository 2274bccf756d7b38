"""Blocked servers: who is on the list and why, what that means for which rooms, and blocking and unblocking."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from federation import blocking
from federation.admin.levers import MAX_REASON, Offer
from federation.models import BlockedServer, Destination
from linmatrix.pages import Crumb, StyledForm, ask
from linmatrix.protocol.errors import Malformed
from linmatrix.readonly_admin import ReadOnlyAdmin
from rooms.models import Room, RoomServer

MAX_ROOMS = 50
MAX_SERVERS = 500
"""Rooms that a page names, and servers of a glob whose rooms are looked for."""

CONSEQUENCES = (
    "Every request that the server signs is answered 403, and nothing is delivered to it or asked of it.",
    "Its users cannot be invited here, nor can they invite.",
    "Rooms stay as they are: nobody is removed and nothing is rewritten. In rooms that we host, its users stay members "
    "until somebody bans them. Rooms that it hosts stand still here.",
    "What its users say in a room of another hub arrives by way of that hub, and is taken.",
    f"What waits for it is kept, and sent when it is unblocked. All processes know within "
    f"{blocking.STALE_SECONDS:.0f} seconds.",
)


class BlockForm(StyledForm, forms.Form):
    """Whom to block, and why."""

    servers = forms.CharField(
        label="Server",
        max_length=300,
        help_text="A server name, or a glob of host names such as *.example.org. Without a port, all of its ports.",
    )
    reason = forms.CharField(max_length=MAX_REASON, required=False, help_text="For other operators. No server is told.")

    def clean_servers(self) -> str:
        try:
            return blocking.checked_entry(self.cleaned_data["servers"])
        except Malformed as error:
            raise forms.ValidationError(error.reason) from None


@admin.register(BlockedServer)
class BlockedServerAdmin(ReadOnlyAdmin):
    """Servers that we have nothing to do with."""

    list_display = ("servers", "reason", "blocked_at", "blocked_by")
    search_fields = ("servers", "reason", "blocked_by")
    search_help_text = "A part of a server's name, a reason or an operator's name"
    ordering = ("-blocked_at",)
    fields = ("servers", "reason", "blocked_at", "by", "their_rooms", "our_rooms", "effect")
    readonly_fields = ("by", "their_rooms", "our_rooms", "effect")
    change_form_outer_before_template = "console/parts/levers.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """To block is to add a row."""
        return request.user.has_perm("federation.add_blockedserver")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """To unblock is to delete it."""
        return request.user.has_perm("federation.delete_blockedserver")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask whom to block, then show what that means, then block. The answer names whom it is about."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._ask(request, BlockForm(initial={"servers": request.GET.get("servers", "")}))
        form = BlockForm(request.POST)
        if not form.is_valid():
            return self._ask(request, form)
        entry, reason = form.cleaned_data["servers"], form.cleaned_data["reason"]
        if request.POST.get("confirmed") != entry:
            return self._confirm(request, entry, reason)
        try:
            row = blocking.block(entry, reason=reason, by=request.user.get_username(), now=timezone.now())
        except Malformed as error:
            form.add_error("servers", error.reason)
            return self._ask(request, form)
        self.log_addition(request, row, f"Blocked. {reason}".strip())
        self.message_user(request, f"{entry} is blocked.", messages.SUCCESS)
        return HttpResponseRedirect(_url("change", quote(row.pk)))

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        """Rooms only for those who may see rooms."""
        may_look = request.user.has_perm("rooms.view_room")
        return [name for name in self.fields if may_look or not name.endswith("_rooms")]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The entry, and the way to unblock for those who may."""
        may = self.has_delete_permission(request)
        levers = [Offer("Unblock", "undo", _url("delete", object_id))] if may else []
        context = {"levers": levers, "show_delete": False}  # Django's own button does not say what it does here
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask, and on a POST unblock."""
        if not self.has_delete_permission(request):
            raise PermissionDenied
        row = get_object_or_404(BlockedServer, pk=unquote(object_id))
        shown = _url("change", quote(row.pk))
        if request.method != "POST":
            return ask(
                request,
                title=f"Unblock {row}",
                lead="The server may send, read, join and invite again, and gets what waits for it.",
                points=["Unless another entry of the list blocks it, too."],
                submit="Unblock",
                back=shown,
                crumbs=_crumbs(Crumb(row.servers, shown)),
            )
        try:
            with transaction.atomic():
                self.log_deletions(request, BlockedServer.objects.filter(pk=row.pk))
                blocking.unblock(row.servers)
        except Malformed as error:
            self.message_user(request, error.reason, messages.WARNING)
        else:
            self.message_user(request, f"{row} is not blocked any more.", messages.SUCCESS)
        return HttpResponseRedirect(_url("changelist"))

    def _ask(self, request: HttpRequest, form: BlockForm) -> HttpResponse:
        return ask(
            request, title="Block a server", form=form, submit="Next", back=_url("changelist"), crumbs=_crumbs()
        )  # fmt: skip

    def _confirm(self, request: HttpRequest, entry: str, reason: str) -> HttpResponse:
        return ask(
            request,
            title=f"Block {entry}?",
            lead=_meant(entry) if request.user.has_perm("federation.view_destination") else "",
            points=CONSEQUENCES,
            hidden={"servers": entry, "reason": reason, "confirmed": entry},
            submit=f"Block {entry}",
            danger=True,
            back=_url("changelist"),
            crumbs=_crumbs(),
        )

    @admin.display(description="by")
    def by(self, row: BlockedServer) -> str:
        return row.blocked_by or "the command"

    @admin.display(description="rooms that it hosts")
    def their_rooms(self, row: BlockedServer) -> SafeString:
        pattern = blocking.pattern_of(row.servers)
        rooms = Room.objects.filter(role=Room.Role.PARTICIPANT, hub_server__iregex=pattern).order_by("room_id")
        return _links(rooms.values_list("room_id", flat=True))

    @admin.display(description="rooms of ours with its users")
    def our_rooms(self, row: BlockedServer) -> SafeString:
        stays = RoomServer.objects.filter(
            server__in=_servers_of(row.servers), left_position__isnull=True, room__role=Room.Role.HUB
        )
        return _links(stays.order_by().values_list("room_id", flat=True).distinct())

    @admin.display(description="what that means")
    def effect(self, row: BlockedServer) -> SafeString:
        items = format_html_join("", "<li>{}</li>", ((text,) for text in CONSEQUENCES))
        return format_html('<ul class="lm-points">{}</ul>', items)


def _url(page: str, *args: str) -> str:
    return reverse(f"admin:federation_blockedserver_{page}", args=args)


def _servers_of(entry: str) -> list[str]:
    """The servers that we send to and that an entry means; every server in a room that we host is one."""
    meant = Destination.objects.filter(server__iregex=blocking.pattern_of(entry)).order_by("server")
    return list(meant.values_list("server", flat=True)[:MAX_SERVERS])


def _meant(entry: str) -> str:
    names = _servers_of(entry)
    if not names:
        return "No server that we send to is meant by it."
    known = f"{len(names)}{' or more' if len(names) == MAX_SERVERS else ''}"
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"It means {known} of the servers that we send to: {some}."


def _links(room_ids: "QuerySet[Room, str] | QuerySet[RoomServer, str]") -> SafeString:
    found = list(room_ids[: MAX_ROOMS + 1])
    if not found:
        return SafeString("none")
    links = [(reverse("admin:rooms_room_change", args=[quote(name)]), name) for name in found[:MAX_ROOMS]]
    more = SafeString("<br>and more") if len(found) > MAX_ROOMS else ""
    return format_html("{}{}", format_html_join(SafeString("<br>"), '<a href="{}">{}</a>', links), more)


def _crumbs(*further: Crumb) -> list[Crumb]:
    return [Crumb("Blocked servers", _url("changelist")), *further]
