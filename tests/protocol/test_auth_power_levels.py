"""Rule 9: changes of power levels, each allowed one beside its refused twin."""

from typing import Any

import pytest

from linmatrix.protocol.room_versions import ROOM_VERSIONS, UNSTABLE_PREFIX
from linmatrix.protocol.state import POWER_LEVELS
from tests.support.situations import Situation, Twins, assert_refused, set_levels
from tests.support.states import ALICE, BOB, CAROL, state_event

FIELDS = ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"]
"""The fields that rules 9.1 and 9.5 name."""

NOT_LEVELS = ["50", "", 50.0, 50.5, True, False, None, [], {}, 2**53, -(2**53)]

OWN = {"events": {"m.room.power_levels": 0}}
"""Lets everybody send power levels, so that rule 7 leaves the decision to rule 9."""


def change(current: dict[str, Any], new: dict[str, Any], **about: Any) -> Situation:
    """Bob, who has 50, replaces the power levels `current` by `new`; both also say what Bob has and needs."""

    def complete(levels: dict[str, Any]) -> dict[str, Any]:
        return {
            **levels,
            "users": {BOB: 50, **levels.get("users", {})},
            "events": {**OWN["events"], **levels.get("events", {})},
        }

    return set_levels(BOB, complete(new), levels=complete(current), **about)


def twins(
    claim: str,
    refuses: str,
    current: dict[str, Any],
    new: dict[str, Any],
    *,
    but_current: dict[str, Any] | None = None,
    but_new: dict[str, Any] | None = None,
    room_version: str = "I.1",
) -> Twins:
    """Twins that differ in the current levels or in the new."""
    allowed = change(current, new, room_version=room_version)
    if but_new is not None:
        but = {"content": change(current, but_new).content}
    else:
        but = {"levels": change(but_current or {}, new).levels}
    return Twins(claim, allowed, allows="9.10", but=but, refuses=refuses)


def name_event(level: object) -> dict[str, Any]:
    """Power levels that say what naming the room needs."""
    return {"events": {"m.room.name": level}}


def carol(level: object) -> dict[str, Any]:
    """Power levels that say what Carol has."""
    return {"users": {CAROL: level}}


TYPES = [
    twins("a field that is present is an integer", "9.1", {}, {"invite": 0}, but_new={"invite": None}),
    twins("the level of an event type is an integer", "9.2", {}, name_event(50), but_new=name_event("50")),
    twins("the level of a user is an integer", "9.3", {}, carol(1), but_new=carol(True)),
    twins("the keys of users are user ids", "9.3", {}, carol(1), but_new={"users": {"carol": 1}}),
]

FIRST = [
    Twins(
        "the creator sends any first power levels, which later ones could not become",
        set_levels(ALICE, {"users_default": 101}),
        allows="9.4",
        but={"levels": {"users": {ALICE: 100}}},
        refuses="9.5.2",
    ),
]


def of_field(field: str) -> list[Twins]:
    """Rule 9.5 for one field."""
    return [
        twins(f"{field} may be changed from 50", "9.5.1", {field: 50}, {field: 49}, but_current={field: 51}),
        twins(f"{field} may be removed at 50", "9.5.1", {field: 50}, {}, but_current={field: 51}),
        twins(f"{field} may be changed to 50", "9.5.2", {field: 49}, {field: 50}, but_new={field: 51}),
        twins(f"{field} may be added at 50", "9.5.2", {}, {field: 50}, but_new={field: 51}),
        twins(f"{field} may stay at 60", "9.5.1", {field: 60}, {field: 60}, but_new={field: 61}),
    ]


FIELD = [pair for field in FIELDS for pair in of_field(field)]

EVENTS = [
    twins("a type may be changed from 50", "9.6.1", name_event(50), name_event(0), but_current=name_event(51)),
    twins("a type may be removed at 50", "9.6.1", name_event(50), {}, but_current=name_event(51)),
    twins("a type may stay at 60", "9.6.1", name_event(60), name_event(60), but_new=name_event(61)),
    twins("a type may be added at 50", "9.7.1", {}, name_event(50), but_new=name_event(51)),
    twins("a type may be changed to 50", "9.7.1", name_event(1), name_event(50), but_new=name_event(51)),
]

USERS = [
    twins("another with 50 may be changed in I.1", "9.8.1", carol(50), carol(0), but_current=carol(51)),
    twins("another with 50 may be removed in I.1", "9.8.1", carol(50), {}, but_current=carol(51)),
    twins(
        "another with 49 may be changed in the unstable version",
        "9.8.1",
        carol(49),
        carol(0),
        but_current=carol(50),
        room_version=UNSTABLE_PREFIX,
    ),
    twins(
        "another with 49 may be removed in the unstable version",
        "9.8.1",
        carol(49),
        {},
        but_current=carol(50),
        room_version=UNSTABLE_PREFIX,
    ),
    Twins(
        "whether equals are protected is the room version's",
        change(carol(50), {}),
        allows="9.10",
        but={"room_version": UNSTABLE_PREFIX},
        refuses="9.8.1",
    ),
    twins("another may stay at 60", "9.8.1", carol(60), carol(60), but_new=carol(61)),
    twins("another may be added at 50", "9.9.1", {}, carol(50), but_new=carol(51)),
    twins("another may be changed to 50", "9.9.1", carol(1), carol(50), but_new=carol(51)),
    *(
        twins(
            f"users may lower but not raise themselves in {version}",
            "9.9.1",
            {},
            {"users": {BOB: 0}},
            but_new={"users": {BOB: 51}},
            room_version=version,
        )
        for version in ROOM_VERSIONS
    ),
]

TWINS = [*TYPES, *FIRST, *FIELD, *EVENTS, *USERS]


@pytest.mark.parametrize("pair", TWINS, ids=lambda pair: pair.claim)
def test_rule_9(pair: Twins) -> None:
    pair.verify()


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_any_other_type_is_refused(field: str, value: Any) -> None:
    assert_refused(set_levels(ALICE, {field: value}), "9.1")


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
def test_an_entry_of_any_other_type_is_refused(value: Any) -> None:
    assert_refused(set_levels(ALICE, {"events": {"m.room.name": value}}), "9.2")
    assert_refused(set_levels(ALICE, {"users": {BOB: value}}), "9.3")


@pytest.mark.parametrize("value", [None, [], "", 0, True, [[BOB, 50]]], ids=repr)
def test_events_and_users_are_objects(value: Any) -> None:
    assert_refused(set_levels(ALICE, {"events": value}), "9.2")
    assert_refused(set_levels(ALICE, {"users": value}), "9.3")


@pytest.mark.parametrize("key", ["", "@", "bob:second.example", "@Bob:second.example", "@bob", "@bob:[::1]", "$x:y"])
def test_a_key_of_users_that_is_no_user_id_is_refused(key: str) -> None:
    assert_refused(set_levels(ALICE, {"users": {key: 0}}), "9.3")


@pytest.mark.parametrize("levels", [2**53 - 1, -(2**53) + 1, 0, -1])
def test_every_safe_integer_is_a_level(levels: int) -> None:
    set_levels(ALICE, {"users": {ALICE: levels}, "events": {"x": levels}, "ban": levels}).check()


def test_types_are_checked_before_the_first_power_levels_are_allowed() -> None:
    assert_refused(set_levels(ALICE, {"ban": "50"}), "9.1")


def test_users_may_remove_their_own_entry_and_equals_keep_theirs() -> None:
    levels = {"users": {BOB: 50, CAROL: 50}, **OWN}
    for version in ROOM_VERSIONS:
        set_levels(BOB, {"users": {CAROL: 50}, **OWN}, levels=levels, room_version=version).check()


def test_a_sender_without_an_entry_is_judged_by_the_default() -> None:
    levels = {"users_default": 50, **OWN}
    set_levels(BOB, {**levels, "ban": 50}, levels=levels).check()
    assert_refused(set_levels(BOB, {**levels, "ban": 51}, levels=levels), "9.5.2")


def test_without_users_default_a_sender_without_an_entry_has_0() -> None:
    assert_refused(set_levels(BOB, {**OWN, "invite": 1}, levels=OWN), "9.5.2")


def test_an_absent_field_has_no_current_value_even_where_its_default_is_high() -> None:
    change({}, {"kick": 0, "ban": 0, "state_default": 0}).check()


def test_notifications_and_unknown_fields_are_neither_checked_nor_protected() -> None:
    change({"notifications": {"room": 100}, "custom": 100}, {"notifications": {"room": "0"}, "custom": None}).check()


def test_power_levels_under_another_state_key_are_judged_against_the_rooms() -> None:
    levels = {"users": {BOB: 50}, **OWN}
    situation = Situation(
        type="m.room.power_levels", state_key="other", sender=BOB, content={**levels, "ban": 51}, levels=levels
    )
    assert_refused(situation, "9.5.2")


@pytest.mark.parametrize("value", NOT_LEVELS, ids=repr)
def test_malformed_current_levels_count_as_absent(value: Any) -> None:
    current = {"ban": value, "users": {BOB: 50, CAROL: value}, "events": {"m.room.name": value, **OWN["events"]}}
    change_to = {"ban": 0, "users": {BOB: 50}, **OWN}
    more = [state_event(POWER_LEVELS, ALICE, current)]
    set_levels(BOB, change_to, more=more).check()


def test_refusals_carry_the_numbers() -> None:
    assert "needs 51, has 50" in assert_refused(change({"ban": 51}, {}), "9.5.1").reason
    equal = change({"users": {CAROL: 50}}, {}, room_version=UNSTABLE_PREFIX)
    assert "needs 51, has 50" in assert_refused(equal, "9.8.1").reason
