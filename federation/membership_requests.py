"""The hub's side of make and send: templates for those outside, and their answers appended.

Draft section "Make and Send Handshake"; decisions 44, 47, 56, 88 to 92.
"""

from typing import Any

from django.utils import timezone

from federation.errors import ApiError
from keys.keyring import keys_for
from linmatrix.protocol import auth_rules
from linmatrix.protocol.auth_events import AuthorizedEvent, needed_state
from linmatrix.protocol.events import CheckedEvent, check_schema
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.receipt import receive_lpdu
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.state import JOIN_RULES
from rooms.audience import anyone_joined
from rooms.hub import append_lpdus, member_event
from rooms.models import Event, Room
from rooms.state import current_state


def template(room: Room, *, user_id: str, membership: str) -> dict[str, Any]:
    """The event that a user outside may sign to reach `membership`, as far as the hub decides it.

    Raises `Rejected` when the rules would refuse it now, `ApiError` 404 when nobody is in the room.
    """
    if not anyone_joined(room.room_id):
        raise ApiError(404, "M_NOT_FOUND", "Nobody is in the room.")
    event = member_event(
        room_id=room.room_id, sender=user_id, user_id=user_id, membership=membership, now=timezone.now()
    )
    needed = needed_state(type=event["type"], state_key=user_id, sender=user_id, content=event["content"])
    # A knock depends on the join rules, though it does not cite them (decision 43).
    needed = list({*needed, JOIN_RULES})
    auth_rules.check(
        AuthorizedEvent.of(event),
        state=current_state(room.room_id, needed),
        room_version=ROOM_VERSIONS[room.version],
        previous_is_create=False,
        auth_events=None,
    )
    return {**event, "hub_server": room.hub_server}


def check_version(room: Room, versions: list[str]) -> None:
    """Refuse a caller that does not support the room's version (decision 90)."""
    if room.version not in versions:
        raise ApiError(
            400, "M_INCOMPATIBLE_ROOM_VERSION", "Your server does not support the room.", room_version=room.version
        )


def check_membership_event(content: dict[str, Any], *, origin: str, membership: str) -> CheckedEvent:
    """The event of a send request, which must be a membership of the origin's own user (decision 91)."""
    event = check_schema(content)
    if event["type"] != "m.room.member" or event["content"].get("membership") != membership:
        raise ApiError(400, "M_INVALID_PARAM", f"The event is not a membership of {membership}.")
    if event.get("state_key") != event["sender"]:
        raise ApiError(400, "M_INVALID_PARAM", "The event is about another user than its sender.")
    if domain_of(event["sender"]) != origin:
        raise ApiError(403, "M_FORBIDDEN", "The sender is a user of another server.")
    return event


def append_membership(room: Room, event: CheckedEvent) -> Event:
    """Check and append an LPDU that came by a send request; the stored event.

    Raises `Malformed`, `BadSignature`, `Rejected`, `TooLarge` or `WrongHub`.
    """
    lpdu = receive_lpdu(event, keys=keys_for([event]))
    (outcome,) = append_lpdus(room.room_id, [lpdu], now=timezone.now())
    if outcome.refusal is not None:
        raise outcome.refusal
    event_id = outcome.pdu.event_id if outcome.pdu else outcome.known_event_id
    return Event.objects.get(event_id=event_id)
