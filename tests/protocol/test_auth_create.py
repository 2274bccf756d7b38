"""Rule 3: the create event."""

from typing import Any

import pytest

from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from tests.support.situations import Situation, Twins, assert_refused
from tests.support.states import ALICE, BOB


def first_event(**about: Any) -> Situation:
    """Alice's create event, the first of its room."""
    create: dict[str, Any] = {
        "empty": True,
        "type": "m.room.create",
        "state_key": "",
        "sender": ALICE,
        "content": {"room_version": "I.1"},
        "prev_events": [],
    }
    return Situation(**{**create, **about})


TWINS = [
    Twins(
        "a create event has no predecessor",
        first_event(),
        allows="3.4",
        but={"prev_events": ["$previous"]},
        refuses="3.1",
    ),
    Twins(
        "a room is created once, whatever the second create event says of its predecessors",
        first_event(),
        allows="3.4",
        but={"empty": False},
        refuses="3.1",
    ),
    Twins("nobody creates rooms of another server", first_event(), allows="3.4", but={"sender": BOB}, refuses="3.2"),
    Twins(
        "the server of a room includes its port",
        first_event(room_id="!room:hub.example:8448", sender="@alice:hub.example:8448"),
        allows="3.4",
        but={"room_id": "!room:hub.example"},
        refuses="3.2",
    ),
    Twins(
        "the create event names the room version it is evaluated by",
        first_event(),
        allows="3.4",
        but={"room_version": UNSTABLE_PREFIX},
        refuses="3.3",
    ),
    Twins(
        "the unstable room version is its own",
        first_event(content={"room_version": UNSTABLE_PREFIX}, room_version=UNSTABLE_PREFIX),
        allows="3.4",
        but={"content": {"room_version": "I.1"}},
        refuses="3.3",
    ),
    Twins("a create event names its room version", first_event(), allows="3.4", but={"content": {}}, refuses="3.3"),
    Twins(
        "the state key of a create event is empty",
        first_event(),
        allows="3.4",
        but={"state_key": "x"},
        refuses="3.state_key",
    ),
    Twins(
        "a create event is a state event", first_event(), allows="3.4", but={"state_key": None}, refuses="3.state_key"
    ),
    Twins(
        "a create event has no auth events",
        first_event(),
        allows="3.4",
        but={"auth_events": ["$create"]},
        refuses="3.auth_events",
    ),
]


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins.claim)
def test_rule_3(twins: Twins) -> None:
    twins.verify()


@pytest.mark.parametrize("value", [None, 1, True, ["I.1"], {"I.1": 1}, "", "i.1", "1", "11"], ids=repr)
def test_any_other_room_version_is_refused(value: Any) -> None:
    assert_refused(first_event(content={"room_version": value}), "3.3")


def test_the_rules_go_in_the_drafts_order() -> None:
    """Events that break several rules are refused by the first."""
    assert_refused(first_event(prev_events=["$previous"], sender=BOB, content={}), "3.1")
    assert_refused(first_event(sender=BOB, content={}), "3.2")
