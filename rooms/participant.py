"""Taking part in a room that another server hosts: its line as the hub sends it, checked again.

Draft section "Receiving Events/PDUs"; decisions 38 to 43, 83, 92. A participant does not decide what the
line is, the hub does; it checks every event with the same rules. What fails keeps its place in the line,
takes no effect, and becomes a finding about the hub (`rooms.findings`).

Our positions need not be the hub's. A stay begins at a position well above what we have, and the history
before it, fetched afterwards, fills the positions below it downwards (`rooms.history`).
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.db import transaction

from linmatrix.protocol import auth_rules
from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent, select_auth_events
from linmatrix.protocol.encryption import COMMIT
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.state import CREATE, State, StateEvent
from rooms.adoption import adopt_state
from rooms.append import ACCEPTED, Line, open_line
from rooms.findings import Findings, one_line, passed_over
from rooms.join_answer import CheckedAnswer, check_answer
from rooms.mls.line import commits_of
from rooms.mls.participant import forget_group, judge_commit
from rooms.mls.preparing import prepare
from rooms.models import Event, Finding, PendingJoin, Room
from rooms.state_events import state_events


class Predecessor(Exception):
    """An event's predecessor is not in our line: it must be fetched before the event can be appended."""

    def __init__(self, pdu: Pdu) -> None:
        super().__init__(f"the predecessor of {pdu.event_id} is not known")
        self.pdu = pdu


def known_events(room_id: str, event_ids: Collection[str]) -> set[str]:
    """Which of these events have a place in our copy of the room's line."""
    known = Event.objects.filter(event_id__in=event_ids, room_id=room_id, position__isnull=False)
    return set(known.values_list("event_id", flat=True))


def _stored(event_ids: Iterable[str]) -> set[str]:
    """Which of these events we have, in the line or outside of it: neither is to be appended again."""
    return set(Event.objects.filter(event_id__in=list(event_ids)).values_list("event_id", flat=True))


def append_pdus(room_id: str, pdus: Sequence[Pdu], *, now: datetime) -> list[str]:
    """Append checked PDUs from the room's hub in the order of their arrival; ids of those that are new.

    Raises `Predecessor`, with nothing changed, when one's predecessor is unknown; `Room.DoesNotExist`.
    """
    prepared = prepare(room_id, [pdu.event for pdu in pdus], in_line=True)
    with open_line(room_id, now=now) as line:
        if prepared is not None:
            commits_of(line).know(prepared)
        appending = Appending(line, pdus)
        appended = [pdu.event_id for pdu in pdus if appending.append(pdu)]
        appending.findings.write()
    return appended


class Appending:
    """A run of events from the hub that are appended together, and what is known beforehand."""

    def __init__(self, line: Line, pdus: Sequence[Pdu]) -> None:
        self.line = line
        self.findings = Findings(line.room, {pdu.event_id: pdu for pdu in pdus})
        self._stored = _stored(pdu.event_id for pdu in pdus)
        self._known = known_events(line.room.room_id, _predecessors(pdus))
        self._known_lpdus = line.known_lpdus([pdu.lpdu_id for pdu in pdus if pdu.lpdu_id])
        self._cited = _cited_events([event_id for pdu in pdus for event_id in pdu.event["auth_events"]])
        self._order = [line.room.head_event_id]
        line.load_state_for(pdu.event for pdu in pdus)

    def append(self, pdu: Pdu) -> bool:
        """Append one event, whatever is thought of it; False when it is stored already. Raises `Predecessor`."""
        if pdu.event_id in self._stored:
            return False
        self._note_fork(pdu, self._follows(pdu))
        if pdu.redacted:
            note_edit(self.findings, pdu)
        verdict, reason = self._verdict(pdu)
        if pdu.lpdu_id in self._known_lpdus:
            self.line.append(pdu._replace(lpdu_id=None), verdict=verdict, reason=reason)
        else:
            self.line.append(pdu, verdict=verdict, reason=reason)
        if pdu.lpdu_id:
            self._known_lpdus.setdefault(pdu.lpdu_id, pdu.event_id)
        self._stored.add(pdu.event_id)
        self._known.add(pdu.event_id)
        self._order.append(pdu.event_id)
        self._cited[pdu.event_id] = CitedEvent(pdu.event["room_id"], pdu.event["type"], pdu.event.get("state_key"))
        return True

    def _follows(self, pdu: Pdu) -> list[str]:
        """The events of our line that an event follows, those that were passed over left out."""
        named: list[str] = pdu.event["prev_events"]
        found = [event_id for event_id in named if event_id in self._known]
        if found or not named:
            return found
        if before := self._before_passed_over(named[0]):
            return [before]
        raise Predecessor(pdu)

    def _before_passed_over(self, event_id: str) -> str:
        """The last event of our line before one that was passed over, '' when there is something missing between."""
        room_id = self.line.room.room_id
        while event_id:
            event_id = passed_over(room_id, [event_id], now=self.line.now).get(event_id, "")
            if event_id in self._known or known_events(room_id, [event_id]):
                return event_id
        return ""

    def _verdict(self, pdu: Pdu) -> tuple[str, str]:
        """What we think of an event that is next, and why; '' when it is accepted."""
        state = self.line.state
        if pdu.lpdu_id in self._known_lpdus:
            first = self._known_lpdus[pdu.lpdu_id]
            reason = f"its LPDU was used before, in {first}"
            self.findings.add(Finding.Kind.REPLAY, pdu, reason, related=[first])
            return Event.Verdict.REJECTED, reason
        version, follows_create = self.line.room.version, self.line.follows_create
        selected = _selected(pdu, state)
        try:
            authorize(pdu, state=state, version=version, follows_create=follows_create, cited=self._cited)
        except Rejected as refusal:
            self.findings.add(Finding.Kind.REJECTED, pdu, str(refusal), related=selected)
            return Event.Verdict.REJECTED, one_line(str(refusal))
        self._note_citation(pdu, selected)
        if pdu.event["type"] == COMMIT and (fault := judge_commit(self.line, pdu, self.findings)):
            return Event.Verdict.SOFT_FAILED, one_line(str(fault))
        return "", ""

    def _note_fork(self, pdu: Pdu, follows: list[str]) -> None:
        """Record that the event does not follow our last one alone, which an honest hub's events do (decision 83).

        The evidence is the event that we have after the same predecessor: the hub has signed both.
        """
        head = self._order[-1]
        if len(pdu.event["prev_events"]) == len(follows) and follows == ([head] if head else []):
            return
        reason = f"it follows other events than {head}"
        self.findings.add(Finding.Kind.FORK, pdu, reason, related=filter(None, map(self._successor, follows)))

    def _successor(self, event_id: str) -> str:
        """The event after one of our line, '' for the last."""
        if event_id in self._order:
            return next(iter(self._order[self._order.index(event_id) + 1 :]), "")
        line = Event.objects.filter(room=self.line.room)
        position = line.values_list("position", flat=True).get(event_id=event_id)
        after = line.filter(position__gt=position).order_by("position").values_list("event_id", flat=True)
        return after.first() or ""

    def _note_citation(self, pdu: Pdu, selected: list[str]) -> None:
        """Record auth events that the state does not have: they would mislead whoever joins later (decision 43).

        No rule refuses them where the event is allowed by the state itself.
        """
        if pdu.event["type"] != CREATE[0] and set(pdu.event["auth_events"]) != set(selected):
            missing = sorted(set(selected) ^ set(pdu.event["auth_events"]))
            reason = f"its auth events and the current ones differ in {', '.join(missing)}"
            self.findings.add(Finding.Kind.CITATION, pdu, reason, related=selected)


def note_edit(findings: Findings, pdu: Pdu) -> None:
    """Record a content that is not what its sender and the hub have signed.

    The redacted copy is no such content: hubs send it of what was redacted, and of an LPDU whose own hash was wrong
    (decision 20).
    """
    if pdu.altered:
        findings.add(Finding.Kind.EDIT, pdu, "the content does not match its hash")


def _selected(pdu: Pdu, state: State) -> list[str]:
    """The auth events that an event should have."""
    event = pdu.event
    return select_auth_events(
        type=event["type"],
        state_key=event.get("state_key"),
        sender=event["sender"],
        content=event["content"],
        state=state,
    )


def authorize(pdu: Pdu, *, state: State, version: str, follows_create: bool, cited: dict[str, CitedEvent]) -> None:
    """Check a PDU against the state before it and the events that it cites. Raises `Rejected`."""
    auth_rules.check(
        AuthorizedEvent.of(pdu.event),
        state=state,
        room_version=ROOM_VERSIONS[version],
        previous_is_create=follows_create,
        auth_events=cited,
    )


def _predecessors(pdus: Sequence[Pdu]) -> set[str]:
    return {event_id for pdu in pdus for event_id in pdu.event["prev_events"]}


def _cited_events(event_ids: Collection[str]) -> dict[str, CitedEvent]:
    rows = Event.objects.filter(event_id__in=event_ids).values_list("event_id", "room_id", "type", "state_key")
    return {event_id: CitedEvent(room_id, type_, state_key) for event_id, room_id, type_, state_key in rows}


def begin_stay(
    *, room_id: str, hub: str, version: str, state: Sequence[Pdu], auth_chain: Sequence[Pdu], join: Pdu, now: datetime
) -> Room:
    """Store what a hub answered to our join and begin a stay in its room.

    `state` is the room's state before `join`, or its whole line oldest first; its events and those of `auth_chain`
    have passed `protocol.receipt`. What of them does not hold is left out and becomes a finding. Where our line ends
    just before the join, our own state counts, and the answer's is not looked at. Raises `Rejected` when what
    remains does not allow the join, and for a room that we know under another hub, version or create event.
    """
    with transaction.atomic():
        room, _ = Room.objects.get_or_create(
            room_id=room_id,
            defaults={"version": version, "role": Room.Role.PARTICIPANT, "hub_server": hub},
        )
        if (room.hub_server, room.version) != (hub, version):
            raise Rejected("3.2", f"{room_id} is known with the hub {room.hub_server} and version {room.version}")
        with open_line(room_id, now=now) as line:
            if known_events(room_id, [join.event_id]):
                return room
            findings = Findings(line.room, {pdu.event_id: pdu for pdu in (*auth_chain, *state)})
            if join.event["prev_events"] != [line.room.head_event_id]:
                answer = _checked_answer(line, state=state, auth_chain=auth_chain, join=join)
                adopt_state(line, answer, missing_event_id=join.event["prev_events"][0])
                forget_group(line)
                for pdu, reason in answer.left_out:
                    findings.add(Finding.Kind.STATE, pdu, reason, related=pdu.event["auth_events"])
            line.load_state_for([join.event])
            cited = _cited_events(join.event["auth_events"])
            authorize(join, state=line.state, version=version, follows_create=False, cited=cited)
            line.append(join)
            if join.redacted:
                note_edit(findings, join)
            findings.write()
        PendingJoin.objects.filter(room_id=room_id).delete()
    return room


def _checked_answer(line: Line, *, state: Sequence[Pdu], auth_chain: Sequence[Pdu], join: Pdu) -> CheckedAnswer:
    """What holds of an answer, seen together with what we have of the room from an earlier stay."""
    room = line.room
    if not join.event["prev_events"]:
        raise Rejected("4", "the join follows no event")
    answer = check_answer(
        state=state,
        auth_chain=auth_chain,
        join=join,
        hub=room.hub_server,
        version=room.version,
        held=_held_state_events(
            room.room_id, {event_id for pdu in (*auth_chain, *state, join) for event_id in pdu.event["auth_events"]}
        ),
    )
    line.load_state([CREATE])
    if CREATE in line.state and line.state[CREATE].event_id != answer.state[CREATE].event_id:
        raise Rejected("3.1", f"the room is known with the create event {line.state[CREATE].event_id}")
    return answer


def _held_state_events(room_id: str, event_ids: Collection[str]) -> dict[str, StateEvent]:
    """Those of the events that are state events of the room and took effect here."""
    rows = Event.objects.filter(event_id__in=event_ids, room_id=room_id, verdict__in=ACCEPTED)
    return state_events.get_many(list(rows.values_list("event_id", flat=True)))
