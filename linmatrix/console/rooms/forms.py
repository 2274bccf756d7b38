"""The forms of what can be done in rooms. They check what a person types; whether it is allowed, the rules say.

The names of the fields are those of the verbs' arguments (`linmatrix.console.rooms.actions`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.conf import settings

from federation.acting_in_rooms import needed_level, user_id_of
from linmatrix.pages import StyledForm
from linmatrix.protocol.canonical_json import MAX_SAFE_INTEGER
from linmatrix.protocol.devices import MLS_ALGORITHM
from linmatrix.protocol.identifiers import is_event_id, is_room_id, is_server_name, is_user_id
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from rooms.creation import HISTORY_VISIBILITIES, JOIN_RULES
from rooms.members import Member, levels_of, local_members
from rooms.models import Room

MAX_ACTORS = 100
"""Local members to choose from: those with the most power."""

MAX_TEXT = 10_000
"""Characters of a notice."""

MEGOLM_ALGORITHM = "m.megolm.v1.aes-sha2"
"""Of rooms whose clients use Olm and Megolm, as in Matrix."""


class UserField(forms.CharField):
    """A user id; of our own users the localpart is enough."""

    def clean(self, value: Any) -> str:
        name = user_id_of(super().clean(value))
        if not is_user_id(name):
            raise forms.ValidationError(f"{name[:60]} is not a user id: it should look like @name:server.")
        return name


class RoomIdField(forms.CharField):
    """A room id."""

    def clean(self, value: Any) -> str:
        room_id: str = super().clean(value)
        if not is_room_id(room_id):
            raise forms.ValidationError("This is not a room id: it should look like !room:server.")
        return room_id


class ServerField(forms.CharField):
    """A server's name, or nothing."""

    def clean(self, value: Any) -> str:
        name: str = super().clean(value)
        if name and not is_server_name(name):
            raise forms.ValidationError("This is not a server's name: it should look like example.org.")
        return name


class EventIdField(forms.CharField):
    """An event id."""

    def clean(self, value: Any) -> str:
        event_id: str = super().clean(value)
        if not is_event_id(event_id):
            raise forms.ValidationError("This is not an event id: it begins with $ and is in the event's page.")
        return event_id


def reason_field() -> forms.CharField:
    """Why something is done."""
    return forms.CharField(required=False, max_length=500, help_text="Shown to everybody in the room. May be empty.")


class ActionForm(StyledForm, forms.Form):
    """The form of an action; `room` is None where it is about a room that we need not know."""

    def __init__(self, *args: Any, room: Room | None, **kwargs: Any) -> None:
        self.room = room
        super().__init__(*args, **kwargs)


class AsMemberForm(ActionForm):
    """What one of our users in the room does. `needs` names the power level (`needed_level`)."""

    needs: ClassVar[str]
    sender = forms.CharField(label="As", widget=forms.Select, max_length=255)

    def __init__(self, *args: Any, room: Room | None, **kwargs: Any) -> None:
        super().__init__(*args, room=room, **kwargs)
        assert room is not None
        needed = needed_level(levels_of(room.room_id), self.needs)
        choices, note = actors(local_members(room.room_id, limit=MAX_ACTORS), needed)
        self.fields["sender"].widget.choices = choices
        self.fields["sender"].help_text = note


def actors(members: Sequence[Member], needed: int) -> tuple[list[tuple[str, list[tuple[str, str]]]], str]:
    """The choices of who acts, those with the power for it first, and what there is to say of them."""
    able: list[tuple[str, str]] = []
    unable: list[tuple[str, str]] = []
    for member in members:
        row = (member.user_id, f"{member.user_id} (power level {member.level})")
        (able if member.level >= needed else unable).append(row)
    groups = [(f"Has the power: {needed}", able), (f"Has less than {needed}", unable)]
    choices = [(title, rows) for title, rows in groups if rows]
    if not members:
        return choices, "None of our users is in the room."
    if not able:
        return choices, f"None of our users in the room has the power for it, which is {needed}."
    return choices, f"Which of our users does it. It needs the power level {needed}."


class InviteForm(AsMemberForm):
    """Whom to invite."""

    needs = "invite"
    user_id = UserField(label="Invite", max_length=255, help_text="@name:server, or the name of a user of this server.")


class AboutMemberForm(AsMemberForm):
    """Whose membership to end."""

    user_id = UserField(label="User", max_length=255)
    reason = reason_field()


class KickForm(AboutMemberForm):
    """Whom to remove."""

    needs = "kick"


class BanForm(AboutMemberForm):
    """Whom to keep out."""

    needs = "ban"


class UnbanForm(AboutMemberForm):
    """Whom to let in again."""

    needs = "unban"


class PowerLevelForm(AsMemberForm):
    """Who gets which power level."""

    needs = "power"
    user_id = UserField(label="User", max_length=255)
    level = forms.IntegerField(
        label="Power level",
        min_value=-MAX_SAFE_INTEGER,
        max_value=MAX_SAFE_INTEGER,
        help_text="Usually 0 for everybody, 50 for moderators, 100 for administrators.",
    )


class RedactForm(AsMemberForm):
    """Which event to redact."""

    needs = "redact"
    event_id = EventIdField(label="Event", max_length=255)
    reason = reason_field()


class NoticeForm(AsMemberForm):
    """What to say."""

    needs = "notice"
    text = forms.CharField(widget=forms.Textarea(attrs={"rows": 4}), max_length=MAX_TEXT)


class LeaveForm(ActionForm):
    """Which of our users leaves."""

    user_id = UserField(label="User", max_length=255, help_text="A user of this server who is in the room or invited.")
    reason = reason_field()


class ReasonForm(ActionForm):
    """Why."""

    reason = reason_field()


class CreateForm(ActionForm):
    """A new room."""

    creator = UserField(
        max_length=255, help_text="A user of this server, who is in the room and has the power level 100."
    )
    name = forms.CharField(required=False, max_length=255)
    topic = forms.CharField(required=False, max_length=1000)
    join_rule = forms.ChoiceField(
        choices=[(rule, rule) for rule in JOIN_RULES],
        initial="invite",
        label="Who may join",
        help_text="Everybody (public), who was invited, or who may also ask to be let in (knock).",
    )
    history_visibility = forms.ChoiceField(
        choices=[(value, value) for value in HISTORY_VISIBILITIES],
        initial="shared",
        label="Who may read what was said before they came",
    )
    encryption = forms.ChoiceField(
        required=False,
        choices=[
            ("", "none"),
            (MLS_ALGORITHM, "MLS: this server checks who is in the group"),
            (MEGOLM_ALGORITHM, "Megolm: clients of Matrix see to it"),
        ],
        label="Encryption",
        help_text="End to end, for good: it can neither be turned on nor off later.",
    )
    version = forms.ChoiceField(choices=[(name, name) for name in ROOM_VERSIONS], label="Room version")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version"].initial = settings.DEFAULT_ROOM_VERSION


class JoinForm(ActionForm):
    """Who enters which room."""

    room_id = RoomIdField(label="Room", max_length=255, help_text="The room's id, wherever it is hosted: !room:server.")
    user_id = UserField(label="User", max_length=255, help_text="A user of this server.")
    via = ServerField(
        required=False,
        max_length=255,
        label="By way of",
        help_text="A server to ask first who hosts the room. May be empty: then the one that invited is asked.",
    )


class KnockForm(JoinForm):
    """Who asks to be let into which room."""

    reason = reason_field()


class RefuseForm(ActionForm):
    """Whose invite is refused, or whose knock taken back."""

    room_id = RoomIdField(label="Room", max_length=255)
    user_id = UserField(
        label="User", max_length=255, help_text="A user of this server who was invited, or has knocked."
    )
    reason = reason_field()
