"""What a hub answers to a join, checked as a whole before any of it counts.

Draft section "POST send_join"; decisions 57, 86, 92; threats T34 to T38. The state before our join is the one thing
that a participant takes from its hub without having seen how it came about. But every event of it names the events
that allowed it, and those name theirs, back to the create event: so each is checked by the rules against exactly
those. What does not hold is left out, with all that rests on it, and the join goes on without, unless it rests on
it itself.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linmatrix.protocol import auth_rules
from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent, needed_state
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.state import CREATE, JOIN_RULES, StateEvent, StateKey
from rooms.state_events import state_event


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """What holds of an answer: the state before the join, all events to keep, and what was left out and why."""

    state: Mapping[StateKey, Pdu]
    events: Sequence[Pdu]
    left_out: Sequence[tuple[Pdu, str]]


def check_answer(
    *,
    state: Sequence[Pdu],
    auth_chain: Sequence[Pdu],
    join: Pdu,
    hub: str,
    version: str,
    held: Mapping[str, StateEvent],
) -> CheckedAnswer:
    """Check the state and auth chain of an answer to `join`, all of which have passed `protocol.receipt`.

    `held` are events that we have of the room already. In `state` the last event of a key counts, so that a hub may
    answer with its whole line, oldest first; what is no state event is not looked at. Raises `Rejected` when the
    create event, the power levels, the join rules or the memberships that the join rests on do not hold, are not
    those of the state, or when the hub has not created the room.
    """
    room_id = join.event["room_id"]
    offered = {
        pdu.event_id: pdu
        for pdu in (*auth_chain, *state)
        if "state_key" in pdu.event and pdu.event["room_id"] == room_id and pdu.event_id != join.event_id
    }
    chain = _Chain(offered, held, room_id=room_id, version=version)
    left_out = chain.verify()
    current: dict[StateKey, Pdu] = {}
    for pdu in state:
        if pdu.event_id in offered and pdu.event_id in chain.verified:
            current[_key(pdu)] = pdu
    _check_create(current, chain.verified, hub)
    _check_foundation(join, state, current, offered, dict(left_out))
    events = [pdu for event_id, pdu in offered.items() if event_id in chain.verified]
    return CheckedAnswer(current, events, [(offered[event_id], reason) for event_id, reason in left_out])


_KNOCKING = StateEvent("", *JOIN_RULES, "", {"join_rule": "knock"})
"""The join rules that a knock is checked against: it does not cite those that it was made under (decision 43), so
rule 5.6.1 is the one that cannot be checked afterwards. A knock alone lets nobody in."""


def _key(pdu: Pdu) -> StateKey:
    return pdu.event["type"], pdu.event["state_key"]


class _Chain:
    """State events and what they rest on: each is gone through after those that it names, without recursion."""

    def __init__(
        self, offered: Mapping[str, Pdu], held: Mapping[str, StateEvent], *, room_id: str, version: str
    ) -> None:
        self._offered = offered
        self._room_id = room_id
        self._version = ROOM_VERSIONS[version]
        self.verified = dict(held)

    def verify(self) -> list[tuple[str, str]]:
        """Fill `verified`; the events that do not hold and why."""
        waiting: dict[str, int] = {}
        resting_on: defaultdict[str, list[str]] = defaultdict(list)
        ready = []
        for event_id, pdu in self._offered.items():
            open_ = {cited for cited in pdu.event["auth_events"] if cited in self._offered}
            waiting[event_id] = len(open_)
            for cited in open_:
                resting_on[cited].append(event_id)
            if not open_:
                ready.append(event_id)
        refused: dict[str, str] = {}
        while ready:
            event_id = ready.pop()
            reason = self._verify_one(event_id, refused)
            if reason:
                refused[event_id] = reason
            for above in resting_on[event_id]:
                waiting[above] -= 1
                if not waiting[above]:
                    ready.append(above)
        circular = [event_id for event_id, count in waiting.items() if count]
        return [*refused.items(), *((event_id, "it rests on itself") for event_id in circular)]

    def _verify_one(self, event_id: str, refused: Mapping[str, str]) -> str:
        """Check one event against the state that its auth events make up; why it does not hold, or ''."""
        pdu = self._offered[event_id]
        if event_id in self.verified:
            return ""
        state: dict[StateKey, StateEvent] = {}
        cited: dict[str, CitedEvent] = {}
        for auth_id in pdu.event["auth_events"]:
            if auth_id in refused:
                return f"it rests on {auth_id}, which does not hold"
            auth_event = self.verified.get(auth_id)
            if auth_event is not None:
                state[auth_event.type, auth_event.state_key] = auth_event
                cited[auth_id] = CitedEvent(self._room_id, auth_event.type, auth_event.state_key)
        if pdu.event["type"] == "m.room.member" and pdu.event["content"].get("membership") == "knock":
            state[JOIN_RULES] = _KNOCKING
        create = state.get(CREATE)
        try:
            auth_rules.check(
                AuthorizedEvent.of(pdu.event),
                state=state,
                room_version=self._version,
                previous_is_create=create is not None and pdu.event["prev_events"] == [create.event_id],
                auth_events=cited,
            )
        except Rejected as refusal:
            return str(refusal)
        self.verified[event_id] = state_event(event_id, pdu.event)
        return ""


def _check_create(current: Mapping[StateKey, Pdu], verified: Mapping[str, StateEvent], hub: str) -> None:
    """The room has one create event, and the hub is the server of its sender (threats T37, T38)."""
    create = current.get(CREATE)
    if create is None:
        raise Rejected("4.3", "the answer has no create event that holds")
    if create.sender_server != hub:
        raise Rejected("3.2", f"{hub} is not the hub: {create.sender_server} created the room")
    creates = [event_id for event_id, event in verified.items() if (event.type, event.state_key) == CREATE]
    if len(creates) > 1:
        raise Rejected("3.1", f"the room has {len(creates)} create events")


def _check_foundation(
    join: Pdu,
    state: Sequence[Pdu],
    current: Mapping[StateKey, Pdu],
    offered: Mapping[str, Pdu],
    left_out: Mapping[str, str],
) -> None:
    """The join rests on the very state of the answer, and nothing that it would rest on was left out."""
    event = join.event
    needed = needed_state(
        type=event["type"], state_key=event.get("state_key"), sender=event["sender"], content=event["content"]
    )
    latest = {_key(pdu): pdu.event_id for pdu in state if pdu.event_id in offered}
    for key in needed:
        if key in latest and latest[key] in left_out:
            raise Rejected("4", f"{key[0]} of the answer does not hold: {left_out[latest[key]]}")
    selected = {current[key].event_id for key in needed if key in current}
    if different := selected ^ set(event["auth_events"]):
        raise Rejected("4", f"the join and the state of the answer do not agree on {min(different)}")
