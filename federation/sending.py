"""Sending events of our own users: appended when we are the hub, else queued as LPDUs for it.

Draft section "Sending Events"; DESIGN flow "Send from here". The caller has the event's id at once: the
event id as hub, the LPDU's id as participant, whose echo comes back from the hub.
"""

import json
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from federation import invitations
from federation.blocking import check_not_blocked
from federation.models import OutboundLpdu
from federation.outbound import queue_lpdu
from keys.local import signing_key
from linmatrix.protocol import canonical_json
from linmatrix.protocol.completion import make_lpdu, new_event
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.identifiers import domain_of, is_room_id
from rooms.hub import append_own, milliseconds
from rooms.local_users import require_local
from rooms.models import Event, Room


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent: `event_id` when it is in the line already, `lpdu_id` when its echo is awaited.

    `taken` says that the hub has taken it and that we, who are not in the room, get no echo.
    """

    event_id: str = ""
    lpdu_id: str = ""
    taken: bool = False


def send_event(*, room_id: str, sender: str, type: str, content: dict[str, Any], state_key: str | None = None) -> Sent:
    """Send an event of `sender`, one of our users, to a room that we host or take part in.

    Raises `Malformed` for what no server would take, `Rejected` when we are the hub and the rules refuse it,
    `Room.DoesNotExist`, `ApiError` 403 for an invite to a server that is blocked. As participant, whether the hub
    takes it shows later (`outcome`).
    """
    room = Room.objects.get(room_id=room_id)
    require_local(sender)
    event = new_event(
        room_id=room_id,
        sender=sender,
        type=type,
        content=_as_sent(content),
        origin_server_ts=milliseconds(timezone.now()),
        state_key=state_key,
    )
    if invitations.is_invite(event):
        check_not_blocked(domain_of(event["state_key"]))
    if room.role == Room.Role.PARTICIPANT:
        return _queue(room, event)
    if invitations.needs_invitee(event, room):
        return Sent(event_id=invitations.append_invite(room, event=event).event_id)
    return Sent(event_id=append_own(room_id, [event], now=timezone.now())[0].event_id)


def _queue(room: Room, event: dict[str, Any]) -> Sent:
    lpdu = make_lpdu(event, hub_server=room.hub_server, key=signing_key())
    check_schema(lpdu.event)
    with transaction.atomic():
        queue_lpdu(room.hub_server, lpdu)
    return Sent(lpdu_id=lpdu.lpdu_id)


def _as_sent(content: dict[str, Any]) -> dict[str, Any]:
    """Content as every peer will read it; raises `Malformed` for what is not I-JSON."""
    loaded = canonical_json.loads(json.dumps(content).encode())
    if not isinstance(loaded, dict):
        raise Malformed("content must be a JSON object")
    return loaded


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an LPDU of ours so far; `event_id` once its echo arrived, `refused` with the hub's reason.

    `set_aside` is the reason why it was not delivered; an operator may have it sent again, so it is not settled.
    """

    event_id: str = ""
    verdict: str = ""
    refused: str = ""
    set_aside: str = ""

    @property
    def settled(self) -> bool:
        """Whether the hub has decided."""
        return bool(self.event_id or self.refused)


def outcome(room_id: str, lpdu_id: str) -> Outcome:
    """Look for the echo of an LPDU, or for the hub's refusal."""
    if not is_room_id(room_id):
        raise Malformed("not a room id")
    event = Event.objects.filter(room_id=room_id, lpdu_id=lpdu_id).values_list("event_id", "verdict").first()
    if event:
        return Outcome(event_id=event[0], verdict=event[1])
    lpdu = OutboundLpdu.objects.filter(lpdu_id=lpdu_id).first()
    if lpdu is None:
        return Outcome()
    return Outcome(
        refused=lpdu.reason if lpdu.status == OutboundLpdu.Status.REFUSED else "",
        set_aside=lpdu.reason if lpdu.status == OutboundLpdu.Status.SET_ASIDE else "",
    )
