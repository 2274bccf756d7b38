"""The authorization rules: whether a room's state allows an event.

Draft section "Auth Rules Algorithm". The rules stand in the draft's order under its numbers, and the
first that refuses names itself in `Rejected.rule`; where a rule only allows, the "otherwise" that
follows it refuses. Rules 1 and 2, the signatures, are part of the checks on receipt
(`linmatrix.protocol.receipt`) and hold before anything here is called: no signature is verified under a
room's lock. Rule 5 is in `auth_membership`, rule 9 in `auth_power_levels`.

A rule that ends in a word is not a number of the draft:

- 3.state_key, 3.auth_events: what the draft's section "m.room.create" requires and leaves to these rules.
- 4.unknown, 4.room: every auth event is known and of the same room (decision 42).
- 4.federate: `m.federate` false keeps the room to the creator's server (decision 47).
"""

from collections.abc import Mapping

from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent, needed_state
from linmatrix.protocol.auth_membership import check_membership
from linmatrix.protocol.auth_power_levels import check_power_levels
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.power_levels import event_level, user_level
from linmatrix.protocol.room_versions import RoomVersion
from linmatrix.protocol.state import CREATE, State, StateEvent, membership

READ_BY_CONTENT = frozenset(("m.room.create", "m.room.member", "m.room.power_levels"))
"""Types of which the rules read the content. What they say of any other event follows from its type, its sender, its
state key and the state before it."""


def check(
    event: AuthorizedEvent,
    *,
    state: State,
    room_version: RoomVersion,
    previous_is_create: bool,
    auth_events: Mapping[str, CitedEvent] | None,
) -> None:
    """Allow the event by returning, or raise `Rejected`.

    `state` is the room's state before the event; `previous_is_create` says whether the event before it
    is the create event. `auth_events` holds, by id, those of `event.auth_events` that this server knows;
    the hub passes None, for it selects them itself and rule 4 holds by construction.
    """
    if event.type == "m.room.create":
        _check_create(event, state, room_version)
        return
    create = state.get(CREATE)
    if create is None:
        raise Rejected("4.3", "the room has no create event")
    if auth_events is not None:
        _check_auth_events(event, auth_events)
    _check_federation(event, create)
    if event.type == "m.room.member":
        check_membership(event, state=state, previous_is_create=previous_is_create)
        return
    _check_sender_joined(event, state)
    _check_event_level(event, state)
    _check_owned_state(event)
    if event.type == "m.room.power_levels":
        check_power_levels(event, state=state, room_version=room_version)


def _check_create(event: AuthorizedEvent, state: State, room_version: RoomVersion) -> None:
    """Rule 3: the first event, and only the first, creates a room on its sender's own server, of the version that its
    content names (decision 4).

    An LPDU has no `prev_events` to betray that it is not the first event; the state does.
    """
    if event.prev_events or CREATE in state:
        raise Rejected("3.1", "a create event must be the first event of its room")
    room_domain, sender_domain = domain_of(event.room_id), domain_of(event.sender)
    if room_domain != sender_domain:
        raise Rejected("3.2", f"the room is of {room_domain}, its creator of {sender_domain}")
    if event.content.get("room_version") != room_version.identifier:
        raise Rejected("3.3", f"content.room_version is not {room_version.identifier}")
    if event.state_key != "":
        raise Rejected("3.state_key", "the state key of a create event must be empty")
    if event.auth_events:
        raise Rejected("3.auth_events", f"a create event has no auth events, this one has {len(event.auth_events)}")


def _check_auth_events(event: AuthorizedEvent, known: Mapping[str, CitedEvent]) -> None:
    """Rule 4, all of it (decision 54): the auth events are among those selected for the event, each once, and of its
    room."""
    cited = []
    for event_id in event.auth_events:
        found = known.get(event_id)
        if found is None:
            raise Rejected("4.unknown", f"auth event {event_id:.60} is unknown")
        if found.room_id != event.room_id:
            raise Rejected("4.room", f"auth event {event_id:.60} is of another room")
        cited.append((found.type, found.state_key))
    distinct = set(cited)
    if len(distinct) != len(cited):
        raise Rejected("4.1", f"{len(cited)} auth events stand for {len(distinct)} entries of the state")
    needed = needed_state(type=event.type, state_key=event.state_key, sender=event.sender, content=event.content)
    for entry in cited:
        if entry not in needed:
            raise Rejected("4.2", f"auth event of type {entry[0]:.60} does not belong to a {event.type:.60}")
    if CREATE not in distinct:
        raise Rejected("4.3", "the create event is not among the auth events")


def _check_federation(event: AuthorizedEvent, create: StateEvent) -> None:
    """Rule 4.federate (decision 47): a room may be closed to all servers but its creator's."""
    if create.content.get("m.federate") is False and domain_of(event.sender) != domain_of(create.sender):
        raise Rejected("4.federate", f"the room is closed to servers other than {domain_of(create.sender)}")


def _check_sender_joined(event: AuthorizedEvent, state: State) -> None:
    """Rule 6: only those who are joined send events."""
    current = membership(state, event.sender)
    if current != "join":
        raise Rejected("6", f"the sender's membership is {current:.20}, not join")


def _check_event_level(event: AuthorizedEvent, state: State) -> None:
    """Rule 7: the sender has the power level the event's type needs."""
    needed = event_level(state, event.type, is_state=event.state_key is not None)
    level = user_level(state, event.sender)
    if needed > level:
        raise Rejected("7", f"sending {event.type:.60} needs {needed}, has {level}")


def _check_owned_state(event: AuthorizedEvent) -> None:
    """Rule 8: a state key that starts with `@` is its owner's (decision 53: kept)."""
    if event.state_key is not None and event.state_key.startswith("@") and event.state_key != event.sender:
        raise Rejected("8", "the state key names another user than the sender")
