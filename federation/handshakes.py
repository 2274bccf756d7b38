"""How our users enter, ask into, refuse and leave rooms, wherever those are hosted.

Draft section "Room Membership"; decisions 88 to 93, 97, 98. A server that is in a room sends memberships as any
other event. One that is not makes the handshake "make and send" with the hub, which `federation.make_and_send` finds.
"""

import logging
from typing import Any

from django.conf import settings
from django.utils import timezone

from federation import paths, withdrawals
from federation.blocking import check_not_blocked
from federation.errors import ApiError
from federation.gaps import check_pdus
from federation.make_and_send import HandshakeFailed, Template, Wish, find_template, lpdu_for, post
from federation.sending import Sent, send_event
from federation.wake import alarm_clock
from keys.local import signing_key
from linmatrix.progress import OnProgress, silent
from linmatrix.protocol.completion import make_lpdu
from linmatrix.protocol.errors import Malformed, ProtocolError
from linmatrix.protocol.events import Lpdu, Pdu
from linmatrix.protocol.identifiers import domain_of, is_room_id, is_user_id
from rooms import pending
from rooms.audience import takes_part
from rooms.hub import member_event
from rooms.joining import held_for_join
from rooms.local_users import require_local
from rooms.models import Gap, PendingInvite, Room
from rooms.participant import begin_stay

__all__ = ["HandshakeFailed", "invite", "join", "knock", "leave"]

logger = logging.getLogger(__name__)


def join(*, room_id: str, user_id: str, via: str = "", progress: OnProgress = silent) -> Sent:
    """Join one of our users to a room, wherever it is hosted; `via` names a server to ask first.

    Raises `Malformed`, `Rejected`, `HandshakeFailed`, `ApiError` 403 for a room of another server's that is blocked.
    """
    if _is_inside(room_id, user_id):
        return _send_membership(room_id, user_id, "join")
    return _join_elsewhere(room_id, user_id, via, progress)


def knock(*, room_id: str, user_id: str, via: str = "", reason: str = "") -> Sent:
    """Ask for an invite to a room, wherever it is hosted (draft section "Knocks"). Otherwise as `join`.

    The answer is an invite, which comes as any other, or a leave or ban by somebody in the room (decision 82).
    """
    if _is_inside(room_id, user_id):
        return _send_membership(room_id, user_id, "knock", reason)
    _check_not_blocked_here(room_id)
    wish = Wish("knock", room_id, user_id, _known_version(room_id, user_id))
    template = find_template(wish, via=via)
    lpdu = lpdu_for(template, wish, reason=reason)
    # Of who may knock the hub thinks that nothing is left to leave.
    withdrawals.cancel(room_id, user_id)
    own = PendingInvite.objects.filter(room_id=room_id, user_id=user_id, event_id=lpdu.lpdu_id)
    before = PendingInvite.objects.filter(room_id=room_id, user_id=user_id).first()
    # Kept before it is sent: the room's answer may be here before the hub's.
    pending.keep(lpdu.event, event_id=lpdu.lpdu_id, hub=template.hub, version=template.version, shown=[])
    try:
        answer = post(template, paths.send_knock(lpdu.lpdu_id), lpdu.event)
    except HandshakeFailed:
        pending.put_back(before, in_place_of=own)
        raise
    # Matrix calls the member `knock_room_state` (decision 93).
    shown = answer.get("stripped_state", answer.get("knock_room_state", []))
    own.update(stripped_state=pending.stripped_text(shown if isinstance(shown, list) else []))
    return Sent(lpdu_id=lpdu.lpdu_id, taken=True)


def leave(*, room_id: str, user_id: str, reason: str = "") -> Sent:
    """Leave a room, refuse an invite to one, or take back a knock on one.

    Refusing and taking back succeed at once, whatever the hub does, which hears of it later; the answer has no id
    then (decision 93). Raises `Malformed`, `Rejected`, `HandshakeFailed`.
    """
    if _is_inside(room_id, user_id):
        return _send_membership(room_id, user_id, "leave", reason)
    row = PendingInvite.objects.filter(room_id=room_id, user_id=user_id).first()
    if row is not None:
        withdrawals.withdraw(row, reason=reason, now=timezone.now())
        return Sent(taken=True)
    wish = Wish("leave", room_id, user_id, _known_version(room_id, user_id))
    template = find_template(wish)
    lpdu = lpdu_for(template, wish, reason=reason)
    post(template, paths.send_leave(lpdu.lpdu_id), lpdu.event)
    return Sent(lpdu_id=lpdu.lpdu_id, taken=True)


def invite(*, room_id: str, sender: str, user_id: str) -> Sent:
    """Invite a user to a room that `sender`, one of ours, is in (draft section "Invites").

    As participant, a user whose server is not in the room is invited through the hub's `invite` endpoint, which
    answers with that server's refusal where there is one (decision 97). Raises `Malformed`, `Rejected`,
    `HandshakeFailed`, as hub `ApiError` with the invited server's refusal, and 403 where that server is blocked.
    """
    if not is_user_id(user_id):
        raise Malformed(f"{user_id!r} is not a user id")
    room = Room.objects.get(room_id=room_id)
    if room.role == Room.Role.HUB or takes_part(room_id, domain_of(user_id)):
        return send_event(
            room_id=room_id,
            sender=sender,
            type="m.room.member",
            content={"membership": "invite"},
            state_key=user_id,
        )
    require_local(sender)
    check_not_blocked(domain_of(user_id))
    event = member_event(room_id=room_id, sender=sender, user_id=user_id, membership="invite", now=timezone.now())
    lpdu = make_lpdu(event, hub_server=room.hub_server, key=signing_key())
    content = {"event": lpdu.event, "room_version": room.version}
    # The hub waits for a third server.
    template, seconds = Template(room.hub_server, room.version), settings.LIMITS.join_seconds
    post(template, paths.invite(lpdu.lpdu_id), content, timeout=seconds)
    return Sent(lpdu_id=lpdu.lpdu_id)


def _is_inside(room_id: str, user_id: str) -> bool:
    """Whether a user of ours reaches a room from here: we host it or take part in it. Raises `Malformed`."""
    require_local(user_id)
    if not is_room_id(room_id):
        raise Malformed(f"{room_id!r} is not a room id")
    return Room.objects.filter(room_id=room_id, role=Room.Role.HUB).exists() or takes_part(
        room_id, settings.SERVER_NAME
    )


def _send_membership(room_id: str, user_id: str, membership: str, reason: str = "") -> Sent:
    content = {"membership": membership, **({"reason": reason} if reason else {})}
    sent = send_event(room_id=room_id, sender=user_id, type="m.room.member", content=content, state_key=user_id)
    _forget(room_id, user_id)
    return sent


def _forget(room_id: str, user_id: str) -> None:
    """What waited for an answer is answered, and a leave before it does not count any more."""
    PendingInvite.objects.filter(room_id=room_id, user_id=user_id).delete()
    withdrawals.cancel(room_id, user_id)


def _check_not_blocked_here(room_id: str) -> None:
    """Raise `ApiError` 403 for a room that is blocked, an archive too: what its hub sends is dropped."""
    if Room.objects.filter(room_id=room_id, blocked=True).exists():
        raise ApiError(403, "M_FORBIDDEN", "The room is blocked on this server.")


def _known_version(room_id: str, user_id: str) -> str:
    """The room's version by what we heard of it; an empty string when we never did."""
    known = Room.objects.filter(room_id=room_id).values_list("version", flat=True).first()
    invited = PendingInvite.objects.filter(room_id=room_id, user_id=user_id).values_list("room_version", flat=True)
    return known or invited.first() or ""


def _join_elsewhere(room_id: str, user_id: str, via: str, progress: OnProgress) -> Sent:
    _check_not_blocked_here(room_id)
    progress("finding the hub")
    wish = Wish("join", room_id, user_id, _known_version(room_id, user_id))
    template = find_template(wish, via=via)
    lpdu = lpdu_for(template, wish)
    # From this request on the hub may send us what happens in the room.
    with withdrawals.undone_unless_known(template, wish, now=timezone.now()), held_for_join(room_id, user_id):
        room, event = _send_join(template, room_id, lpdu, progress)
    _forget(room_id, user_id)
    gaps = Gap.objects.filter(room=room).values_list("pk", flat=True)
    alarm_clock.publish("federation.tasks.fill_gap", list(gaps))
    return Sent(event_id=event.event_id, lpdu_id=lpdu.lpdu_id)


def _send_join(template: Template, room_id: str, lpdu: Lpdu, progress: OnProgress) -> tuple[Room, Pdu]:
    """Ask the hub to take a join, and begin the stay that its answer describes."""
    limits = settings.LIMITS
    progress("waiting for the hub's answer")
    answer = post(
        template,
        paths.send_join(lpdu.lpdu_id),
        lpdu.event,
        timeout=limits.join_seconds,
        max_response_bytes=limits.join_answer_bytes,
    )
    state, auth_chain, event = _checked_join(template, room_id, lpdu, answer, progress)
    progress("storing the room's state", 0, len(state))
    try:
        room = begin_stay(
            room_id=room_id,
            hub=template.hub,
            version=template.version,
            state=state,
            auth_chain=auth_chain,
            join=event,
            now=timezone.now(),
        )
    except ProtocolError as error:
        raise HandshakeFailed(f"{template.hub} answered with a state that does not allow the join: {error}") from None
    return room, event


def _checked_join(
    template: Template, room_id: str, lpdu: Lpdu, content: dict[str, Any], progress: OnProgress
) -> tuple[list[Pdu], list[Pdu], Pdu]:
    """The state, auth chain and join event of a hub's answer (decision 92, threats T24, T38, T74), each by itself;
    `begin_stay` checks them together."""
    hub = template.hub
    lists = [content.get("state"), content.get("auth_chain"), [content.get("event")]]
    if not all(isinstance(items, list) for items in lists):
        raise HandshakeFailed(f"{hub} answered the join without state, auth_chain and event")
    state, auth_chain, events = (
        check_pdus(items or [], room_id=room_id, hub=hub, stage=f"checking {name}", progress=progress)
        for name, items in zip(("the state", "what it rests on", "the join"), lists, strict=True)
    )
    if not events or events[0].lpdu_id != lpdu.lpdu_id:
        raise HandshakeFailed(f"{hub} answered the join with another event than ours")
    return state, auth_chain, events[0]
