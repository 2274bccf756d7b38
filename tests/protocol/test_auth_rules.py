"""Rules 6, 7, 8 and 10 and the closed room, and that no rule of the draft goes untested."""

from typing import Any

import pytest

from tests.protocol import (
    test_auth_create,
    test_auth_membership,
    test_auth_membership_of_others,
    test_auth_power_levels,
    test_auth_references,
)
from tests.support.situations import Situation, Twins, assert_refused, invite, join, set_levels
from tests.support.states import ALICE, BOB, CAROL

CLOSED = {"room_version": "I.1", "m.federate": False}

NOT_FALSE: list[Any] = [0, None, "false", []]


def state_of(type: str, state_key: str, sender: str = BOB, **about: Any) -> Situation:
    """A state event in a room where everybody may send it."""
    return Situation(type=type, state_key=state_key, sender=sender, levels={"state_default": 0}, **about)


FEDERATION = [
    Twins(
        "a room may be closed to other servers",
        Situation(sender=ALICE, create=CLOSED),
        allows="10",
        but={"sender": BOB},
        refuses="4.federate",
    ),
    Twins(
        "a closed room is closed to joins too",
        join(CAROL, join_rule="public", create={"room_version": "I.1", "m.federate": True}),
        allows="5.2.5",
        but={"create": CLOSED},
        refuses="4.federate",
    ),
    *(
        Twins(
            f"m.federate {value!r} is not false",
            Situation(create={"room_version": "I.1", "m.federate": value}),
            allows="10",
            but={"create": CLOSED},
            refuses="4.federate",
        )
        for value in NOT_FALSE
    ),
]

SENDING = [
    *(
        Twins(f"those joined send, those {field} do not", Situation(), allows="10", but={field: [BOB]}, refuses="6")
        for field in ("left", "invited", "knocking", "banned")
    ),
    Twins("those who never were there do not send", Situation(), allows="10", but={"joined": [ALICE]}, refuses="6"),
    Twins(
        "sending needs the level of the event's type",
        Situation(levels={"events": {"m.room.message": 10}, "users": {BOB: 10}}),
        allows="10",
        but={"levels": {"events": {"m.room.message": 11}, "users": {BOB: 10}}},
        refuses="7",
    ),
    Twins(
        "sending needs events_default",
        Situation(levels={"events_default": 10, "users": {BOB: 10}}),
        allows="10",
        but={"levels": {"events_default": 10, "users": {BOB: 9}}},
        refuses="7",
    ),
    Twins(
        "an event with a state key, even an empty one, needs state_default",
        Situation(type="m.room.name", levels={"state_default": 1}),
        allows="10",
        but={"state_key": ""},
        refuses="7",
    ),
    Twins(
        "without power levels the creator sends state, others do not",
        Situation(type="m.room.name", state_key="", sender=ALICE),
        allows="10",
        but={"sender": BOB},
        refuses="7",
    ),
    Twins(
        "a state key that is a user id is that user's",
        state_of("org.example.status", BOB),
        allows="10",
        but={"state_key": CAROL},
        refuses="8",
    ),
    Twins(
        "a state key that starts with @ is nobody else's, user id or not",
        state_of("org.example.status", "bob"),
        allows="10",
        but={"state_key": "@"},
        refuses="8",
    ),
    Twins(
        "high power does not open other users' state keys",
        state_of("org.example.status", ALICE, sender=ALICE),
        allows="10",
        but={"state_key": BOB},
        refuses="8",
    ),
]

TWINS = [*FEDERATION, *SENDING]

REFUSING = {
    *("3.1", "3.2", "3.3", "3.state_key", "3.auth_events"),
    *("4.unknown", "4.room", "4.1", "4.2", "4.3", "4.federate"),
    *("5.1", "5.2.2", "5.2.3", "5.2.4", "5.2.6", "5.3.1", "5.3.2", "5.3.4", "5.4.1", "5.4.2", "5.4.3", "5.4.5"),
    *("5.5.1", "5.5.3", "5.6.1", "5.6.2", "5.6.4", "5.7"),
    *("6", "7", "8"),
    *("9.1", "9.2", "9.3", "9.5.1", "9.5.2", "9.6.1", "9.7.1", "9.8.1", "9.9.1"),
}
"""Every rule that refuses: the draft's from 3 on, and those of our own that `auth_rules` lists."""

ALLOWING = {"3.4", "5.2.1", "5.2.4", "5.2.5", "5.3.3", "5.4.1", "5.4.4", "5.5.2", "5.6.3", "9.4", "9.10", "10"}
"""Every rule of the draft that allows."""

TABLES = [
    TWINS,
    test_auth_create.TWINS,
    test_auth_references.TWINS,
    test_auth_membership.TWINS,
    test_auth_membership_of_others.TWINS,
    test_auth_power_levels.TWINS,
]


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins.claim)
def test_rules_6_7_8_10(twins: Twins) -> None:
    twins.verify()


def test_no_rule_is_without_its_twins() -> None:
    every = [twins for table in TABLES for twins in table]
    assert {twins.refuses for twins in every} == REFUSING
    assert {twins.allows for twins in every} == ALLOWING


def test_the_rules_go_in_the_drafts_order() -> None:
    """Events that break several rules are refused by the first."""
    assert_refused(Situation(left=[BOB], levels={"events_default": 1}), "6")
    assert_refused(Situation(type="x", state_key=CAROL), "7")
    assert_refused(set_levels(BOB, {"ban": "x"}, levels={}), "7")


def test_membership_events_do_not_need_their_types_level() -> None:
    invite(BOB, CAROL, levels={"events": {"m.room.member": 100}, "state_default": 100}).check()


def test_a_refusal_for_lack_of_power_carries_the_numbers() -> None:
    refusal = assert_refused(Situation(type="m.room.name", state_key=""), "7")
    assert "needs 50, has 0" in refusal.reason
