"""A room and an event as one value, and twins of such values that differ in one field."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import pytest

from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent
from linmatrix.protocol.auth_rules import check
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.state import State, StateEvent
from tests.support.states import ALICE, BOB, ROOM_ID, room


@dataclass(frozen=True, kw_only=True)
class Situation:
    """An event and the room it comes to; unless told otherwise, Bob's message to Alice's room."""

    creator: str = ALICE
    joined: Sequence[str] = (ALICE, BOB)
    invited: Sequence[str] = ()
    knocking: Sequence[str] = ()
    left: Sequence[str] = ()
    banned: Sequence[str] = ()
    levels: Mapping[str, Any] | None = None
    join_rule: str | None = None
    create: Mapping[str, Any] | None = None
    more: Sequence[StateEvent] = ()
    empty: bool = False
    """The room has no state yet, whatever the fields above say."""

    room_id: str = ROOM_ID
    type: str = "m.room.message"
    state_key: str | None = None
    sender: str = BOB
    content: Any = None
    prev_events: Sequence[str] = ("$previous",)
    auth_events: Sequence[str] = ()

    cited: Mapping[str, CitedEvent] | None = None
    previous_is_create: bool = False
    room_version: str = "I.1"

    @property
    def state(self) -> State:
        """The state that the fields about the room describe."""
        if self.empty:
            return {}
        return room(
            creator=self.creator,
            joined=self.joined,
            invited=self.invited,
            knocking=self.knocking,
            left=self.left,
            banned=self.banned,
            levels=self.levels,
            join_rule=self.join_rule,
            create=self.create,
            more=self.more,
        )

    def check(self) -> None:
        """Run the authorization rules."""
        event = AuthorizedEvent(
            room_id=self.room_id,
            type=self.type,
            state_key=self.state_key,
            sender=self.sender,
            content={} if self.content is None else self.content,
            prev_events=self.prev_events,
            auth_events=self.auth_events,
        )
        check(
            event,
            state=self.state,
            room_version=ROOM_VERSIONS[self.room_version],
            previous_is_create=self.previous_is_create,
            auth_events=self.cited,
        )


@dataclass(frozen=True)
class Twins:
    """What the rules allow, and the same with one field changed (`but`), which they refuse.

    `allows` and `refuses` are the numbers of the draft's rules that decide.
    """

    claim: str
    allowed: Situation
    _: KW_ONLY
    allows: str
    but: Mapping[str, Any]
    refuses: str

    def verify(self) -> None:
        """Assert both halves of the claim."""
        assert len(self.but) == 1, "twins differ in one field"
        self.allowed.check()
        assert_refused(replace(self.allowed, **self.but), self.refuses)


def assert_refused(situation: Situation, rule: str) -> Rejected:
    """Assert that this rule and no other refuses; return the refusal for its reason to be looked at."""
    with pytest.raises(Rejected) as refusal:
        situation.check()
    assert refusal.value.rule == rule, f"refused, but by {refusal.value}"
    return refusal.value


def invite(sender: str, target: str, **about: Any) -> Situation:
    """`sender` invites `target`."""
    return _membership("invite", sender, target, about)


def join(sender: str, target: str | None = None, **about: Any) -> Situation:
    """`sender` joins, or joins `target` by force."""
    return _membership("join", sender, target or sender, about)


def leave(sender: str, target: str | None = None, **about: Any) -> Situation:
    """`sender` leaves, or kicks or unbans `target`."""
    return _membership("leave", sender, target or sender, about)


def ban(sender: str, target: str, **about: Any) -> Situation:
    """`sender` bans `target`."""
    return _membership("ban", sender, target, about)


def knock(sender: str, target: str | None = None, **about: Any) -> Situation:
    """`sender` knocks, or knocks in the name of `target`."""
    return _membership("knock", sender, target or sender, about)


def set_levels(sender: str, content: Mapping[str, Any], **about: Any) -> Situation:
    """`sender` sends new power levels."""
    return Situation(type="m.room.power_levels", state_key="", sender=sender, content=content, **about)


def _membership(membership: str, sender: str, target: str, about: Mapping[str, Any]) -> Situation:
    content = {"membership": membership}
    return Situation(type="m.room.member", state_key=target, sender=sender, content=content, **about)
