"""Rule 5 where users change the membership of others: inviting, kicking, unbanning, banning."""

import pytest

from linmatrix.protocol.state import member
from tests.support.situations import Twins, assert_refused, ban, invite, leave
from tests.support.states import ALICE, BOB, CAROL, state_event

BOB_50 = {"users": {ALICE: 100, BOB: 50}}

INVITE = [
    Twins("those joined invite", invite(BOB, CAROL), allows="5.3.3", but={"left": [BOB]}, refuses="5.3.1"),
    Twins("those invited do not invite", invite(BOB, CAROL), allows="5.3.3", but={"invited": [BOB]}, refuses="5.3.1"),
    Twins(
        "those who left are invited again, those joined are not",
        invite(BOB, CAROL, left=[CAROL]),
        allows="5.3.3",
        but={"more": [state_event(member(CAROL), CAROL, {"membership": "join"})]},
        refuses="5.3.2",
    ),
    Twins(
        "those banned are not invited",
        invite(ALICE, CAROL, knocking=[CAROL]),
        allows="5.3.3",
        but={"banned": [CAROL]},
        refuses="5.3.2",
    ),
    Twins(
        "inviting needs the invite level",
        invite(BOB, CAROL, levels={"invite": 50, "users": {BOB: 50}}),
        allows="5.3.3",
        but={"levels": {"invite": 50, "users": {BOB: 49}}},
        refuses="5.3.4",
    ),
    Twins(
        "inviting needs 0 by default",
        invite(BOB, CAROL, levels={"users_default": 0}),
        allows="5.3.3",
        but={"levels": {"users_default": -1}},
        refuses="5.3.4",
    ),
]

KICK = [
    Twins(
        "those joined kick",
        leave(BOB, CAROL, joined=[ALICE, BOB, CAROL], levels=BOB_50),
        allows="5.4.4",
        but={"left": [BOB]},
        refuses="5.4.2",
    ),
    Twins(
        "unbanning needs the ban level as well as the kick level",
        leave(BOB, CAROL, banned=[CAROL], levels={"ban": 60, "kick": 50, "users": {BOB: 60}}),
        allows="5.4.4",
        but={"levels": {"ban": 61, "kick": 50, "users": {BOB: 60}}},
        refuses="5.4.3",
    ),
    Twins(
        "unbanning needs the kick level as well as the ban level",
        leave(BOB, CAROL, banned=[CAROL], levels={"ban": 50, "kick": 60, "users": {BOB: 60}}),
        allows="5.4.4",
        but={"levels": {"ban": 50, "kick": 61, "users": {BOB: 60}}},
        refuses="5.4.5",
    ),
    Twins(
        "unbanning needs more than the target has",
        leave(BOB, CAROL, banned=[CAROL], levels={"users": {BOB: 60, CAROL: 59}}),
        allows="5.4.4",
        but={"levels": {"users": {BOB: 60, CAROL: 60}}},
        refuses="5.4.5",
    ),
    Twins(
        "kicking does not need the ban level",
        leave(BOB, CAROL, joined=[ALICE, BOB, CAROL], levels={"ban": 100, "users": {BOB: 50}}),
        allows="5.4.4",
        but={"banned": [CAROL]},
        refuses="5.4.3",
    ),
    Twins(
        "kicking needs the kick level",
        leave(BOB, CAROL, joined=[ALICE, BOB, CAROL], levels={"kick": 30, "users": {BOB: 30}}),
        allows="5.4.4",
        but={"levels": {"kick": 31, "users": {BOB: 30}}},
        refuses="5.4.5",
    ),
    Twins(
        "equals do not kick each other",
        leave(BOB, CAROL, joined=[ALICE, BOB, CAROL], levels={"users": {BOB: 50, CAROL: 49}}),
        allows="5.4.4",
        but={"levels": {"users": {BOB: 50, CAROL: 50}}},
        refuses="5.4.5",
    ),
    Twins(
        "an invite is taken back by those who may kick",
        leave(ALICE, CAROL, invited=[CAROL]),
        allows="5.4.4",
        but={"sender": BOB},
        refuses="5.4.5",
    ),
]

BAN = [
    Twins("those joined ban", ban(BOB, CAROL, levels=BOB_50), allows="5.5.2", but={"left": [BOB]}, refuses="5.5.1"),
    Twins(
        "banning needs the ban level",
        ban(BOB, CAROL, levels={"ban": 30, "users": {BOB: 30}}),
        allows="5.5.2",
        but={"levels": {"ban": 31, "users": {BOB: 30}}},
        refuses="5.5.3",
    ),
    Twins(
        "equals do not ban each other",
        ban(BOB, CAROL, levels={"users": {BOB: 50, CAROL: 49}}),
        allows="5.5.2",
        but={"levels": {"users": {BOB: 50, CAROL: 50}}},
        refuses="5.5.3",
    ),
    Twins("nobody bans themselves", ban(ALICE, BOB), allows="5.5.2", but={"state_key": ALICE}, refuses="5.5.3"),
]

TWINS = [*INVITE, *KICK, *BAN]


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins.claim)
def test_rule_5_for_others(twins: Twins) -> None:
    twins.verify()


def test_the_power_level_of_the_kicked_may_come_from_the_default() -> None:
    levels = {"users": {BOB: 50}, "users_default": 50}
    assert_refused(leave(BOB, CAROL, joined=[BOB, CAROL], levels=levels), "5.4.5")


def test_a_refusal_for_lack_of_power_carries_the_numbers() -> None:
    refusal = assert_refused(ban(BOB, CAROL, levels={"ban": 50, "users": {BOB: 7}}), "5.5.3")
    assert "needs 50, has 7" in refusal.reason
    refusal = assert_refused(ban(BOB, CAROL, levels={"users": {BOB: 60, CAROL: 60}}), "5.5.3")
    assert "needs 61, has 60" in refusal.reason
