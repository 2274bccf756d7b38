"""What people have our users do in rooms: the verbs behind the commands and behind the console's forms.

Each is a few lines over what everything else uses (`federation.sending`, `federation.handshakes`, `rooms.creation`),
and there is no other way to act. What they share is what people need: what they type is completed, what could not have
any effect is refused before it is signed, and whatever refuses is told in one line (`reason_of`).
"""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import OperationalError, transaction

from federation import handshakes
from federation.errors import ApiError
from federation.handshakes import HandshakeFailed
from federation.outbound import QueueFull
from federation.sending import Outcome, Sent, outcome, send_event
from federation.waiting import waiting_room
from linmatrix.progress import OnProgress, silent
from linmatrix.protocol.errors import Malformed, ProtocolError, Rejected
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.power_levels import CREATOR_LEVEL, Action, action_level, event_level, user_level
from linmatrix.protocol.state import CREATE, POWER_LEVELS, State
from linmatrix.transport.errors import TransportError
from rooms.audience import takes_part
from rooms.blocking import set_blocked
from rooms.members import levels_of, local_members, member_of
from rooms.models import Event, Room
from rooms.redactions import NEVER_REDACTED
from rooms.wording import shown

REFUSALS = (ProtocolError, HandshakeFailed, ApiError, QueueFull, TransportError, OperationalError)
"""How acting fails without a fault of ours; `reason_of` knows them."""

POLL_SECONDS = 0.05

LEAVING_AT_ONCE = 200
"""Users who leave in one request: some seconds of work at most."""

ECHO_SECONDS = 10.0
"""How long blocking a room waits for the hub to confirm that our users have left it."""


def reason_of(error: Exception) -> str:
    """Why something was not done, for people: one harmless line."""
    match error:
        case OperationalError():
            return f"The database is not available: {shown(str(error).splitlines()[0] if str(error) else '')}"
        case TransportError():
            return shown(error.reason, limit=500)
        case ApiError():
            return shown(error.error or error.errcode, limit=500)
        case _:
            return shown(error, limit=500)


def user_id_of(text: str) -> str:
    """A user id from what a person types: `alice` is ours, `bob:example.org` need not have its @."""
    name = text if text.startswith("@") else f"@{text}"
    return name if ":" in name else f"{name}:{settings.SERVER_NAME}"


def wait_for_echo(room_id: str, lpdu_id: str, *, seconds: float) -> Outcome:
    """Look for what became of an LPDU until the hub has decided or the time is up."""
    end = time.monotonic() + seconds
    while not (result := outcome(room_id, lpdu_id)).settled and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return result


def needed_level(state: State, action: str) -> int:
    """The power level that an action of these needs: what the rules will ask for, to say so beforehand."""
    actions: dict[str, Action] = {"invite": "invite", "kick": "kick", "ban": "ban"}
    match action:
        case "unban":
            return max(action_level(state, "ban"), action_level(state, "kick"))
        case "power":
            return event_level(state, POWER_LEVELS[0], is_state=True)
        case "redact":
            return max(action_level(state, "redact"), event_level(state, "m.room.redaction", is_state=False))
        case "notice":
            return event_level(state, "m.room.message", is_state=False)
        case _:
            return action_level(state, actions[action])


def invite(*, room_id: str, sender: str, user_id: str) -> Sent:
    """Invite a user. Raises as `handshakes.invite`."""
    room = Room.objects.get(room_id=room_id)
    # As hub, `federation.invitations` takes a place where it waits.
    asks_hub = room.role == Room.Role.PARTICIPANT and not takes_part(room_id, domain_of(user_id))
    with _waiting() if asks_hub else nullcontext():
        return handshakes.invite(room_id=room_id, sender=sender, user_id=user_id)


def change_membership(*, room_id: str, sender: str, user_id: str, membership: str, reason: str = "") -> Sent:
    """Set somebody else's membership to leave or ban. Raises as `send_event`."""
    content = {"membership": membership, **({"reason": reason} if reason else {})}
    return send_event(room_id=room_id, sender=sender, type="m.room.member", content=content, state_key=user_id)


def kick(*, room_id: str, sender: str, user_id: str, reason: str = "") -> Sent:
    """Remove somebody, or take an invite back. Raises as `send_event`, and `Malformed` for who is not in the room."""
    if (now := member_of(room_id, user_id)) not in ("join", "invite", "knock"):
        raise Malformed(f"{user_id} is not in the room: the membership is {now[:20]}")
    return change_membership(room_id=room_id, sender=sender, user_id=user_id, membership="leave", reason=reason)


def ban(*, room_id: str, sender: str, user_id: str, reason: str = "") -> Sent:
    """Keep somebody out of the room. Raises as `send_event`."""
    return change_membership(room_id=room_id, sender=sender, user_id=user_id, membership="ban", reason=reason)


def unban(*, room_id: str, sender: str, user_id: str, reason: str = "") -> Sent:
    """Take a ban back. Raises as `send_event`, and `Malformed` for who is not banned: that would be a kick."""
    if member_of(room_id, user_id) != "ban":
        raise Malformed(f"{user_id} is not banned")
    return change_membership(room_id=room_id, sender=sender, user_id=user_id, membership="leave", reason=reason)


def set_power_level(*, room_id: str, sender: str, user_id: str, level: int) -> Sent:
    """Set one user's power level and leave all others as they are. Raises as `send_event`."""
    with transaction.atomic():
        # As hub, nobody changes the levels between reading and writing them.
        Room.objects.select_for_update(no_key=True).get(room_id=room_id)
        state = levels_of(room_id)
        content: dict[str, Any] = dict(state[POWER_LEVELS].content) if POWER_LEVELS in state else {}
        users = content.get("users")
        if not isinstance(users, dict):
            users = {state[CREATE].sender: CREATOR_LEVEL} if CREATE in state and POWER_LEVELS not in state else {}
        if users.get(user_id) == level:
            raise Malformed(f"{user_id} has {level} already")
        content["users"] = {**users, user_id: level}
        return send_event(room_id=room_id, sender=sender, type=POWER_LEVELS[0], content=content, state_key="")


def redact(*, room_id: str, sender: str, event_id: str, reason: str = "") -> Sent:
    """Remove an event's content for good. Raises as `send_event`, and `Rejected` for a redaction that would have no
    effect (`rooms.redactions`): the rules themselves allow it."""
    event = Event.objects.filter(room_id=room_id, event_id=event_id).first()
    if event is None:
        raise Malformed(f"{event_id[:60]} is no event of this room that this server has")
    if event.type in NEVER_REDACTED:
        raise Malformed(f"{event.type} is never redacted")
    state = levels_of(room_id)
    needed, level = action_level(state, "redact"), user_level(state, sender)
    if level < needed and domain_of(sender) != domain_of(event.sender):
        raise Rejected("redaction", f"redacting what users of other servers sent needs {needed}, has {level}")
    content = {"redacts": event_id, **({"reason": reason} if reason else {})}
    return send_event(room_id=room_id, sender=sender, type="m.room.redaction", content=content)


def notice(*, room_id: str, sender: str, text: str) -> Sent:
    """Say something that no program answers (m.notice). Raises as `send_event`."""
    content = {"msgtype": "m.notice", "body": text}
    return send_event(room_id=room_id, sender=sender, type="m.room.message", content=content)


def join(*, room_id: str, user_id: str, via: str = "", progress: OnProgress = silent) -> Sent:
    """Join one of our users. Raises as `handshakes.join`, and `ApiError` 503 when too many wait already."""
    with _waiting_outside(room_id):
        return handshakes.join(room_id=room_id, user_id=user_id, via=via, progress=progress)


def knock(*, room_id: str, user_id: str, via: str = "", reason: str = "") -> Sent:
    """Ask for an invite. Raises as `handshakes.knock`, and `ApiError` 503 when too many wait already."""
    with _waiting_outside(room_id):
        return handshakes.knock(room_id=room_id, user_id=user_id, via=via, reason=reason)


def leave(*, room_id: str, user_id: str, reason: str = "") -> Sent:
    """Leave a room, refuse an invite, take a knock back. Raises as `handshakes.leave`, and `ApiError` 503."""
    with _waiting_outside(room_id):
        return handshakes.leave(room_id=room_id, user_id=user_id, reason=reason)


@dataclass(frozen=True, slots=True)
class Leaving:
    """Who of our users left and what was sent; `unfinished` says why some are still there, empty when none is."""

    left: list[tuple[str, Sent]]
    unfinished: str = ""


def leave_all(*, room_id: str, reason: str = "", most: int = LEAVING_AT_ONCE) -> Leaving:
    """Have our users leave a room that we host or take part in, those invited too; `most` of them. Each leaves for
    good, whatever becomes of the next. Raises as `leave` when the first cannot."""
    inside = local_members(room_id, limit=most + 1, memberships=("join", "invite", "knock"))
    left: list[tuple[str, Sent]] = []
    for member in inside[:most]:
        try:
            left.append((member.user_id, leave(room_id=room_id, user_id=member.user_id, reason=reason)))
        except REFUSALS as refusal:
            if not left:
                raise
            return Leaving(left, f"{member.user_id} could not: {reason_of(refusal)}")
    return Leaving(left, "there are more of them" if len(inside) > most else "")


def block_and_leave(*, room_id: str, reason: str = "", most: int = LEAVING_AT_ONCE) -> Leaving:
    """Have all our users leave and block the room then, unless some are still there (`Leaving.unfinished`). Where
    another server hosts it, its confirmations are waited for, `ECHO_SECONDS` at most, since a blocked room takes none
    in. Raises as `leave_all`, and then nothing is blocked."""
    elsewhere = Room.objects.get(room_id=room_id).role == Room.Role.PARTICIPANT
    with _waiting() if elsewhere else nullcontext():
        leaving = leave_all(room_id=room_id, reason=reason, most=most)
        _wait_for_all(room_id, leaving.left)
    if not leaving.unfinished:
        set_blocked([room_id], blocked=True)
    return leaving


def _wait_for_all(room_id: str, sent: Iterable[tuple[str, Sent]]) -> None:
    end = time.monotonic() + ECHO_SECONDS
    for _, one in sent:
        if one.lpdu_id and not one.event_id:
            wait_for_echo(room_id, one.lpdu_id, seconds=max(0.0, end - time.monotonic()))


def _waiting_outside(room_id: str) -> AbstractContextManager[None]:
    """The same where the room is reached by asking its hub; from inside nobody is waited for."""
    ours = Room.objects.filter(room_id=room_id, role=Room.Role.HUB).exists()
    return nullcontext() if ours or takes_part(room_id, settings.SERVER_NAME) else _waiting()


def _waiting() -> AbstractContextManager[None]:
    """A place among the threads that wait for other servers; all that people start share one origin, ours."""
    return waiting_room.wait(settings.SERVER_NAME)
