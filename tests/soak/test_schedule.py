"""A soak's plan comes from its seed alone, and holds all that a soak is meant to try."""

import itertools

import pytest

from soak.schedule import BREAKAGES, CREATOR, JOIN_RULES, LANES, USERS, plan_actions, plan_faults, plan_rooms

SEED = 4711
SERVERS = 3
SECONDS = 600.0


def plan(*, seed=SEED, seconds=SECONDS):
    """All of a plan."""
    of = {"servers": SERVERS, "seconds": seconds}
    return plan_rooms(seed, servers=SERVERS), plan_actions(seed, **of), plan_faults(seed, **of)


def test_the_same_seed_gives_the_same_plan():
    assert plan() == plan()


def test_another_seed_gives_another_plan():
    """The twin of the test above."""
    for one, other in zip(plan(), plan(seed=SEED + 1), strict=True):
        assert one != other


def test_a_longer_soak_begins_as_a_shorter_one():
    _, actions, faults = plan()
    _, first_actions, first_faults = plan(seconds=SECONDS / 4)
    assert actions[: len(first_actions)] == first_actions
    assert faults[: len(first_faults)] == first_faults
    assert len(actions) > 2 * len(first_actions)


@pytest.mark.parametrize("seed", range(5))
def test_ten_minutes_try_every_kind_of_action_and_of_fault(seed):
    rooms, actions, faults = plan(seed=seed)
    assert {room.join_rule for room in rooms} == set(JOIN_RULES)
    assert {room.hub for room in rooms} == set(range(SERVERS))
    verbs = {"message", "state", "join", "leave", "invite", "kick", "ban", "unban", "knock", "redact"}
    assert {action.verb for action in actions} == verbs
    assert {action.waits for action in actions} == {True, False}
    tried = {(fault.kind, fault.part) for fault in faults}
    assert len({(item.kind, item.part) for item in BREAKAGES} - tried) <= 2, "a rare kind may stay out by chance"


def test_actions_are_due_in_order_and_of_users_that_exist():
    _, actions, _ = plan()
    assert [action.number for action in actions] == list(range(len(actions)))
    assert [action.at for action in actions] == sorted(action.at for action in actions)
    assert {action.actor for action in actions} == {
        (server, user) for server in range(SERVERS) for user in range(USERS)
    }
    assert {action.lane for action in actions} == {(server, lane) for server in range(SERVERS) for lane in range(LANES)}


def test_a_redaction_is_of_an_earlier_message_of_its_room():
    _, actions, _ = plan()
    for action in actions:
        assert (action.of is not None) == (action.verb == "redact")
        if action.of is not None:
            message = actions[action.of]
            assert (message.verb, message.room, message.number < action.number) == ("message", action.room, True)


def test_creators_stay_in_their_rooms_but_for_what_is_tried_at_random():
    rooms, actions, _ = plan()
    leaves = [one for one in actions if one.verb == "leave" and one.actor == (rooms[one.room].hub, CREATOR)]
    assert len(leaves) < len(actions) / 200


def test_one_fault_after_the_other_on_a_server_and_several_servers_at_a_time():
    _, _, faults = plan()
    for server in range(SERVERS):
        mine = [fault for fault in faults if fault.server == server]
        assert all(one.at + one.seconds <= other.at for one, other in itertools.pairwise(mine))
    overlapping = [(one, two) for one, two in itertools.pairwise(faults) if two.at < one.at + one.seconds]
    assert overlapping
