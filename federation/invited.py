"""As the server of invited and knocking users: a hub's invite, and what becomes of invites and knocks meanwhile.

Draft sections "Invites" and "Knocks"; decisions 82, 93, 96. We are not in the room, so nothing of it can be
checked but signatures. The hub that sent an invite, or took a knock, is the one that may take it back.
"""

import logging
from typing import Any

from django.conf import settings

from federation import withdrawals
from federation.errors import ApiError
from federation.invitations import is_invite
from federation.invite_policy import check_invite
from keys.keyring import keys_for
from keys.local import signing_key
from linmatrix.protocol.completion import add_signature
from linmatrix.protocol.errors import BadSignature, Malformed, TooLarge
from linmatrix.protocol.events import CheckedEvent, Pdu, is_lpdu
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.receipt import receive_pdu
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from rooms import pending
from rooms.local_users import exists
from rooms.models import PendingInvite, Room

logger = logging.getLogger(__name__)


def receive_invite(origin: str, event: CheckedEvent, content: dict[str, Any]) -> Pdu:
    """Check an invite from a room's hub, keep it, and sign it (decision 96). `content` is what came with it.

    Raises `Malformed`, `BadSignature`, or `ApiError` where the draft names another answer.
    """
    version = content.get("room_version")
    if not isinstance(version, str) or version not in ROOM_VERSIONS:
        named = {"room_version": version[:128]} if isinstance(version, str) else {}
        raise ApiError(400, "M_INCOMPATIBLE_ROOM_VERSION", "Unsupported room version.", **named)
    shown = content.get("invite_room_state", [])
    if not isinstance(shown, list):
        raise Malformed("invite_room_state must be a list")
    if not is_invite(event):
        raise ApiError(400, "M_INVALID_PARAM", "The event is not an invite.")
    pdu = receive_pdu(event, hub=origin, keys=keys_for([event]))
    room_id, user_id = pdu.event["room_id"], pdu.event["state_key"]
    if domain_of(user_id) != settings.SERVER_NAME or not exists(user_id):
        raise ApiError(403, "M_FORBIDDEN", "The invited user does not exist here.")
    check_invite(origin, user_id, sender=pdu.event["sender"])
    _check_room(origin, room_id)
    if pending.is_flooded(hub=origin, room_id=room_id, user_id=user_id):
        raise ApiError(403, "M_FORBIDDEN", "Too many invites by your server wait for an answer.")
    pending.keep(pdu.event, event_id=pdu.event_id, hub=origin, version=version, shown=shown)
    # The hub invites again after a leave that it has not heard of yet: that leave was an answer to another invite.
    withdrawals.cancel(room_id, user_id)
    return add_signature(pdu, server=settings.SERVER_NAME, key=signing_key())


def _check_room(origin: str, room_id: str) -> None:
    """Refuse an invite to a room that we know to be another server's, or that is blocked (decisions 55, 117)."""
    room = Room.objects.filter(room_id=room_id).first()
    if room is None:
        return
    if room.blocked:
        raise ApiError(403, "M_FORBIDDEN", "The room is blocked on this server.")
    if room.hub_server != origin:
        raise ApiError(403, "M_FORBIDDEN", "The room has another hub.")


def receive_for_pending(origin: str, event: CheckedEvent) -> None:
    """Take in an event that came by `send`, should it be about an invite or a knock that waits (decision 82).

    That is: a membership of a user of ours who has one with `origin` as hub. A leave or ban ends it; an invite
    answers a knock. Any other event is left alone, most of them without a look at the database; one whose
    checks fail is dropped.
    """
    user_id = event.get("state_key") or ""
    if event["type"] != "m.room.member" or domain_of(user_id) != settings.SERVER_NAME or is_lpdu(event):
        return
    rows = PendingInvite.objects.filter(room_id=event["room_id"], user_id=user_id, hub_server=origin)
    row = rows.first()
    if row is None:
        return
    try:
        pdu = receive_pdu(event, hub=origin, keys=keys_for([event]))
    except (Malformed, BadSignature, TooLarge) as error:
        logger.info("dropped a membership of %s in %s from %s: %s", user_id, row.room_id, origin, error.reason)
        return
    if not _follows(pdu, row):
        return
    unchanged = rows.filter(event_id=row.event_id)
    match pdu.event["content"].get("membership"):
        case "leave" | "ban" | "join":
            unchanged.delete()
        case "invite" | "knock":
            unchanged.update(event_id=pdu.event_id, json=pdu.encoded.decode())


def _follows(pdu: Pdu, row: PendingInvite) -> bool:
    """Whether an event was made when the invite or knock stood, and not before it.

    Transactions may be late: an invite that was taken back can have been renewed by the time we hear of the
    former. An event about another user than its sender cites the membership that it replaces, and so does one by
    its own sender. Of a knock we know the LPDU only, which nothing cites; there the hub is believed, except
    about what the user did, which we know better.
    """
    if pdu.lpdu_id == row.event_id or row.event_id in pdu.event["auth_events"]:
        return True
    return pending.is_knock(row) and pdu.event["sender"] != row.user_id
