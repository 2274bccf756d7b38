"""Inviting users as a room's hub.

Draft section "Invites"; decisions 24, 47, 94 to 97; `federation.invited` is the other side. The invited server
signs the complete event before it is appended, and completing it fixes its place in the line. So the hub
completes it, asks without holding the room's lock, and appends it if nothing came between; else it starts again.
After some tries it keeps the lock while it asks, for a few seconds at most.
"""

import logging
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone

from federation import paths
from federation.blocking import check_not_blocked
from federation.client import Answer, federation_client
from federation.errors import ApiError
from federation.waiting import waiting_room
from keys.keyring import event_keys
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import BadSignature, Rejected
from linmatrix.protocol.events import MAX_EVENT_BYTES, Lpdu, Pdu
from linmatrix.protocol.hashes import signed_bytes
from linmatrix.protocol.identifiers import domain_of, is_user_id
from linmatrix.protocol.receipt import MAX_SIGNATURES_PER_SERVER
from linmatrix.protocol.signing import KnownKeys, check_signature, signature_ids
from linmatrix.protocol.state import CREATE
from linmatrix.transport.errors import TransportError
from rooms.append import Line, open_line
from rooms.audience import takes_part
from rooms.hub import complete_lpdu, complete_own, milliseconds
from rooms.local_users import exists
from rooms.models import Event, Room
from rooms.state import stripped_state

logger = logging.getLogger(__name__)

OPTIMISTIC_TRIES = 3
"""Tries without the room's lock; more are needed only in a room where others write all the time (decision 95)."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite that is to be appended: from a participant (`lpdu`) or by a user of ours (`event`)."""

    event: dict[str, Any]
    lpdu: Lpdu | None = None

    def known(self, line: Line) -> Pdu | None:
        """The event that was made of this LPDU before, if it is in the line already (decision 38)."""
        if self.lpdu is None:
            return None
        event_id = line.known_lpdus([self.lpdu.lpdu_id]).get(self.lpdu.lpdu_id)
        return stored_pdu(Event.objects.get(event_id=event_id)) if event_id else None

    def complete(self, line: Line) -> Pdu:
        """The PDU at the end of the line. Raises `Rejected`, `TooLarge`, `WrongHub`, and `ApiError` 403 for a user
        of ours who does not exist."""
        line.load_state_for([self.event])
        self._check_federation(line)
        pdu = complete_lpdu(line, self.lpdu) if self.lpdu else complete_own(line, self.event)
        user_id = self.event["state_key"]
        if domain_of(user_id) == settings.SERVER_NAME and not exists(user_id):
            raise ApiError(403, "M_FORBIDDEN", "The invited user does not exist here.")
        return pdu

    def _check_federation(self, line: Line) -> None:
        """Refuse to invite from outside into a room that is closed to other servers (decision 47).

        The rules look at the sender only, and would let somebody be invited who can never join.
        """
        create = line.state.get(CREATE)
        server = domain_of(self.event["state_key"])
        if create is not None and create.content.get("m.federate") is False and server != settings.SERVER_NAME:
            raise Rejected("4.federate", f"the room is closed to users of {server}")


def is_invite(event: dict[str, Any]) -> bool:
    """Whether an event invites a user."""
    return (
        event["type"] == "m.room.member"
        and event["content"].get("membership") == "invite"
        and is_user_id(event.get("state_key"))
    )


def needs_invitee(event: dict[str, Any], room: Room) -> bool:
    """Whether the invited user's server has a say: another one that is not in the room, which has to be asked, or
    ourselves, who know that there is no such user (decision 96)."""
    if not is_invite(event):
        return False
    server = domain_of(event["state_key"])
    if server == settings.SERVER_NAME:
        return not exists(event["state_key"])
    return not takes_part(room.room_id, server)


def append_invite(room: Room, *, event: dict[str, Any] | None = None, lpdu: Lpdu | None = None) -> Pdu:
    """Append an invite as hub, after asking the invited user's server where needed; the complete event.

    Raises `Rejected` and others where the room does not allow it, `ApiError` with the invited server's answer
    when that refuses, 502 when it cannot be reached; 403 for a user of ours who does not exist, and for a server that
    is blocked.
    """
    invitation = Invitation(lpdu.event if lpdu else event or {}, lpdu)
    if not needs_invitee(invitation.event, room):
        with open_line(room.room_id, now=timezone.now()) as line:
            if known := invitation.known(line):
                return known
            line.append(pdu := invitation.complete(line))
        return pdu
    for _ in range(OPTIMISTIC_TRIES):
        with open_line(room.room_id, now=timezone.now()) as line:
            if known := invitation.known(line):
                return known
            pdu = invitation.complete(line)
            head = line.room.head_event_id
        signed, keys = _ask_invitee(room, pdu, timeout=settings.LIMITS.invite_seconds)
        with open_line(room.room_id, now=timezone.now()) as line:
            if line.room.head_event_id == head:
                # Nothing came between, so what was checked then still holds; the memberships are needed anew.
                line.load_state_for([invitation.event])
                line.append(signed)
                return signed
    with open_line(room.room_id, now=timezone.now()) as line:
        if known := invitation.known(line):
            return known
        # The keys are known from the tries before: none is fetched while others wait for the room.
        pdu = invitation.complete(line)
        signed, _ = _ask_invitee(room, pdu, timeout=settings.LIMITS.locked_invite_seconds, keys=keys)
        line.append(signed)
    return signed


def _ask_invitee(room: Room, pdu: Pdu, *, timeout: float, keys: KnownKeys | None = None) -> tuple[Pdu, KnownKeys]:
    """Send an invite to the invited user's server; the event with its signature, and the keys of that server.

    `keys` are those to check the signature with; without them they are looked up.
    """
    server = domain_of(pdu.event["state_key"])
    check_not_blocked(server)
    content = {
        "event": pdu.event,
        "invite_room_state": stripped_state(room.room_id),
        "room_version": room.version,
    }
    try:
        with waiting_room.wait(pdu.sender_server):
            answer = federation_client().call(
                server,
                "POST",
                paths.invite(pdu.event_id),
                stable=paths.uses_stable_paths(room.version),
                content=content,
                timeout=timeout,
                max_response_bytes=settings.LIMITS.invite_answer_bytes,
            )
    except TransportError as error:
        logger.info("%s could not be asked for an invite: %s", server, error.reason)
        raise ApiError(502, "M_UNKNOWN", f"{server} could not be reached.") from None
    if answer.status != 200:
        raise _proxied(server, answer)
    by_key = _invitee_signatures(answer.content, server)
    if keys is None:
        now_ms = milliseconds(timezone.now())
        keys = event_keys((server, key_id, now_ms) for key_id in list(by_key)[:MAX_SIGNATURES_PER_SERVER])
    return _with_signatures(pdu, by_key, server, keys), keys


def _proxied(server: str, answer: Answer) -> ApiError:
    """A refusal by the invited server, passed on without anything that it added (decision 97)."""
    content = answer.content or {}
    errcode = content.get("errcode")
    if not 400 <= answer.status < 500 or not isinstance(errcode, str) or len(errcode) > 100:
        return ApiError(502, "M_UNKNOWN", f"{server} did not answer as it should ({answer.status}).")
    if errcode == "M_UNSUPPORTED_ROOM_VERSION":
        errcode = "M_INCOMPATIBLE_ROOM_VERSION"  # as an existing implementation spells it (decision 76)
    extra: dict[str, Any] = {}
    if isinstance(content.get("room_version"), str):
        extra["room_version"] = content["room_version"][:128]
    if type(content.get("retry_after_ms")) is int:
        extra["retry_after_ms"] = content["retry_after_ms"]
    error = content.get("error")
    return ApiError(answer.status, errcode, error[:300] if isinstance(error, str) else "", **extra)


def _invitee_signatures(content: dict[str, Any] | None, server: str) -> dict[str, Any]:
    """The invited server's signatures in its answer; nothing else of it is used (decisions 24, 94)."""
    returned = (content or {}).get("pdu", (content or {}).get("event"))
    signatures = returned.get("signatures") if isinstance(returned, dict) else None
    by_key = signatures.get(server) if isinstance(signatures, dict) else None
    if not isinstance(by_key, dict):
        raise ApiError(502, "M_UNKNOWN", f"{server} did not sign the invite.")
    return by_key


def _with_signatures(pdu: Pdu, by_key: dict[str, Any], server: str, keys: KnownKeys) -> Pdu:
    """The event with the signatures of `server`, which must be over just this event."""
    signed = {key_id: by_key[key_id] for key_id in signature_ids({server: by_key}, server)}
    event = {**pdu.event, "signatures": {**pdu.event["signatures"], server: signed}}
    now_ms = milliseconds(timezone.now())
    try:
        check_signature(signed_bytes(event), event["signatures"], server=server, keys=keys, ts=now_ms)
    except BadSignature as error:
        raise ApiError(502, "M_UNKNOWN", f"{server} signed something else: {error.reason}.") from None
    encoded = canonical_json.dumps(event)
    if len(encoded) > MAX_EVENT_BYTES:
        raise ApiError(502, "M_UNKNOWN", f"{server} signed with more than an event can hold.")
    return Pdu(event, pdu.event_id, pdu.lpdu_id, encoded, pdu.redacted)


def stored_pdu(event: Event) -> Pdu:
    """A stored event as the protocol handles it."""
    encoded = event.json.encode()
    redacted = event.verdict == Event.Verdict.REDACTED
    return Pdu(canonical_json.loads(encoded), event.event_id, event.lpdu_id, encoded, redacted)
