"""Being a room's hub: LPDUs and our own events become PDUs at the end of the line.

Draft sections "Receiving Events/PDUs", "Authorization Rules", "Hub Selection"; decisions 11, 38, 40. What
comes here has passed `protocol.receipt`: schema, signatures and hashes are right.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection

from keys.local import signing_key
from linmatrix.metrics import instruments
from linmatrix.protocol import auth_rules
from linmatrix.protocol.auth_events import AuthorizedEvent, select_auth_events
from linmatrix.protocol.completion import complete, new_event
from linmatrix.protocol.encryption import COMMIT
from linmatrix.protocol.errors import ProtocolError, Rejected, TooLarge, WrongHub
from linmatrix.protocol.events import Lpdu, Pdu
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.signing import SigningKey
from rooms import server_acl
from rooms.append import Line, open_line
from rooms.joint import Joint
from rooms.mls.hub import keep_refusals, take_commit
from rooms.mls.line import commits_of
from rooms.mls.preparing import Prepared, prepare


class Outcome(NamedTuple):
    """What became of one LPDU: its event, or why it was refused.

    `pdu` is None when it was refused, and when it was in the line already (`known_event_id`).
    """

    lpdu_id: str
    pdu: Pdu | None = None
    known_event_id: str = ""
    refusal: ProtocolError | None = None


class _Item(NamedTuple):
    """An LPDU with the time that it came, and what was found out of the commits that came with it."""

    lpdu: Lpdu
    now: datetime
    prepared: Prepared | None


MAX_TOGETHER = 200
"""LPDUs of several transactions that are appended in one: what holds a room's row for some thirty milliseconds."""


def append_lpdus(room_id: str, lpdus: Sequence[Lpdu], *, now: datetime) -> Sequence[Outcome]:
    """Append checked LPDUs of one room in their order; one refused does not touch the others.

    An LPDU that is in the line already is accepted again without a new event (decision 38). Outside of a database
    transaction, calls that meet in this process are made together. Raises `Room.DoesNotExist`.
    """
    prepared = prepare(room_id, [lpdu.event for lpdu in lpdus])
    items = [_Item(lpdu, now, prepared) for lpdu in lpdus]
    return _append(room_id, items) if connection.in_atomic_block else _appends.call(room_id, items)


def _append(room_id: str, items: Sequence[_Item]) -> list[Outcome]:
    with open_line(room_id, now=items[-1].now) as line:
        line.load_state_for(item.lpdu.event for item in items)
        known = line.known_lpdus([item.lpdu.lpdu_id for item in items])
        _know_commits(line, [item.prepared for item in items])
        outcomes, key = [], signing_key()
        for lpdu, *_ in items:
            outcome = _append_one(line, lpdu, known, key)
            if outcome.pdu is not None:
                known[lpdu.lpdu_id] = outcome.pdu.event_id
            outcomes.append(outcome)
    _count(outcomes)
    return outcomes


def _know_commits(line: Line, prepared: Iterable[Prepared | None]) -> None:
    for batch in dict.fromkeys(prepared):
        if batch is not None:
            commits_of(line).know(batch)


def _count(outcomes: Sequence[Outcome]) -> None:
    """Count what did not become an event; `rooms.append` counts those that did."""
    if known := sum(bool(outcome.known_event_id) for outcome in outcomes):
        instruments.events.labels("hub", "known").inc(known)
    if refused := sum(outcome.refusal is not None for outcome in outcomes):
        instruments.events.labels("hub", "refused").inc(refused)


_appends: Joint[_Item, Outcome] = Joint(_append, max_items=MAX_TOGETHER)


def _append_one(line: Line, lpdu: Lpdu, known: dict[str, str], key: SigningKey) -> Outcome:
    if lpdu.lpdu_id in known:
        return Outcome(lpdu.lpdu_id, known_event_id=known[lpdu.lpdu_id])
    try:
        pdu = complete_lpdu(line, lpdu, key)
    except (Rejected, TooLarge, WrongHub) as refusal:
        return Outcome(lpdu.lpdu_id, refusal=refusal)
    line.append(pdu)
    return Outcome(lpdu.lpdu_id, pdu)


def complete_lpdu(line: Line, lpdu: Lpdu, key: SigningKey | None = None) -> Pdu:
    """The PDU that an LPDU would be at the end of the line. Raises `Rejected`, `TooLarge`, `WrongHub`.

    Whoever completes many at once gives the key, which is otherwise looked up for each.
    """
    if lpdu.event["hub_server"] != settings.SERVER_NAME:
        raise WrongHub(f"the event is for the hub {lpdu.event['hub_server']}")
    return _complete(line, lpdu.event, lpdu, key or signing_key())


def complete_own(line: Line, event: dict[str, Any]) -> Pdu:
    """The PDU that a new event of a user of ours would be at the end of the line. Raises `Rejected`, `TooLarge`."""
    return _complete(line, event, None, signing_key())


def _complete(line: Line, event: dict[str, Any], lpdu: Lpdu | None, key: SigningKey) -> Pdu:
    pdu = complete(
        event,
        auth_events=_allowed_by(line, event),
        prev_event=line.room.head_event_id or None,
        server=settings.SERVER_NAME,
        key=key,
        lpdu=lpdu,
    )
    if event["type"] == COMMIT:
        take_commit(line, pdu)
    return pdu


def _allowed_by(line: Line, event: dict[str, Any]) -> list[str]:
    """The auth events of an event that would follow the line's last. Raises `Rejected`.

    Messages of one sender that follow one another are judged once, until the state changes.
    """
    type_, sender = event["type"], event["sender"]
    alike = "state_key" not in event and type_ not in auth_rules.READ_BY_CONTENT
    if alike and (type_, sender) in line.allowed:
        return line.allowed[type_, sender]
    authorize(line, event)
    selected = select_auth_events(
        type=type_, state_key=event.get("state_key"), sender=sender, content=event["content"], state=line.state
    )
    if alike:
        line.allowed[type_, sender] = selected
    return selected


def authorize(line: Line, event: dict[str, Any]) -> None:
    """Check an event that would follow the line's last. The state it needs must be loaded. Raises `Rejected`."""
    auth_rules.check(
        AuthorizedEvent.of(event),
        state=line.state,
        room_version=ROOM_VERSIONS[line.room.version],
        previous_is_create=line.follows_create,
        auth_events=None,
    )
    server_acl.check_event(event, state=line.state)


def append_own(room_id: str, events: Sequence[dict[str, Any]], *, now: datetime) -> list[Pdu]:
    """Append new events of our own users to a room that we are the hub of; all or none.

    Raises `Rejected` or `TooLarge` for the first that is refused, `Room.DoesNotExist`.
    """
    prepared = prepare(room_id, events)
    try:
        with open_line(room_id, now=now) as line:
            _know_commits(line, [prepared])
            return append_own_to(line, events)
    except Rejected:
        keep_refusals(line)
        raise


def append_own_to(line: Line, events: Sequence[dict[str, Any]]) -> list[Pdu]:
    """Append new events of our own users to an open line. Raises `Rejected` or `TooLarge`."""
    line.load_state_for(events)
    pdus = []
    for event in events:
        pdu = complete_own(line, event)
        line.append(pdu)
        pdus.append(pdu)
    return pdus


def member_event(
    *, room_id: str, sender: str, user_id: str, membership: str, now: datetime, reason: str = ""
) -> dict[str, Any]:
    """A new membership event; `reason` is for people."""
    content = {"membership": membership, **({"reason": reason} if reason else {})}
    return new_event(
        room_id=room_id,
        sender=sender,
        type="m.room.member",
        content=content,
        origin_server_ts=milliseconds(now),
        state_key=user_id,
    )


def milliseconds(moment: datetime) -> int:
    """A moment as `origin_server_ts` counts it: milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)
