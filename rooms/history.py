"""A participant's history before its stay, put in place newest first as a worker fetches it.

Draft section "backfill"; decisions 83, 84; threats T30, T33. An event takes a place only where the event after it
names it, so what the hub signed at our join fixes all of the history before it: ids are hashes, and the hub can
neither change nor insert nor leave out anything.

It is not run through the authorization rules. They need the state before an event, which is not known before all of
the history is there, and nothing would follow from it: the state at our join was checked by itself
(`rooms.join_answer`), and history changes no state. What can be told without it becomes a finding: a second create
event, a beginning that is no create event, an LPDU used twice, and a branch, next to the history or into what we have.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from linmatrix.protocol.events import Pdu
from linmatrix.protocol.state import CREATE
from rooms.append import Line, insert_events, open_line
from rooms.findings import Findings
from rooms.models import Event, Finding, Gap
from rooms.participant import known_events
from rooms.redactions import redact_inserted

SECOND_CREATE = "rule 3.1: a create event must be the first event of its room"


def insert_history(
    gap: Gap, pdus: Sequence[Pdu], *, now: datetime, passed_over: Mapping[str, str] | None = None
) -> bool:
    """Fill a gap from its newer end with checked events in any order; whether it is closed now.

    Each event must be the one that its successor names (threat T33); the rest is not used. `passed_over` are events
    that will never pass the checks, by the id of what is before each ('' for nothing). The gap closes at the create
    event or at an event that we have.
    """
    with open_line(gap.room_id, now=now) as line:
        current = Gap.objects.select_for_update().filter(pk=gap.pk).first()
        if current is None or current.missing_event_id != gap.missing_event_id:
            return current is None  # another worker was faster
        filling = _Filling(line, current, pdus, passed_over or {})
        closed = filling.fill()
        filling.findings.write()
    return closed


class _Filling:
    def __init__(self, line: Line, gap: Gap, pdus: Sequence[Pdu], passed_over: Mapping[str, str]) -> None:
        self.line, self.gap, self.passed_over = line, gap, passed_over
        self.by_id = {pdu.event_id: pdu for pdu in pdus}
        line.load_state([CREATE])
        self.create = line.state.get(CREATE)
        self.findings = Findings(line.room, self.by_id)
        named = {event_id for pdu in pdus for event_id in pdu.event["prev_events"]}
        self.known = known_events(
            gap.room_id, self.by_id.keys() | named | set(passed_over.values()) | {gap.missing_event_id}
        )

    def fill(self) -> bool:
        chain, missing = self._chain()
        self._insert(chain)
        self._note_branches(chain)
        if not missing:
            self._check_beginning(chain)
        elif missing in self.known:
            self._check_joint(chain, missing)
        else:
            gap = self.gap
            gap.before_position -= len(chain)
            gap.missing_event_id = missing
            gap.failures, gap.last_error, gap.next_attempt = 0, "", self.line.now
            gap.save()
            return False
        self.gap.delete()
        return True

    def _chain(self) -> tuple[list[Pdu], str]:
        """The events that fit, newest first, and the one that is missing before them, '' at the beginning."""
        chain: list[Pdu] = []
        missing = self.gap.missing_event_id
        while missing and missing not in self.known:
            if missing in self.by_id:
                chain.append(self.by_id[missing])
                missing = next(iter(chain[-1].event["prev_events"]), "")
            elif missing in self.passed_over:
                missing = self.passed_over[missing]
            else:
                break
        return chain, missing

    def _insert(self, chain: Sequence[Pdu]) -> None:
        """Insert events, newest first, at the positions below the gap's."""
        positions = {pdu.event_id: self.gap.before_position - offset for offset, pdu in enumerate(chain, start=1)}
        outliers = list(Event.objects.filter(event_id__in=positions, room=self.line.room, position__isnull=True))
        for outlier in outliers:
            outlier.position = positions.pop(outlier.event_id)
        Event.objects.bulk_update(outliers, ["position"])
        new = [pdu for pdu in chain if pdu.event_id in positions]
        used = self.line.known_lpdus([pdu.lpdu_id for pdu in new if pdu.lpdu_id])
        rows = []
        for pdu in new:
            verdict, reason = self._verdict(pdu)
            stored = pdu
            if pdu.lpdu_id in used:
                self._note_replay(pdu, used[pdu.lpdu_id])
                stored = pdu._replace(lpdu_id=None)
            elif pdu.lpdu_id:
                used[pdu.lpdu_id] = pdu.event_id
            rows.append((stored, positions[pdu.event_id], verdict, reason))
        if rows:
            insert_events(self.line.room.room_id, rows, received_at=self.line.now)
            redact_inserted(self.line.room, new)

    def _verdict(self, pdu: Pdu) -> tuple[str, str]:
        """A create event that is new to us is a second one: that of the room came with our join."""
        create = self.create
        is_create = (pdu.event["type"], pdu.event.get("state_key")) == CREATE
        if is_create and create is not None and create.event_id != pdu.event_id:
            self.findings.add(Finding.Kind.REJECTED, pdu, SECOND_CREATE, related=[create.event_id])
            return Event.Verdict.REJECTED, SECOND_CREATE
        return (Event.Verdict.REDACTED if pdu.redacted else Event.Verdict.ACCEPTED), ""

    def _note_replay(self, pdu: Pdu, other_id: str) -> None:
        """Both stay as they are: the later was taken for the first when it came, and its effect is in the state."""
        reason = f"its LPDU is in the room's line again, in {other_id}"
        self.findings.add(Finding.Kind.REPLAY, pdu, reason, related=[other_id])

    def _note_branches(self, chain: Sequence[Pdu]) -> None:
        """The hub signed two events with one predecessor: one of the chain, and another one next to it."""
        followed_by = {before: pdu.event_id for pdu in chain for before in pdu.event["prev_events"]}
        in_chain = {pdu.event_id for pdu in chain}
        for pdu in self.by_id.values():
            if pdu.event_id in in_chain or pdu.event_id in self.known:
                continue
            branches = [followed_by[before] for before in pdu.event["prev_events"] if before in followed_by]
            if branches:
                reason = f"it follows the same event as {branches[0]}, which is in the room's line"
                self.findings.add(Finding.Kind.EQUIVOCATION, pdu, reason, related=branches)

    def _check_beginning(self, chain: Sequence[Pdu]) -> None:
        create = self.create
        if chain and create is not None and chain[-1].event_id != create.event_id:
            reason = f"the room's history begins with it, and not with the create event {create.event_id}"
            self.findings.add(Finding.Kind.EQUIVOCATION, chain[-1], reason, related=[create.event_id])

    def _check_joint(self, chain: Sequence[Pdu], known_id: str) -> None:
        """The history must lead to the last event that we had before the gap, not past it."""
        before_gap = Event.objects.filter(room=self.line.room, position__lt=self.gap.before_position - len(chain))
        last = before_gap.order_by("-position").values_list("event_id", "position").first()
        if not chain or last is None or last[0] == known_id:
            return
        known = Event.objects.get(event_id=known_id)
        after = before_gap.filter(position__gt=known.position).order_by("position").values_list("event_id", flat=True)
        reason = f"it follows {known_id}, after which the hub sent other events, to {last[0]}"
        self.findings.add(Finding.Kind.EQUIVOCATION, chain[-1], reason, related=list(after[:1]))
