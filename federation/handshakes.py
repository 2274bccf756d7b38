"""Entering and refusing rooms that other servers host: make and send.

Draft sections "Make and Send Handshake", "Joins", "Rejecting Invites and Leaves"; decisions 88 to 93, 98. The
hub's template tells whether it would take the membership and which room version it is; the event that we
sign is made here, from nothing else of it (threat T73).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone

from federation import paths
from federation.client import Answer, federation_client
from federation.gaps import check_pdus
from federation.sending import Sent, send_event
from federation.wake import alarm_clock
from keys.local import signing_key
from linmatrix.protocol.completion import make_lpdu
from linmatrix.protocol.errors import Malformed, ProtocolError, Rejected
from linmatrix.protocol.events import Lpdu, Pdu
from linmatrix.protocol.identifiers import domain_of, is_room_id, is_server_name, is_user_id
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.transport.errors import TransportError
from rooms.audience import takes_part
from rooms.hub import member_event
from rooms.local_users import require_local
from rooms.models import Gap, PendingInvite, Room
from rooms.participant import authorize, begin_stay, hold_for_join, release_join

logger = logging.getLogger(__name__)

MAX_HINTS = 2
"""How often a server's word that another one is the hub is followed (decision 98, threat T75)."""

HANDSHAKE_TIMEOUT = 20.0
"""Seconds for a template or a leave."""

JOIN_TIMEOUT = 60.0
"""Seconds for the answer to a join, which carries the room's state."""

MAX_JOIN_ANSWER = 100 * 1024 * 1024
"""Bytes of the answer to a join (threat T11)."""


class HandshakeFailed(Exception):
    """A membership that was not reached; the message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class _Template:
    """A hub's answer to make_join or make_leave: where it came from and the version of the room."""

    hub: str
    version: str


def join(*, room_id: str, user_id: str, via: str = "") -> Sent:
    """Join one of our users to a room, wherever it is hosted; `via` names a server to ask first.

    Raises `Malformed`, `Rejected`, `HandshakeFailed`.
    """
    require_local(user_id)
    if not is_room_id(room_id):
        raise Malformed(f"{room_id!r} is not a room id")
    room = Room.objects.filter(room_id=room_id).first()
    if room is not None and (room.role == Room.Role.HUB or takes_part(room_id, settings.SERVER_NAME)):
        return _send_membership(room_id, user_id, "join")
    hold_for_join(room_id, user_id, now=timezone.now())
    try:
        return _join_elsewhere(room_id, user_id, via)
    finally:
        release_join(room_id, user_id)


def leave(*, room_id: str, user_id: str, reason: str = "") -> Sent:
    """Leave a room, or refuse an invite to one. Raises `Malformed`, `Rejected`, `HandshakeFailed`."""
    require_local(user_id)
    room = Room.objects.filter(room_id=room_id).first()
    if room is not None and (room.role == Room.Role.HUB or takes_part(room_id, settings.SERVER_NAME)):
        return _send_membership(room_id, user_id, "leave", reason)
    template = _template("make_leave", room_id, user_id, "", membership="leave")
    lpdu = _lpdu(template, room_id, user_id, "leave", reason)
    _post(template, paths.send_leave(lpdu.lpdu_id), lpdu.event, timeout=HANDSHAKE_TIMEOUT)
    PendingInvite.objects.filter(room_id=room_id, user_id=user_id).delete()
    return Sent(lpdu_id=lpdu.lpdu_id, taken=True)


def invite(*, room_id: str, sender: str, user_id: str) -> Sent:
    """Invite a user to a room that `sender`, one of ours, is in (draft section "Invites").

    As participant, a user whose server is not in the room is invited through the hub's `invite` endpoint.
    Raises `Malformed`, `Rejected`, `ApiError` with the invited server's refusal, `HandshakeFailed`.
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
    event = member_event(room_id=room_id, sender=sender, user_id=user_id, membership="invite", now=timezone.now())
    lpdu = make_lpdu(event, hub_server=room.hub_server, key=signing_key())
    content = {"event": lpdu.event, "room_version": room.version}
    hub = _Template(room.hub_server, room.version)
    _post(hub, paths.invite(lpdu.lpdu_id), content, timeout=JOIN_TIMEOUT)
    return Sent(lpdu_id=lpdu.lpdu_id)


def _send_membership(room_id: str, user_id: str, membership: str, reason: str = "") -> Sent:
    content = {"membership": membership, **({"reason": reason} if reason else {})}
    sent = send_event(room_id=room_id, sender=user_id, type="m.room.member", content=content, state_key=user_id)
    PendingInvite.objects.filter(room_id=room_id, user_id=user_id).delete()
    return sent


def _join_elsewhere(room_id: str, user_id: str, via: str) -> Sent:
    template = _template("make_join", room_id, user_id, via, membership="join")
    lpdu = _lpdu(template, room_id, user_id, "join")
    answer = _post(template, paths.send_join(lpdu.lpdu_id), lpdu.event, timeout=JOIN_TIMEOUT)
    state, auth_chain, event = _checked_join(template, room_id, lpdu, answer.content or {})
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
    PendingInvite.objects.filter(room_id=room_id, user_id=user_id).delete()
    gaps = Gap.objects.filter(room=room).values_list("pk", flat=True)
    alarm_clock.publish("federation.tasks.fill_gap", list(gaps))
    return Sent(event_id=event.event_id, lpdu_id=lpdu.lpdu_id)


def _candidates(room_id: str, user_id: str, via: str) -> Iterator[str]:
    """Servers that may be the room's hub, likeliest first (decision 98)."""
    seen = {settings.SERVER_NAME}
    invited = PendingInvite.objects.filter(room_id=room_id, user_id=user_id).values_list("hub_server", flat=True)
    known = Room.objects.filter(room_id=room_id).values_list("hub_server", flat=True)
    for server in (via, *invited, *known, domain_of(room_id)):
        if server and server not in seen:
            seen.add(server)
            yield server


def _template(endpoint: str, room_id: str, user_id: str, via: str, *, membership: str) -> _Template:
    """Ask for a template where the hub may be, following hints. Raises `HandshakeFailed` with the last answer."""
    failure = f"no server is known that may host {room_id}"
    for candidate in _candidates(room_id, user_id, via):
        server = candidate
        for _ in range(1 + MAX_HINTS):
            answer, failure = _ask(endpoint, server, room_id, user_id)
            if answer is not None and answer.status == 200:
                return _checked_template(answer.content or {}, server, room_id, user_id, membership)
            hint = (answer.content or {}).get("hub_server") if answer is not None else None
            if answer is None or answer.errcode != "M_WRONG_SERVER" or not is_server_name(hint) or hint == server:
                break
            server = str(hint)
    raise HandshakeFailed(failure)


def _ask(endpoint: str, server: str, room_id: str, user_id: str) -> tuple[Answer | None, str]:
    """One server's answer, and what to tell when it is none that we can use."""
    if endpoint == "make_join":
        target = paths.make_join(room_id, user_id, versions=ROOM_VERSIONS)
    else:
        target = paths.make_leave(room_id, user_id)
    try:
        answer = federation_client().call(server, "GET", target, stable=True, timeout=HANDSHAKE_TIMEOUT)
    except TransportError as error:
        return None, f"{server}: {error.reason}"
    return answer, f"{server} refused: {answer}"


def _checked_template(content: dict[str, Any], server: str, room_id: str, user_id: str, membership: str) -> _Template:
    """Check a template against what was asked for; bare and wrapped forms are taken (decisions 88, 89)."""
    event = content["event"] if isinstance(content.get("event"), dict) else content
    inner = event.get("content")
    expected = {"type": "m.room.member", "sender": user_id, "state_key": user_id}
    matches = all(event.get(field) == value for field, value in expected.items())
    if not matches or not isinstance(inner, dict) or inner.get("membership") != membership:
        raise HandshakeFailed(f"{server} answered with a template for something else")
    version = content.get("room_version")
    if version is None:
        invited = PendingInvite.objects.filter(room_id=room_id, user_id=user_id).first()
        version = invited.room_version if invited else None
    if version not in ROOM_VERSIONS:
        raise HandshakeFailed(f"{server} hosts a room of version {str(version)[:60]}, which is not supported here")
    return _Template(server, version)


def _lpdu(template: _Template, room_id: str, user_id: str, membership: str, reason: str = "") -> Lpdu:
    event = member_event(
        room_id=room_id, sender=user_id, user_id=user_id, membership=membership, now=timezone.now(), reason=reason
    )
    return make_lpdu(event, hub_server=template.hub, key=signing_key())


def _post(template: _Template, target: paths.Paths, content: dict[str, Any], *, timeout: float) -> Answer:
    try:
        answer = federation_client().call(
            template.hub,
            "POST",
            target,
            stable=paths.uses_stable_paths(template.version),
            content=content,
            timeout=timeout,
            max_response_bytes=MAX_JOIN_ANSWER,
        )
    except TransportError as error:
        raise HandshakeFailed(f"{template.hub}: {error.reason}") from None
    if answer.status != 200:
        raise HandshakeFailed(f"{template.hub} refused: {answer}")
    return answer


def _checked_join(
    template: _Template, room_id: str, lpdu: Lpdu, content: dict[str, Any]
) -> tuple[list[Pdu], list[Pdu], Pdu]:
    """The state, auth chain and join event of a hub's answer, checked (decision 92, threats T24, T38, T74)."""
    hub = template.hub
    lists = [content.get("state"), content.get("auth_chain"), [content.get("event")]]
    if not all(isinstance(items, list) for items in lists):
        raise HandshakeFailed(f"{hub} answered the join without state, auth_chain and event")
    state, auth_chain, events = (check_pdus(items or [], room_id=room_id, hub=hub) for items in lists)
    if not events or events[0].lpdu_id != lpdu.lpdu_id:
        raise HandshakeFailed(f"{hub} answered the join with another event than ours")
    latest = {(pdu.event["type"], pdu.event["state_key"]): pdu for pdu in state if "state_key" in pdu.event}
    create = latest.get(("m.room.create", ""))
    if create is None:
        raise HandshakeFailed(f"{hub} answered the join without a valid create event")
    if create.sender_server != hub:
        raise HandshakeFailed(f"{hub} is not the hub of {room_id}: {create.sender_server} created it")
    try:
        authorize(create, state={}, version=template.version, follows_create=False, cited={})
    except Rejected as refusal:
        raise HandshakeFailed(f"{hub} answered the join with a create event that is none: {refusal}") from None
    known = {pdu.event_id for pdu in latest.values()}
    known.update(pdu.event_id for pdu in auth_chain)
    if missing := [event_id for event_id in events[0].event["auth_events"] if event_id not in known]:
        raise HandshakeFailed(f"{hub} left out or spoiled {missing[0]}, on which the join rests")
    return list(latest.values()), auth_chain, events[0]
