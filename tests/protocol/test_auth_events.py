"""The selection of auth events: which, in which order, and only those present."""

from typing import Any

import pytest

from linmatrix.protocol.auth_events import AuthorizedEvent, needed_state, select_auth_events
from linmatrix.protocol.state import CREATE, JOIN_RULES, POWER_LEVELS, StateKey, member
from tests.support.states import ALICE, BOB, CAROL, ROOM_ID, room

BASE = [CREATE, POWER_LEVELS, member(BOB)]


def needed(type: str, state_key: str | None = None, content: dict[str, Any] | None = None) -> list[StateKey]:
    """What an event of Bob's needs."""
    return needed_state(type=type, state_key=state_key, sender=BOB, content=content or {})


def test_a_create_event_needs_nothing() -> None:
    assert needed("m.room.create", "") == []


@pytest.mark.parametrize("state_key", [None, "", CAROL])
def test_most_events_need_create_power_levels_and_the_senders_membership(state_key: str | None) -> None:
    assert needed("m.room.message", state_key, {"membership": "join"}) == BASE


@pytest.mark.parametrize("membership", ["leave", "ban", "knock", "unknown", None, 1, ["join"], {"join": 1}], ids=repr)
def test_a_membership_event_also_needs_the_targets_membership(membership: object) -> None:
    assert needed("m.room.member", CAROL, {"membership": membership}) == [*BASE, member(CAROL)]


@pytest.mark.parametrize("membership", ["leave", "ban", "knock"])
def test_a_target_who_is_the_sender_is_named_once(membership: str) -> None:
    assert needed("m.room.member", BOB, {"membership": membership}) == BASE


@pytest.mark.parametrize("membership", ["join", "invite"])
def test_joins_and_invites_need_the_join_rules_last(membership: str) -> None:
    content = {"membership": membership}
    assert needed("m.room.member", BOB, content) == [*BASE, JOIN_RULES]
    assert needed("m.room.member", CAROL, content) == [*BASE, member(CAROL), JOIN_RULES]


def test_a_membership_event_without_state_key_or_membership_still_has_a_selection() -> None:
    assert needed("m.room.member", None, {"membership": "join"}) == BASE
    assert needed("m.room.member", CAROL) == [*BASE, member(CAROL)]


def test_the_ids_come_in_the_order_of_the_selection() -> None:
    state = room(joined=[ALICE, BOB, CAROL], levels={}, join_rule="public")
    keys = [CREATE, POWER_LEVELS, member(BOB), member(CAROL), JOIN_RULES]
    content = {"membership": "invite"}
    assert select_auth_events(type="m.room.member", state_key=CAROL, sender=BOB, content=content, state=state) == [
        state[key].event_id for key in keys
    ]


def test_what_the_room_does_not_have_is_left_out() -> None:
    state = room(joined=[ALICE])
    content = {"membership": "invite"}
    assert select_auth_events(type="m.room.member", state_key=CAROL, sender=ALICE, content=content, state=state) == [
        state[CREATE].event_id,
        state[member(ALICE)].event_id,
    ]


def test_the_rules_view_of_an_lpdu_has_no_references() -> None:
    lpdu = {"room_id": ROOM_ID, "type": "m.room.message", "sender": BOB, "content": {"body": "hi"}}
    assert AuthorizedEvent.of(lpdu) == AuthorizedEvent(ROOM_ID, "m.room.message", None, BOB, {"body": "hi"}, (), ())


def test_the_rules_view_of_a_pdu_keeps_its_references() -> None:
    pdu = {
        "room_id": ROOM_ID,
        "type": "m.room.name",
        "state_key": "",
        "sender": BOB,
        "content": {"name": "x"},
        "prev_events": ["$previous"],
        "auth_events": ["$create"],
    }
    assert AuthorizedEvent.of(pdu) == AuthorizedEvent(
        room_id=ROOM_ID,
        type="m.room.name",
        state_key="",
        sender=BOB,
        content={"name": "x"},
        prev_events=["$previous"],
        auth_events=["$create"],
    )
