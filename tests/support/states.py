"""Room states for tests, from what a reader would say about the room."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from linmatrix.protocol.state import CREATE, JOIN_RULES, POWER_LEVELS, State, StateEvent, StateKey, member

ROOM_ID = "!room:hub.example"

ALICE = "@alice:hub.example"
"""The creator of rooms, on the hub."""

BOB = "@bob:second.example"
CAROL = "@carol:third.example"
DAVE = "@dave:fourth.example"


def state_event(key: StateKey, sender: str, content: Mapping[str, Any]) -> StateEvent:
    """One entry of a state, with an id that tells what it is."""
    event_type, state_key = key
    event_id = re.sub(r"[^A-Za-z0-9_-]", "-", f"{event_type}_{state_key}")
    return StateEvent(f"${event_id}", event_type, state_key, sender, content)


def room(
    *,
    creator: str = ALICE,
    joined: Iterable[str] = (ALICE, BOB),
    invited: Iterable[str] = (),
    knocking: Iterable[str] = (),
    left: Iterable[str] = (),
    banned: Iterable[str] = (),
    levels: Mapping[str, Any] | None = None,
    join_rule: str | None = None,
    create: Mapping[str, Any] | None = None,
    more: Iterable[StateEvent] = (),
) -> State:
    """A room's state. A user in several lists has the last list's membership; None leaves the event out.

    `levels` and `create` are the content of the power levels and create events; `more` adds events as
    they are, in place of those above with the same key.
    """
    events = [state_event(CREATE, creator, {"room_version": "I.1"} if create is None else create)]
    lists = {"join": joined, "invite": invited, "knock": knocking, "leave": left, "ban": banned}
    for membership, users in lists.items():
        events += [state_event(member(user), user, {"membership": membership}) for user in users]
    if levels is not None:
        events.append(state_event(POWER_LEVELS, creator, levels))
    if join_rule is not None:
        events.append(state_event(JOIN_RULES, creator, {"join_rule": join_rule}))
    return {(event.type, event.state_key): event for event in [*events, *more]}
