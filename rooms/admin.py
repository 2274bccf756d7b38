"""What an operator sees of rooms. Only the provider's own users can be edited here."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from linmatrix.protocol.identifiers import is_user_id
from linmatrix.readonly_admin import ChosenValues, ReadOnlyAdmin, list_link, pretty_json, seconds_precise
from rooms.models import Event, Finding, Gap, LocalUser, PendingInvite, Room, RoomServer, StateEntry
from rooms.overview import members_of, name_of, with_overview
from rooms.wording import happened, moment


@admin.register(Room)
class RoomAdmin(ReadOnlyAdmin):
    """Rooms that we host or take part in."""

    list_display = (
        "room_id",
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
    actions = ("block", "unblock")  # type: ignore[assignment]  # the base has none, which is not meant for ever

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
        ids = list(rooms.exclude(blocked=blocked).values_list("pk", flat=True))
        Room.objects.filter(pk__in=ids).update(blocked=blocked)
        for room in Room.objects.filter(pk__in=ids):
            self.log_change(request, room, "Blocked." if blocked else "Unblocked.")
        self.message_user(request, f"{len(ids)} rooms were {'blocked' if blocked else 'unblocked'}.")

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
    """By type."""

    title = "type"
    parameter_name = "type"
    values = (
        "m.room.message", "m.room.member", "m.room.create", "m.room.power_levels", "m.room.join_rules",
        "m.room.history_visibility", "m.room.name", "m.room.topic",
    )  # fmt: skip


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """The lines of all rooms: each room's newest event first."""

    list_display = ("position", "made_at", "sender", "what", "verdict", "in_room")
    list_display_links = ("position", "made_at")
    list_filter = ("verdict", EventTypes)
    search_fields = ("event_id__exact", "room_id__exact")
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
    list_filter = (CurrentState, EventTypes)
    search_fields = ("room_id__exact",)
    search_help_text = "A room id, in full"
    ordering = ("-room_id", "-position")


@admin.register(RoomServer)
class RoomServerAdmin(ReadOnlyAdmin):
    """Servers in rooms, and how far each has been sent what happened there."""

    list_display = ("server", "room_id", "joined_position", "left_position", "sent_position", "joined_users")
    list_filter = (("left_position", admin.EmptyFieldListFilter),)
    search_fields = ("server__startswith", "room_id__exact")
    search_help_text = "The beginning of a server's name, or a room id in full"
    ordering = ("server", "room_id", "-joined_position")


class LocalUserForm(forms.ModelForm):
    """Takes only localparts that make a user id."""

    def clean_localpart(self) -> str:
        localpart: str = self.cleaned_data["localpart"]
        if not is_user_id(f"@{localpart}:{settings.SERVER_NAME}"):
            raise ValidationError("Lower-case letters, digits and - . = _ / + only, and not too long.")
        return localpart


@admin.register(LocalUser)
class LocalUserAdmin(admin.ModelAdmin):
    """The provider's people. Deactivated and not deleted: the id stands in rooms, and nobody else should get it."""

    form = LocalUserForm
    list_display = ("localpart", "display_name", "refuses_invites", "deactivated")
    list_editable = ("refuses_invites", "deactivated")
    list_filter = ("deactivated", "refuses_invites")
    search_fields = ("localpart", "display_name")
    ordering = ("localpart",)

    def get_readonly_fields(self, request: HttpRequest, obj: LocalUser | None = None) -> tuple[str, ...]:
        return ("localpart",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: LocalUser | None = None) -> bool:
        return False


@admin.register(PendingInvite)
class PendingInviteAdmin(ReadOnlyAdmin):
    """Invites to rooms elsewhere that our users have not answered."""

    list_display = ("user_id", "room_id", "hub_server", "received_at")
    search_fields = ("user_id", "room_id", "hub_server")
    ordering = ("-received_at",)
    fields = ("user_id", "room_id", "hub_server", "room_version", "event_id", "received_at", "invite", "shown_state")
    readonly_fields = ("invite", "shown_state")

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
    search_fields = ("server", "room_id__exact", "event_id")
    ordering = ("-created_at",)
    fields = ("created_at", "kind", "server", "room", "event_id", "reason", "proof")
    readonly_fields = ("reason", "proof")

    @admin.display(description="why")
    def reason(self, finding: Finding) -> str:
        return finding.evidence.partition("\n")[0]

    @admin.display(description="what was received")
    def proof(self, finding: Finding) -> SafeString | str:
        return pretty_json(finding.evidence.partition("\n")[2])
