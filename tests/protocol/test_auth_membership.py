"""Rule 5 where users change their own membership: joining, leaving, knocking; and what no membership is."""

from typing import Any

import pytest

from linmatrix.protocol.state import JOIN_RULES, StateEvent, member
from tests.support.situations import Situation, Twins, assert_refused, ban, invite, join, knock, leave
from tests.support.states import ALICE, BOB, CAROL, DAVE, state_event

DISPATCH = [
    Twins("a membership event has a state key", leave(BOB), allows="5.4.1", but={"state_key": None}, refuses="5.1"),
    Twins(
        "the state key of a membership event is a user id",
        invite(BOB, CAROL),
        allows="5.3.3",
        but={"state_key": "@carol"},
        refuses="5.1",
    ),
    Twins(
        "a membership event has a membership",
        leave(BOB),
        allows="5.4.1",
        but={"content": {"reason": "bye"}},
        refuses="5.1",
    ),
    Twins(
        "an unknown membership is refused",
        leave(BOB),
        allows="5.4.1",
        but={"content": {"membership": "left"}},
        refuses="5.7",
    ),
]

JOIN = [
    Twins(
        "the creator joins right after creating",
        join(ALICE, joined=[], previous_is_create=True),
        allows="5.2.1",
        but={"previous_is_create": False},
        refuses="5.2.4",
    ),
    Twins(
        "only the creator joins right after creating",
        join(ALICE, joined=[], previous_is_create=True),
        allows="5.2.1",
        but={"creator": DAVE},
        refuses="5.2.4",
    ),
    Twins(
        "the creator's first join is the creator's own event",
        join(ALICE, joined=[], previous_is_create=True),
        allows="5.2.1",
        but={"sender": BOB},
        refuses="5.2.2",
    ),
    Twins(
        "the creator's first event joins no other user",
        join(ALICE, joined=[], previous_is_create=True),
        allows="5.2.1",
        but={"state_key": BOB},
        refuses="5.2.2",
    ),
    Twins(
        "users join for themselves",
        join(CAROL, join_rule="public"),
        allows="5.2.5",
        but={"sender": ALICE},
        refuses="5.2.2",
    ),
    Twins(
        "those banned cannot join",
        join(CAROL, join_rule="public"),
        allows="5.2.5",
        but={"banned": [CAROL]},
        refuses="5.2.3",
    ),
    Twins(
        "those invited join where the join rule is invite",
        join(CAROL, join_rule="invite", invited=[CAROL]),
        allows="5.2.4",
        but={"invited": []},
        refuses="5.2.4",
    ),
    Twins(
        "those joined may join again where the join rule is invite",
        join(CAROL, join_rule="invite", joined=[ALICE, CAROL]),
        allows="5.2.4",
        but={"left": [CAROL]},
        refuses="5.2.4",
    ),
    Twins(
        "those invited join where the join rule is knock",
        join(CAROL, join_rule="knock", invited=[CAROL]),
        allows="5.2.4",
        but={"knocking": [CAROL]},
        refuses="5.2.4",
    ),
    Twins(
        "without join rules a room is for those invited",
        join(CAROL, invited=[CAROL]),
        allows="5.2.4",
        but={"invited": []},
        refuses="5.2.4",
    ),
    Twins(
        "join rules without a join rule mean invite",
        join(CAROL, invited=[CAROL], more=[state_event(JOIN_RULES, ALICE, {})]),
        allows="5.2.4",
        but={"invited": []},
        refuses="5.2.4",
    ),
    Twins(
        "anyone joins where the join rule is public",
        join(CAROL, join_rule="public"),
        allows="5.2.5",
        but={"join_rule": "invite"},
        refuses="5.2.4",
    ),
    *(
        Twins(
            f"not even those invited join where the join rule is {rule!r}",
            join(CAROL, join_rule="invite", invited=[CAROL]),
            allows="5.2.4",
            but={"join_rule": rule},
            refuses="5.2.6",
        )
        for rule in ("private", "restricted", "knock_restricted", "Public", "")
    ),
]

LEAVE = [
    Twins(
        "those joined leave, those banned do not",
        leave(CAROL, joined=[CAROL]),
        allows="5.4.1",
        but={"banned": [CAROL]},
        refuses="5.4.1",
    ),
    Twins(
        "those invited leave, those banned do not",
        leave(CAROL, invited=[CAROL]),
        allows="5.4.1",
        but={"banned": [CAROL]},
        refuses="5.4.1",
    ),
    Twins(
        "those knocking leave, those banned do not",
        leave(CAROL, knocking=[CAROL]),
        allows="5.4.1",
        but={"banned": [CAROL]},
        refuses="5.4.1",
    ),
    Twins(
        "those who left do not leave again",
        leave(CAROL, joined=[ALICE, CAROL]),
        allows="5.4.1",
        but={"left": [CAROL]},
        refuses="5.4.1",
    ),
    Twins(
        "those who never were there do not leave",
        leave(CAROL, invited=[CAROL]),
        allows="5.4.1",
        but={"invited": []},
        refuses="5.4.1",
    ),
]

KNOCK = [
    *(
        Twins(
            f"nobody knocks where the join rule is {rule!r}",
            knock(CAROL, join_rule="knock"),
            allows="5.6.3",
            but={"join_rule": rule},
            refuses="5.6.1",
        )
        for rule in (None, "public", "invite", "restricted", "knock_restricted")
    ),
    Twins(
        "users knock for themselves",
        knock(CAROL, join_rule="knock"),
        allows="5.6.3",
        but={"sender": DAVE},
        refuses="5.6.2",
    ),
    Twins(
        "those who left knock, those banned do not",
        knock(CAROL, join_rule="knock", left=[CAROL]),
        allows="5.6.3",
        but={"banned": [CAROL]},
        refuses="5.6.4",
    ),
    Twins(
        "those knocking knock again, those joined do not",
        knock(CAROL, join_rule="knock", knocking=[CAROL]),
        allows="5.6.3",
        but={"more": [state_event(member(CAROL), CAROL, {"membership": "join"})]},
        refuses="5.6.4",
    ),
    Twins(
        "those invited may knock",
        knock(CAROL, join_rule="knock", invited=[CAROL]),
        allows="5.6.3",
        but={"banned": [CAROL]},
        refuses="5.6.4",
    ),
]

TWINS = [*DISPATCH, *JOIN, *LEAVE, *KNOCK]


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins.claim)
def test_rule_5_for_oneself(twins: Twins) -> None:
    twins.verify()


@pytest.mark.parametrize("membership", [None, True, 1, 1.5, ["join"], {"join": True}, "", "Join", "join "], ids=repr)
def test_a_membership_that_is_none_of_the_five_is_unknown(membership: Any) -> None:
    situation = Situation(type="m.room.member", state_key=BOB, content={"membership": membership}, join_rule="public")
    assert_refused(situation, "5.7")


@pytest.mark.parametrize("state_key", ["", "carol", "@", "@:x", "@Carol:third.example", "@carol:127.0.0.1", "@c:x y"])
def test_a_state_key_that_is_no_user_id_is_refused(state_key: str) -> None:
    assert_refused(ban(ALICE, state_key), "5.1")


@pytest.mark.parametrize("value", [None, True, 1, ["public"], {"public": 1}], ids=repr)
def test_a_join_rule_that_is_not_a_string_lets_nobody_join_or_knock(value: Any) -> None:
    more: list[StateEvent] = [state_event(JOIN_RULES, ALICE, {"join_rule": value})]
    assert_refused(join(CAROL, invited=[CAROL], more=more), "5.2.6")
    assert_refused(knock(CAROL, more=more), "5.6.1")


@pytest.mark.parametrize("value", [None, True, 1, ["join"], {"join": 1}], ids=repr)
def test_a_stored_membership_that_is_not_a_string_counts_as_left(value: Any) -> None:
    more = [state_event(member(BOB), BOB, {"membership": value})]
    assert_refused(invite(BOB, CAROL, more=more), "5.3.1")
    assert_refused(leave(BOB, more=more), "5.4.1")


def test_a_refusal_does_not_echo_a_long_membership() -> None:
    refusal = assert_refused(Situation(type="m.room.member", state_key=BOB, content={"membership": "x" * 60000}), "5.7")
    assert len(refusal.reason) < 100
