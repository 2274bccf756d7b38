"""What an operator sees of rooms. Only the provider's own users can be edited here."""

from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action

from linmatrix.protocol.identifiers import is_user_id
from linmatrix.readonly_admin import (
    ChosenValues,
    EstimatingPaginator,
    PagedList,
    ReadOnlyAdmin,
    list_link,
    pretty_json,
    seconds_precise,
)
from rooms import pending
from rooms.blocking import set_blocked
from rooms.models import Event, Finding, Gap, LocalUser, PendingInvite, Room, RoomServer, StateEntry
from rooms.overview import members_of, name_of, with_overview
from rooms.wording import happened, moment


@admin.register(Room)
class RoomAdmin(ReadOnlyAdmin):
    """Rooms that we host or take part in. A room's own pages are the console's (`linmatrix.console.rooms`)."""

    list_display = (
        "page",
        "name",
        "role",
        "hub_server",
        "joined_users",
        "head_position",
        "is_blocked",
        "created_at",
    )
    list_filter = ("role", "blocked", "version")
    search_fields = ("room_id__startswith", "hub_server__startswith")
    search_help_text = "The beginning of a room id, with its !, or of a hub's name"
    ordering = ("-created_at", "room_id")
    fields = (
        "room_id", "name", "version", "role", "hub_server", "joined_users", "head_position", "head_event_id",
        "is_blocked", "created_at", "more",
    )  # fmt: skip
    readonly_fields = ("name", "joined_users", "is_blocked", "more")
    list_display_links = None
    actions = ("block", "unblock")  # type: ignore[assignment]  # the base has none, which is not meant for ever
    actions_list = ("create", "join")

    @action(description="Create a room", icon="add", permissions=["acting.create_room"])
    def create(self, request: HttpRequest) -> HttpResponse:
        """To the form for a new room."""
        return HttpResponseRedirect(reverse("room:enter", args=["create"]))

    @action(description="Join a room", icon="login", permissions=["acting.join_room"])
    def join(self, request: HttpRequest) -> HttpResponse:
        """To the form with which a user of ours enters a room."""
        return HttpResponseRedirect(reverse("room:enter", args=["join"]))

    @admin.display(description="room", ordering="room_id")
    def page(self, room: Room) -> SafeString:
        return format_html('<a href="{}">{}</a>', reverse("room:room", args=[quote(room.pk)]), room.room_id)

    def has_block_permission(self, request: HttpRequest) -> bool:
        """Whether the operator may block rooms: who may change rooms, of which nothing else can be changed."""
        return request.user.has_perm("rooms.change_room")

    @admin.action(description="Block: refuse every request about the room", permissions=["block"])
    def block(self, request: HttpRequest, rooms: QuerySet[Room]) -> None:
        """Refuse requests for the rooms and drop what is sent to them (decision 117)."""
        self._set_blocked(request, rooms, blocked=True)

    @admin.action(description="Unblock", permissions=["block"])
    def unblock(self, request: HttpRequest, rooms: QuerySet[Room]) -> None:
        """Take the rooms up again."""
        self._set_blocked(request, rooms, blocked=False)

    def _set_blocked(self, request: HttpRequest, rooms: QuerySet[Room], *, blocked: bool) -> None:
        # By primary key: the list's query has annotations that an UPDATE need not compute.
        changed = set_blocked(rooms.values_list("pk", flat=True), blocked=blocked)
        for room in changed:
            self.log_change(request, room, "Blocked." if blocked else "Unblocked.")
        number = "1 room was" if len(changed) == 1 else f"{len(changed)} rooms were"
        self.message_user(request, f"{number} {'blocked' if blocked else 'unblocked'}.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        return with_overview(super().get_queryset(request))

    @admin.display(description="name")
    def name(self, room: Room) -> str:
        return name_of(room) or "-"

    @admin.display(description="joined users", ordering="members")
    def joined_users(self, room: Room) -> int:
        return members_of(room)

    @admin.display(description="blocked", ordering="blocked")
    def is_blocked(self, room: Room) -> str:
        return "blocked" if room.blocked else "-"

    @admin.display(description="see")
    def more(self, room: Room) -> SafeString:
        lists = (
            (Event, "events"),
            (StateEntry, "state"),
            (RoomServer, "servers"),
            (Gap, "gaps"),
            (Finding, "findings"),
        )
        return SafeString(" · ".join(list_link(model, text, room=room.pk) for model, text in lists))


class EventTypes(ChosenValues):
    """By type. Of state, an index knows; messages are nearly everything else."""

    title = "type"
    parameter_name = "type"
    values = (
        "m.room.message", "m.room.member", "m.room.create", "m.room.power_levels", "m.room.join_rules",
        "m.room.history_visibility", "m.room.name", "m.room.topic",
    )  # fmt: skip

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        found = super().queryset(request, queryset)
        return found.filter(state_key__isnull=False) if self.value() in self.values[1:] else found


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """The lines of all rooms: each room's newest event first."""

    list_display = ("position", "made_at", "sender", "what", "verdict", "in_room")
    list_display_links = ("position", "made_at")
    list_filter = ("verdict", EventTypes)
    search_by: ClassVar = {"$": "event_id__exact", "!": "room_id__exact"}
    search_help_text = "An event id or a room id, in full"
    # The way back through the index that keeps one event per position.
    ordering = ("-room_id", "-position")
    fields = (
        "event_id", "room", "position", "lpdu_id", "type", "state_key", "sender", "made_at", "received", "verdict",
        "reason", "what", "pretty",
    )  # fmt: skip
    readonly_fields = ("made_at", "received", "what", "pretty")

    @admin.display(description="room")
    def in_room(self, event: Event) -> SafeString:
        return list_link(Event, event.room_id, room=event.room_id)

    @admin.display(description="made at (UTC)")
    def made_at(self, event: Event) -> str:
        return seconds_precise(moment(event.origin_server_ts))

    @admin.display(description="received at (UTC)")
    def received(self, event: Event) -> str:
        return seconds_precise(event.received_at)

    @admin.display(description="what happened")
    def what(self, event: Event) -> str:
        return happened(event)

    @admin.display(description="event")
    def pretty(self, event: Event) -> SafeString | str:
        return pretty_json(event.json)


class CurrentState(ChosenValues):
    """What is in force now."""

    title = "in force"
    parameter_name = "current"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[Any, str]]:
        return [("yes", "now"), ("no", "in the past")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(replaced_at__isnull=self.value() == "yes") if self.value() else queryset


@admin.register(StateEntry)
class StateEntryAdmin(ReadOnlyAdmin):
    """State and from where to where it was in force."""

    list_display = ("type", "state_key", "room_id", "position", "replaced_at", "event_id")
    search_by: ClassVar = {"!": "room_id__exact"}
    search_help_text = "A room id, in full; then there are filters too"
    ordering = ("-room_id", "-position")

    def get_list_filter(self, request: HttpRequest) -> tuple[type[ChosenValues], ...]:
        # Of one room's state, and not of all state that there is.
        return (CurrentState, EventTypes) if request.GET.get("room") or request.GET.get("q") else ()


@admin.register(RoomServer)
class RoomServerAdmin(ReadOnlyAdmin):
    """Servers in rooms, and how far each has been sent what happened there."""

    list_display = ("server", "room_id", "joined_position", "left_position", "sent_position", "joined_users")
    search_by: ClassVar = {"!": "room_id__exact", "": "server__exact"}
    search_help_text = "A server's name or a room id, in full"
    ordering = ("server", "room_id", "-joined_position")


class LocalUserForm(forms.ModelForm):
    """Takes only localparts that make a user id."""

    def clean_localpart(self) -> str:
        localpart: str = self.cleaned_data["localpart"]
        if not is_user_id(f"@{localpart}:{settings.SERVER_NAME}"):
            raise ValidationError("Lower-case letters, digits and - . = _ / + only, and not too long.")
        return localpart


@admin.register(LocalUser)
class LocalUserAdmin(ModelAdmin):
    """The provider's people. Deactivated and not deleted: the id stands in rooms, and nobody else should get it."""

    form = LocalUserForm
    paginator = EstimatingPaginator
    show_full_result_count = False
    list_per_page = 25  # each row is a form, which takes its time
    list_max_show_all = 0
    sortable_by = ()
    list_display = ("localpart", "display_name", "refuses_invites", "deactivated")
    list_editable = ("refuses_invites", "deactivated")
    list_filter = ("deactivated", "refuses_invites")
    search_fields = ("localpart", "display_name")
    ordering = ("localpart",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PagedList

    def get_readonly_fields(self, request: HttpRequest, obj: LocalUser | None = None) -> tuple[str, ...]:
        return ("localpart",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: LocalUser | None = None) -> bool:
        return False


@admin.register(PendingInvite)
class PendingInviteAdmin(ReadOnlyAdmin):
    """Invites to rooms elsewhere that our users have not answered."""

    list_display = ("user_id", "room_id", "hub_server", "received_at", "answer")
    search_by: ClassVar = {"@": "user_id__exact", "!": "room_id__exact", "": "hub_server__exact"}
    search_help_text = "A user's or a room's id, or a hub's name, in full"
    ordering = ("-received_at",)
    fields = ("user_id", "room_id", "hub_server", "room_version", "event_id", "received_at", "invite", "shown_state")
    readonly_fields = ("invite", "shown_state")

    @admin.display(description="answer")
    def answer(self, row: PendingInvite) -> SafeString:
        """Links to the forms of `linmatrix.console.rooms`, which know who may use them."""
        answers = [("refuse", "Take back")] if pending.is_knock(row) else [("join", "Accept"), ("refuse", "Refuse")]
        query = urlencode({"room_id": row.room_id, "user_id": row.user_id})
        links = [(f"{reverse('room:enter', args=[name])}?{query}", text) for name, text in answers]
        return format_html_join(" · ", '<a href="{}">{}</a>', links)

    @admin.display(description="invite")
    def invite(self, row: PendingInvite) -> SafeString | str:
        return pretty_json(row.json)

    @admin.display(description="what the room shows of itself")
    def shown_state(self, row: PendingInvite) -> SafeString | str:
        return pretty_json(row.stripped_state)


@admin.register(Gap)
class GapAdmin(ReadOnlyAdmin):
    """History that is still to be fetched."""

    list_display = ("room_id", "before_position", "missing_event_id", "failures", "next_attempt", "last_error")
    search_fields = ("room_id__exact",)
    search_help_text = "A room id, in full"
    ordering = ("next_attempt",)


@admin.register(Finding)
class FindingAdmin(ReadOnlyAdmin):
    """What hubs and peers did that they must not."""

    list_display = ("created_at", "kind", "server", "room_id", "event_id", "reason")
    list_filter = ("kind",)
    search_by: ClassVar = {"$": "event_id__exact", "!": "room_id__exact", "": "server__exact"}
    search_help_text = "A server's name, a room id or an event id, in full"
    ordering = ("-created_at",)
    fields = ("created_at", "kind", "server", "room", "event_id", "reason", "proof")
    readonly_fields = ("reason", "proof")

    @admin.display(description="why")
    def reason(self, finding: Finding) -> str:
        return finding.evidence.partition("\n")[0]

    @admin.display(description="what was received")
    def proof(self, finding: Finding) -> SafeString | str:
        return pretty_json(finding.evidence.partition("\n")[2])
