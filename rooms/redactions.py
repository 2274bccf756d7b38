"""Redactions: events whose content is taken out of the line for good (draft section "Event Redactions").

The draft says what redaction leaves of an event, and nothing of who may redact; decision 31 takes Matrix room
version 11. An `m.room.redaction` is an event like any other to the authorization rules. It applies to the event
that `content.redacts` names when that is of the same room, and its sender either has the level that `redact`
needs or is of the same server as the target's sender.

What applies overwrites: the stored text becomes the redacted copy, in the transaction that appends the
redaction. Nothing reads the original after that, and there is no second copy to forget; id, place in the line, state
and authorization stay, for they rest on what redaction keeps. Beyond our reach is what was handed out before: a frozen
transaction to a server that has not acknowledged it, stored answers to repeated requests (for a day), evidence in
findings.

The order in which a redaction and its target arrive does not matter. A hub gives ids only to what is in its line, so
there the target is always first; a participant gets history backwards. So a redaction is kept with the id that it names
(`Redaction`), and looked up when events are inserted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from linmatrix.protocol import canonical_json
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.identifiers import domain_of, is_event_id
from linmatrix.protocol.power_levels import action_level, user_level
from linmatrix.protocol.redaction import redact
from linmatrix.protocol.state import POWER_LEVELS, State
from rooms.models import Event, Redaction, Room
from rooms.state_events import state_event

NEVER_REDACTED = frozenset(("m.room.create", "m.room.redaction", "m.room.server_acl"))
"""Types that a redaction leaves as they are: decision 31 names the create event; without redactions of redactions
there are no loops; a server ACL without content keeps every server out, the hub too (decision 109)."""


def redacted_text(text: str) -> str:
    """The redacted copy of a stored event, as canonical JSON like the stored text."""
    return canonical_json.dumps(redact(canonical_json.loads(text.encode()))).decode()


def target_of(event: dict[str, Any]) -> str | None:
    """The id of the event that an event redacts, if it is a redaction that names one."""
    redacts = event["content"].get("redacts") if event["type"] == "m.room.redaction" else None
    return redacts if is_event_id(redacts) else None


@dataclass
class Redactions:
    """The redactions in a run of events at the end of a line, in their order."""

    _found: list[Redaction] = field(default_factory=list)

    def record(self, room: Room, pdu: Pdu, *, state: State) -> None:
        """Note an event that takes effect. `state` is the state before it, with its auth events loaded."""
        if target_of(pdu.event) is not None:
            self._found.append(_redaction(room, pdu, for_all=_may_redact_all(state, pdu.event["sender"])))

    def write(self, room: Room, event_ids: Sequence[str]) -> None:
        """Apply what was noted; the run's events have been inserted and have these ids.

        The caller holds the room's lock.
        """
        waiting = _waiting_for(room, event_ids) if room.role == Room.Role.PARTICIPANT else []
        found, self._found = self._found, []
        _apply(room, [*waiting, *_kept(found)])


def redact_inserted(room: Room, pdus: Sequence[Pdu]) -> None:
    """Apply redactions to, and of, events that were inserted elsewhere than at the end of a participant's line.

    The caller holds the room's lock.
    """
    found = [pdu for pdu in pdus if target_of(pdu.event) is not None]
    may_redact_all = _by_citation(room, found)
    rows = [_redaction(room, pdu, for_all=pdu.event_id in may_redact_all) for pdu in found]
    waiting = _waiting_for(room, [pdu.event_id for pdu in pdus])
    _apply(room, [*waiting, *_kept(rows)])


def _by_citation(room: Room, pdus: Sequence[Pdu]) -> set[str]:
    """Ids of those of the redactions whose senders may redact what others sent, by the auth events that they name.

    The state at their places in the history is not known. The power levels that they name are: those of today rest on
    all that were before, so the answer to our join had them. A redaction that names others has less effect, not more.
    """
    cited = {event_id for pdu in pdus for event_id in pdu.event["auth_events"]}
    texts = Event.objects.filter(room=room, event_id__in=cited, state_key__isnull=False).values_list("pk", "json")
    known = {event_id: state_event(event_id, orjson.loads(text)) for event_id, text in texts} if cited else {}
    may_redact_all = set()
    for pdu in pdus:
        events = [known[event_id] for event_id in pdu.event["auth_events"] if event_id in known]
        state = {(event.type, event.state_key): event for event in events}
        complete = POWER_LEVELS in state or len(events) == len(pdu.event["auth_events"])
        if complete and _may_redact_all(state, pdu.event["sender"]):
            may_redact_all.add(pdu.event_id)
    return may_redact_all


def _redaction(room: Room, pdu: Pdu, *, for_all: bool) -> Redaction:
    return Redaction(
        room=room,
        event_id=pdu.event_id,
        sender=pdu.event["sender"],
        redacts=target_of(pdu.event) or "",
        for_all=for_all,
    )


def _kept(redactions: list[Redaction]) -> list[Redaction]:
    return Redaction.objects.bulk_create(redactions) if redactions else []


def _may_redact_all(state: State, user_id: str) -> bool:
    return user_level(state, user_id) >= action_level(state, "redact")


def _waiting_for(room: Room, event_ids: Iterable[str]) -> list[Redaction]:
    """Redactions that name one of these events and were not applied, oldest first."""
    return list(Redaction.objects.filter(room=room, redacts__in=list(event_ids), applied=False).order_by("pk"))


def _apply(room: Room, redactions: Sequence[Redaction]) -> None:
    """Overwrite the events that these redactions name, as far as we have them and the senders may."""
    if not redactions:
        return
    targets = Event.objects.filter(room=room, event_id__in={row.redacts for row in redactions})
    found = {event.event_id: event for event in targets.exclude(type__in=NEVER_REDACTED)}
    applied = [row for row in redactions if row.redacts in found and _allowed(row, found[row.redacts])]
    if not applied:
        return
    overwritten = {}
    for row in applied:
        row.applied = True
        if row.redacts not in overwritten:
            overwritten[row.redacts] = _overwritten(found[row.redacts], row)
    Event.objects.bulk_update(overwritten.values(), ["json", "verdict", "reason"])
    Redaction.objects.bulk_update(applied, ["applied"])


def _allowed(redaction: Redaction, target: Event) -> bool:
    return redaction.for_all or domain_of(redaction.sender) == domain_of(target.sender)


def _overwritten(event: Event, redaction: Redaction) -> Event:
    """The event with its redacted copy; one that is not in effect keeps the reason for that."""
    event.json = redacted_text(event.json)
    if event.verdict in (Event.Verdict.ACCEPTED, Event.Verdict.REDACTED):
        event.verdict, event.reason = Event.Verdict.REDACTED, f"redacted by {redaction.event_id}"
    return event
