"""What other servers send: LPDUs to us as hub, PDUs to us as participant.

Draft section "PUT send"; decisions 13, 14, 39, 77 to 83. Whatever endpoint brings events, they pass
`protocol.receipt` with keys fetched beforehand, and no database transaction is open while keys or gaps are
fetched. Each room's events are then appended in one transaction of their own: one bad event, or one bad
room, never affects the rest.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from federation import invitations, invited
from federation.errors import ApiError
from federation.gaps import fetch_predecessors
from federation.waiting import BUSY, waiting_room
from keys.keyring import keys_for
from linmatrix.metrics import instruments
from linmatrix.protocol.errors import BadSignature, Malformed, ProtocolError, TooLarge
from linmatrix.protocol.events import CheckedEvent, Lpdu, Pdu, check_schema, is_lpdu
from linmatrix.protocol.hashes import event_id
from linmatrix.protocol.identifiers import domain_of, is_room_id, is_user_id
from linmatrix.protocol.receipt import receive_lpdu, receive_pdu
from linmatrix.protocol.signing import KnownKeys
from rooms.append import rooms_by_id
from rooms.audience import takes_part
from rooms.hub import append_lpdus
from rooms.joining import join_under_way
from rooms.models import Room
from rooms.participant import Predecessor, append_pdus

logger = logging.getLogger(__name__)

MAX_PDUS = 50
MAX_EDUS = 100
"""Entries of a transaction (draft, "PUT send")."""

JOIN_POLL_INTERVAL = 0.02

FailedPdus = dict[str, dict[str, str]]

_turn = threading.Lock()
# Transactions are checked one after the other: threads that check at the same time hand the interpreter to each other
# around every signature, which costs more than signatures gain by running side by side.


class Refused(Exception):
    """An event that is refused with a reason, rather than dropped (decision 78)."""


class _Received(NamedTuple):
    """An event object of a room that we know, its schema checked, and which way it goes."""

    event: CheckedEvent
    room: Room


def lists_of(content: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The `pdus` and `edus` of a transaction. Raises `Malformed`, and then nothing of it is processed."""
    pdus, edus = content.get("pdus", []), content.get("edus", [])
    if not isinstance(pdus, list) or not isinstance(edus, list):
        raise Malformed("pdus and edus must be lists")
    if len(pdus) > MAX_PDUS or len(edus) > MAX_EDUS:
        raise Malformed(f"at most {MAX_PDUS} pdus and {MAX_EDUS} edus, here are {len(pdus)} and {len(edus)}")
    return pdus, edus


def receive_transaction(origin: str, pdus: Sequence[Any]) -> FailedPdus:
    """Process the events of a transaction in their order; the answer's `failed_pdus`.

    Dropped events do not appear in it, nor do accepted ones. Raises `ApiError` when the whole transaction
    should be sent again.
    """
    failed: FailedPdus = {}
    received, elsewhere = _identify(origin, pdus, failed)
    for event in elsewhere:
        invited.receive_for_pending(origin, event)
    keys = keys_for(item.event for item in received)
    with _turn:
        checked = _checked(origin, received, keys, failed)
    for room, events in checked.values():
        if room.role == Room.Role.HUB:
            _append_as_hub(room, [event for event in events if isinstance(event, Lpdu)], failed)
        else:
            _append_as_participant(room, [event for event in events if isinstance(event, Pdu)])
    return failed


def _checked(
    origin: str, received: Sequence[_Received], keys: KnownKeys, failed: FailedPdus
) -> dict[str, tuple[Room, list[Lpdu | Pdu]]]:
    """The events that pass, by the id of their room."""
    checked: dict[str, tuple[Room, list[Lpdu | Pdu]]] = {}
    for item in received:
        try:
            event = _check(item, keys)
        except TooLarge as error:
            _fail(failed, item.event, error.reason)
        except (Malformed, BadSignature) as error:
            instruments.events.labels(item.room.role, "dropped").inc()
            logger.info("dropped an event of %s from %s: %s", item.room.room_id, origin, error.reason)
        else:
            checked.setdefault(item.room.room_id, (item.room, []))[1].append(event)
    return checked


def _identify(origin: str, pdus: Sequence[Any], failed: FailedPdus) -> tuple[list[_Received], list[CheckedEvent]]:
    """The events of rooms that concern us, before any cryptography (draft, send, step 1; decision 77), and all of
    rooms that we do not host: they may be about an invite that waits, too."""
    rooms = _rooms(origin, pdus)
    received, elsewhere = [], []
    for pdu in pdus:
        try:
            if isinstance(pdu, dict) and not is_room_id(pdu.get("room_id")):
                raise Refused("the event has no valid room_id")
            event = check_schema(pdu)
            room = rooms.get(event["room_id"])
            if room is None or room.role == Room.Role.PARTICIPANT:
                elsewhere.append(event)
            if room is not None and _concerns_us(origin, event, room):
                received.append(_Received(event, room))
        except Refused as refusal:
            _fail(failed, pdu, str(refusal))
        except Malformed as error:
            logger.info("dropped an event from %s: %s", origin, error.reason)
    return received, elsewhere


def _rooms(origin: str, pdus: Sequence[Any]) -> dict[str, Room]:
    """The rooms of these event objects that we know and have not blocked."""
    by_room: dict[str, list[dict[str, Any]]] = {}
    for pdu in pdus:
        if isinstance(pdu, dict) and is_room_id(pdu.get("room_id")):
            by_room.setdefault(pdu["room_id"], []).append(pdu)
    rooms = rooms_by_id(by_room)
    awaited = [
        room_id
        for room_id, events in by_room.items()
        if (room_id not in rooms or rooms[room_id].role != Room.Role.HUB) and not all(map(_is_join_of_ours, events))
    ]
    if awaited and _wait_for_joins(origin, awaited):
        rooms |= rooms_by_id(awaited)
    return {room_id: room for room_id, room in rooms.items() if not room.blocked}


def _is_join_of_ours(event: dict[str, Any]) -> bool:
    """Whether this is the echo of a join that one of our users has asked for.

    A hub may send it before it answers the join: waiting for that answer here would make both wait for each other.
    The answer brings the event, too.
    """
    content, user_id = event.get("content"), event.get("state_key")
    is_join = event.get("type") == "m.room.member" and isinstance(content, dict) and content.get("membership") == "join"
    ours = isinstance(user_id, str) and is_user_id(user_id) and domain_of(user_id) == settings.SERVER_NAME
    return is_join and ours


def _wait_for_joins(origin: str, room_ids: Sequence[str]) -> bool:
    """Wait while a user of ours is joining one of the rooms; whether there was anything to wait for."""
    if not join_under_way(room_ids, now=timezone.now()):
        return False
    deadline = time.monotonic() + settings.LIMITS.join_wait_seconds
    with waiting_room.wait(origin):
        while join_under_way(room_ids, now=timezone.now()):
            if time.monotonic() > deadline:
                raise ApiError(503, "M_UNKNOWN", "A join to one of the rooms is under way. Try again.")
            time.sleep(JOIN_POLL_INTERVAL)
    return True


def _concerns_us(origin: str, event: dict[str, Any], room: Room) -> bool:
    """Whether to go on with an event. Raises `Refused` for what a hub must refuse."""
    if room.role == Room.Role.PARTICIPANT:
        if is_lpdu(event) or origin != room.hub_server:
            return False  # draft, send, step 3; decision 39
        return takes_part(room.room_id, settings.SERVER_NAME)
    if not is_lpdu(event):
        raise Refused("this server is the room's hub and takes LPDUs only")
    if domain_of(event["sender"]) != origin:
        raise Refused(f"{origin} cannot send events of {event['sender']}")
    return True


def _check(item: _Received, keys: KnownKeys) -> Lpdu | Pdu:
    if item.room.role == Room.Role.HUB:
        return receive_lpdu(item.event, keys=keys)
    return receive_pdu(item.event, hub=item.room.hub_server, keys=keys)


def _append_as_hub(room: Room, lpdus: Sequence[Lpdu], failed: FailedPdus) -> None:
    """Append in order. An invite to a server outside of the room waits for that server's answer, so it ends
    a run of events that are appended together."""
    run: list[Lpdu] = []
    for lpdu in lpdus:
        if not invitations.needs_invitee(lpdu.event, room):
            run.append(lpdu)
            continue
        _append_run(room, run, failed)
        run = []
        try:
            invitations.append_invite(room, lpdu=lpdu)
        except (ProtocolError, ApiError) as refusal:
            if isinstance(refusal, ApiError) and refusal.status == BUSY:
                raise  # about the moment and not about the event: all of the transaction is to be sent again
            _fail(failed, lpdu.event, str(refusal), lpdu.lpdu_id)
    _append_run(room, run, failed)


def _append_run(room: Room, lpdus: Sequence[Lpdu], failed: FailedPdus) -> None:
    if not lpdus:
        return
    for outcome in append_lpdus(room.room_id, lpdus, now=timezone.now()):
        if outcome.refusal is not None:
            failed[outcome.lpdu_id] = {"error": str(outcome.refusal)}


def _append_as_participant(room: Room, pdus: Sequence[Pdu]) -> None:
    """Append, after fetching what is missing before an event (decision 83).

    When the hub does not give it, the transaction is to be sent again: better late than with a hole.
    """
    line = list(pdus)
    for _ in range(1 + len(pdus)):  # each may have a gap of its own before it
        try:
            append_pdus(room.room_id, line, now=timezone.now())
        except Predecessor as gap:
            at = line.index(gap.pdu)
            with waiting_room.wait(room.hub_server):
                line[at:at] = fetch_predecessors(room, gap.pdu)
        else:
            return
    raise ApiError(503, "M_UNKNOWN", "Earlier events are missing and could not be placed. Try again.")


def _fail(failed: FailedPdus, event: dict[str, Any], reason: str, known_id: str = "") -> None:
    """Note a refusal under the id of the event as it was received, where it has one (decision 78)."""
    try:
        failed[known_id or event_id(event)] = {"error": reason}
    except (KeyError, TypeError, AttributeError):
        logger.info("dropped an event that has no id: %s", reason)
