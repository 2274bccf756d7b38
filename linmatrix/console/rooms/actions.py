"""What can be done in rooms from the console: one table, a row per action.

A row names the permission, the form, and the verb of `federation.acting_in_rooms` that is called with the form's
fields. The view that does it is `linmatrix.console.rooms.acting`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from federation import acting_in_rooms as verbs
from federation.sending import Sent
from linmatrix.console.rooms import forms
from rooms.blocking import set_blocked
from rooms.creation import create_room
from rooms.models import Room

Done = Sent | Room | str
"""What a verb gives: an event that was sent, a new room, or what happened in words."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done. `told` says in the admin log what was done, from the form's fields, where the verb
    does not say it in words itself; `final` is what cannot be taken back, and has the form confirmed; `places` are the
    pages with a button for it."""

    title: str
    permissions: tuple[str, ...]
    form: type[forms.ActionForm]
    act: Callable[..., Done]
    told: str = ""
    lead: str = ""
    final: str = ""
    icon: str = ""
    places: tuple[str, ...] = ()

    def allowed(self, request: HttpRequest) -> bool:
        """Whether the operator has the permissions."""
        return request.user.has_perms(self.permissions)


def _leave_all(room_id: str, reason: str) -> str:
    leaving = verbs.leave_all(room_id=room_id, reason=reason)
    return f"{_number_of(leaving)} left, or are leaving as soon as the hub confirms it.{_unfinished(leaving)}"


def _block(room_id: str) -> str:
    return "The room is blocked." if set_blocked([room_id], blocked=True) else "The room was blocked already."


def _unblock(room_id: str) -> str:
    return "The room is not blocked any more." if set_blocked([room_id], blocked=False) else "The room was not blocked."


def _block_and_leave(room_id: str, reason: str) -> str:
    leaving = verbs.block_and_leave(room_id=room_id, reason=reason)
    blocked = "is not blocked yet" if leaving.unfinished else "is blocked"
    return f"{_number_of(leaving)} left, and the room {blocked}.{_unfinished(leaving)}"


def _number_of(leaving: verbs.Leaving) -> str:
    return f"{len(leaving.left)} of our users"


def _unfinished(leaving: verbs.Leaving) -> str:
    return f" Not all of them: {leaving.unfinished}. Send the form again." if leaving.unfinished else ""


def _create(**fields: Any) -> Room:
    return create_room(now=timezone.now(), **fields)


IN_ROOM: dict[str, Action] = {
    "notice": Action(
        title="Send a notice",
        permissions=("acting.send_notice",),
        form=forms.NoticeForm,
        act=verbs.notice,
        told="Sent a notice as {sender}",
        lead="Everybody in the room will read it.",
        icon="campaign",
        places=("timeline",),
    ),
    "invite": Action(
        title="Invite",
        permissions=("acting.invite_user",),
        form=forms.InviteForm,
        act=verbs.invite,
        told="Invited {user_id} as {sender}",
        lead="An invited user of another server is told by that server, which may refuse.",
        icon="person_add",
        places=("timeline", "members"),
    ),
    "kick": Action(
        title="Remove",
        permissions=("acting.kick_user",),
        form=forms.KickForm,
        act=verbs.kick,
        told="Removed {user_id} as {sender}",
        lead="Takes somebody out of the room, or takes an invite back. They may come back when invited, or where "
        "everybody may join.",
        icon="person_remove",
    ),
    "ban": Action(
        title="Ban",
        permissions=("acting.ban_user",),
        form=forms.BanForm,
        act=verbs.ban,
        told="Banned {user_id} as {sender}",
        lead="They are out of the room and cannot come back until they are unbanned. They need not be in it now.",
        icon="block",
        places=("members",),
    ),
    "unban": Action(
        title="Unban",
        permissions=("acting.unban_user",),
        form=forms.UnbanForm,
        act=verbs.unban,
        told="Unbanned {user_id} as {sender}",
        lead="They may come back when invited, or where everybody may join.",
        icon="lock_open",
    ),
    "power": Action(
        title="Set a power level",
        permissions=("acting.set_power_level",),
        form=forms.PowerLevelForm,
        act=verbs.set_power_level,
        told="Set the power level of {user_id} to {level} as {sender}",
        lead="All other levels stay as they are.",
        final="Whoever has as much power as the one who sets it cannot be made less again by that one, nor can who "
        "lowers their own level raise it again.",
        icon="military_tech",
        places=("members",),
    ),
    "redact": Action(
        title="Redact",
        permissions=("acting.redact_event",),
        form=forms.RedactForm,
        act=verbs.redact,
        told="Redacted {event_id} as {sender}",
        lead="Removes the event's content here and has every server in the room remove it. That it happened stays.",
        final="The content is gone for good. What other servers have shown or kept is beyond our reach.",
        icon="ink_eraser",
        places=("event",),
    ),
    "leave": Action(
        title="Have a user leave",
        permissions=("acting.leave_room",),
        form=forms.LeaveForm,
        act=verbs.leave,
        told="Had {user_id} leave",
        final="They come back only when invited, or where everybody may join. With the last one who has the power, "
        "nobody is left to invite them.",
        icon="logout",
        places=("members",),
    ),
    "leave-all": Action(
        title="Have all our users leave",
        permissions=("acting.leave_room",),
        form=forms.ReasonForm,
        act=_leave_all,
        lead="All users of this server who are in the room leave it, and those invited refuse.",
        final="They come back only when invited by somebody of another server, or where everybody may join.",
        icon="move_item",
        places=("servers",),
    ),
    "block": Action(
        title="Block",
        permissions=("rooms.change_room",),
        form=forms.ActionForm,
        act=_block,
        lead="Requests of other servers about the room are refused, and what they send to it is dropped, until it is "
        "unblocked. Our users stay in it. Nothing is deleted.",
        icon="front_hand",
        places=("open",),
    ),
    "block-and-leave": Action(
        title="Block and leave",
        permissions=("rooms.change_room", "acting.leave_room"),
        form=forms.ReasonForm,
        act=_block_and_leave,
        lead="All users of this server leave the room, and then requests of other servers about it are refused. Where "
        "another server hosts the room, that may take some seconds. Nothing is deleted.",
        final="Unblocking does not bring our users back: they must be invited, or may join where everybody may.",
        icon="door_front",
        places=("open",),
    ),
    "unblock": Action(
        title="Unblock",
        permissions=("rooms.change_room",),
        form=forms.ActionForm,
        act=_unblock,
        lead="Other servers' requests about the room are answered again, and what they send is taken in. Where "
        "another server hosts the room, what was missed is fetched with the next event.",
        icon="waving_hand",
        places=("blocked",),
    ),
}
"""Actions in a room that we know, by the last part of their address."""

ELSEWHERE: dict[str, Action] = {
    "create": Action(
        title="Create a room",
        permissions=("acting.create_room",),
        form=forms.CreateForm,
        act=_create,
        told="Created as {creator}",
        lead="This server hosts the room.",
        icon="add",
    ),
    "join": Action(
        title="Join a room",
        permissions=("acting.join_room",),
        form=forms.JoinForm,
        act=verbs.join,
        told="Had {user_id} join",
        lead="Also accepts an invite. Where another server hosts the room, it is asked now, and the page waits for its "
        "answer: for a large room up to a minute.",
        icon="login",
    ),
    "knock": Action(
        title="Ask to be let into a room",
        permissions=("acting.knock_on_room",),
        form=forms.KnockForm,
        act=verbs.knock,
        told="Had {user_id} ask to be let in",
        lead="Somebody in the room has to say yes by inviting. The room's hub is asked now, and the page waits for it.",
        icon="door_open",
    ),
    "refuse": Action(
        title="Refuse an invite, or take a knock back",
        permissions=("acting.leave_room",),
        form=forms.RefuseForm,
        act=verbs.leave,
        told="Refused or took back for {user_id}",
        lead="Counts here at once. The room's hub is told as soon as it can be reached.",
        icon="cancel",
    ),
}
"""Actions about rooms that we need not know."""
