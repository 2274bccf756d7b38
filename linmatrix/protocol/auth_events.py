"""Auth events: which state events prove that a sender may send an event.

Draft section "Auth Events Selection", decision 43. The hub selects them when it completes an event;
a participant compares what it was sent with the same selection (rule 4). The shapes in which the
authorization rules see events stand here too, so that every module of the rules can import them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from linmatrix.protocol.state import CREATE, JOIN_RULES, POWER_LEVELS, State, StateKey, member


class AuthorizedEvent(NamedTuple):
    """What the authorization rules read of an event whose schema was checked on receipt.

    `state_key` is None for an event that is not state. `prev_events` and `auth_events` are empty for an
    LPDU: the hub fills them in once the event is allowed.
    """

    room_id: str
    type: str
    state_key: str | None
    sender: str
    content: Mapping[str, Any]
    prev_events: Sequence[str] = ()
    auth_events: Sequence[str] = ()

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        """The rules' view of an LPDU or PDU that has passed `events.check_schema`."""
        return cls(
            event["room_id"],
            event["type"],
            event.get("state_key"),
            event["sender"],
            event["content"],
            event.get("prev_events", ()),
            event.get("auth_events", ()),
        )


@dataclass(frozen=True, slots=True)
class CitedEvent:
    """What is known of an event that a PDU names in `auth_events`."""

    room_id: str
    type: str
    state_key: str | None


def needed_state(*, type: str, state_key: str | None, sender: str, content: Mapping[str, Any]) -> list[StateKey]:
    """The state an event's `auth_events` consist of, in the draft's order, whether present or not.

    A create event has none. A membership that is its own sender's is named once. Join rules belong to
    joins and invites only, not to knocks: rule 4.2 would refuse them there.
    """
    if type == "m.room.create":
        return []
    needed = [CREATE, POWER_LEVELS, member(sender)]
    if type == "m.room.member" and state_key is not None:
        if state_key != sender:
            needed.append(member(state_key))
        if content.get("membership") in ("join", "invite"):
            needed.append(JOIN_RULES)
    return needed


def read_state(*, type: str, state_key: str | None, sender: str, content: Mapping[str, Any]) -> list[StateKey]:
    """The state that the rules read for an event: what its auth events are, and for a knock the join rules, on which
    rule 5.6.1 depends though no knock cites them (decision 43)."""
    read = needed_state(type=type, state_key=state_key, sender=sender, content=content)
    if type == "m.room.member" and content.get("membership") == "knock":
        read.append(JOIN_RULES)
    return read


def select_auth_events(
    *, type: str, state_key: str | None, sender: str, content: Mapping[str, Any], state: State
) -> list[str]:
    """The ids for `auth_events` of an event that follows `state`, in the draft's order."""
    needed = needed_state(type=type, state_key=state_key, sender=sender, content=content)
    return [state[key].event_id for key in needed if key in state]
