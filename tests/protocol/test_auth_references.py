"""Rule 4: the auth events that a PDU cites."""

import pytest

from linmatrix.protocol.auth_events import CitedEvent
from tests.support.situations import Situation, Twins, invite, join, knock
from tests.support.states import ALICE, BOB, CAROL, ROOM_ID

CITED = {
    "$create": CitedEvent(ROOM_ID, "m.room.create", ""),
    "$other_create": CitedEvent(ROOM_ID, "m.room.create", ""),
    "$power_levels": CitedEvent(ROOM_ID, "m.room.power_levels", ""),
    "$join_rules": CitedEvent(ROOM_ID, "m.room.join_rules", ""),
    "$bob": CitedEvent(ROOM_ID, "m.room.member", BOB),
    "$carol": CitedEvent(ROOM_ID, "m.room.member", CAROL),
    "$stateless_create": CitedEvent(ROOM_ID, "m.room.create", None),
    "$foreign_bob": CitedEvent("!another:hub.example", "m.room.member", BOB),
}


def message_citing(*auth_events: str) -> Situation:
    """Bob's message as a participant receives it."""
    return Situation(auth_events=auth_events, cited=CITED)


TWINS = [
    Twins(
        "every auth event is known",
        message_citing("$create", "$power_levels", "$bob"),
        allows="10",
        but={"auth_events": ("$create", "$power_levels", "$unknown")},
        refuses="4.unknown",
    ),
    Twins(
        "every auth event is of the same room",
        message_citing("$create", "$power_levels", "$bob"),
        allows="10",
        but={"auth_events": ("$create", "$power_levels", "$foreign_bob")},
        refuses="4.room",
    ),
    Twins(
        "no auth event is named twice",
        message_citing("$create", "$bob"),
        allows="10",
        but={"auth_events": ("$create", "$bob", "$bob")},
        refuses="4.1",
    ),
    Twins(
        "two auth events do not stand for the same entry of the state",
        message_citing("$create", "$bob"),
        allows="10",
        but={"auth_events": ("$create", "$other_create", "$bob")},
        refuses="4.1",
    ),
    Twins(
        "a message does not cite another user's membership",
        message_citing("$create", "$bob"),
        allows="10",
        but={"auth_events": ("$create", "$bob", "$carol")},
        refuses="4.2",
    ),
    Twins(
        "a message does not cite the join rules",
        message_citing("$create", "$bob"),
        allows="10",
        but={"auth_events": ("$create", "$bob", "$join_rules")},
        refuses="4.2",
    ),
    Twins(
        "an event that is not state is no auth event",
        message_citing("$create", "$bob"),
        allows="10",
        but={"auth_events": ("$create", "$bob", "$stateless_create")},
        refuses="4.2",
    ),
    Twins(
        "an invite cites both memberships and the join rules, a ban not the join rules",
        invite(BOB, CAROL, auth_events=["$create", "$bob", "$carol", "$join_rules"], cited=CITED),
        allows="5.3.3",
        but={"content": {"membership": "ban"}},
        refuses="4.2",
    ),
    Twins(
        "a knock does not cite the join rules",
        knock(CAROL, join_rule="knock", auth_events=["$create", "$carol"], cited=CITED),
        allows="5.6.3",
        but={"auth_events": ["$create", "$carol", "$join_rules"]},
        refuses="4.2",
    ),
    Twins(
        "the create event is among the auth events",
        message_citing("$create", "$bob"),
        allows="10",
        but={"auth_events": ("$bob",)},
        refuses="4.3",
    ),
    Twins(
        "the hub, which selects the auth events itself, is not asked for them",
        Situation(auth_events=[], cited=None),
        allows="10",
        but={"cited": CITED},
        refuses="4.3",
    ),
    Twins(
        "nothing but a create event comes to a room without one",
        join(ALICE, joined=[], previous_is_create=True),
        allows="5.2.1",
        but={"empty": True},
        refuses="4.3",
    ),
]


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins.claim)
def test_rule_4(twins: Twins) -> None:
    twins.verify()
