"""Reading power levels, from well-formed, absent and malformed events."""

from typing import Any

import pytest

from linmatrix.protocol.power_levels import Action, action_level, event_level, is_level, user_level
from tests.support.states import ALICE, BOB, CAROL, room

NOT_LEVELS = ["50", 50.0, 50.5, True, False, None, [], {}, 2**53, -(2**53)]

ACTIONS: list[tuple[Action, int]] = [("ban", 50), ("kick", 50), ("redact", 50), ("invite", 0)]


@pytest.mark.parametrize("value", [0, -1, 50, 2**53 - 1, -(2**53) + 1])
def test_an_integer_is_a_level(value: object) -> None:
    assert is_level(value)


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
def test_row99_anything_else_is_not_a_level(value: object) -> None:
    assert not is_level(value)


def test_without_power_levels_the_creator_has_100_and_others_0() -> None:
    state = room(creator=ALICE, joined=[ALICE, BOB])
    assert user_level(state, ALICE) == 100
    assert user_level(state, BOB) == 0


def test_without_a_create_event_nobody_is_its_creator() -> None:
    assert user_level({}, ALICE) == 0


def test_with_power_levels_the_creator_is_one_user_among_others() -> None:
    assert user_level(room(creator=ALICE, levels={}), ALICE) == 0


def test_a_users_own_entry_goes_before_the_default() -> None:
    state = room(levels={"users": {ALICE: 100, BOB: 0}, "users_default": 25})
    assert [user_level(state, user) for user in (ALICE, BOB, CAROL)] == [100, 0, 25]


def test_levels_may_be_negative() -> None:
    assert user_level(room(levels={"users": {BOB: -1}}), BOB) == -1


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
def test_a_malformed_entry_falls_to_the_default(value: object) -> None:
    assert user_level(room(levels={"users": {BOB: value}, "users_default": 7}), BOB) == 7


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
def test_a_malformed_default_falls_to_the_drafts(value: object) -> None:
    state = room(levels={"users_default": value, "events_default": value, "state_default": value})
    assert user_level(state, BOB) == 0
    assert event_level(state, "m.room.message", is_state=False) == 0
    assert event_level(state, "m.room.name", is_state=True) == 50


@pytest.mark.parametrize("value", ["x", 1, True, None, [BOB], [["@bob:second.example", 50]]], ids=repr)
def test_users_and_events_that_are_not_objects_are_absent(value: object) -> None:
    state = room(levels={"users": value, "events": value, "users_default": 3, "events_default": 4})
    assert user_level(state, BOB) == 3
    assert event_level(state, "m.room.message", is_state=False) == 4


@pytest.mark.parametrize(("action", "default"), ACTIONS)
def test_an_action_has_its_default_with_and_without_power_levels(action: Action, default: int) -> None:
    assert action_level(room(), action) == default
    assert action_level(room(levels={}), action) == default


@pytest.mark.parametrize(("action", "default"), ACTIONS)
def test_an_action_needs_what_the_power_levels_say(action: Action, default: int) -> None:
    assert action_level(room(levels={action: default + 1}), action) == default + 1


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
@pytest.mark.parametrize(("action", "default"), ACTIONS)
def test_a_malformed_action_level_falls_to_its_default(action: Action, default: int, value: object) -> None:
    assert action_level(room(levels={action: value}), action) == default


@pytest.mark.parametrize("levels", [None, {}, {"events": {}}])
def test_row71_events_need_0_and_state_50_by_default(levels: dict[str, Any] | None) -> None:
    state = room(levels=levels)
    assert event_level(state, "m.room.message", is_state=False) == 0
    assert event_level(state, "m.room.name", is_state=True) == 50


def test_the_defaults_for_events_and_state_are_distinct_fields() -> None:
    state = room(levels={"events_default": 1, "state_default": 2})
    assert event_level(state, "m.room.name", is_state=False) == 1
    assert event_level(state, "m.room.name", is_state=True) == 2


def test_a_type_of_its_own_goes_before_both_defaults() -> None:
    state = room(levels={"events": {"m.room.name": 0}, "events_default": 1, "state_default": 2})
    assert event_level(state, "m.room.name", is_state=False) == 0
    assert event_level(state, "m.room.name", is_state=True) == 0


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
def test_a_malformed_type_level_falls_to_the_default(value: object) -> None:
    state = room(levels={"events": {"m.room.name": value}, "state_default": 60})
    assert event_level(state, "m.room.name", is_state=True) == 60
