"""Who may be brought into a room's MLS group and taken out of it (draft section "Updating Group State")."""

import pytest

from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.mls import Change, first_group, read_commit, read_group_info
from linmatrix.protocol.mls_membership import (
    ENOUGH_REMOVED,
    MAX_NAMED,
    check_beginning,
    check_change,
    check_nobody_left,
)
from linmatrix.protocol.state import HISTORY_VISIBILITY
from tests.support import states
from tests.support.mls_writer import MlsDevice, WrittenGroup
from tests.support.states import ALICE, BOB, CAROL

GROUP_ID = b"!room:hub.example"
LAPTOP, TABLET = MlsDevice(ALICE, "LAPTOP"), MlsDevice(ALICE, "TABLET")
BOBS, PHONE = MlsDevice(BOB, "BOB"), MlsDevice(BOB, "PHONE")
CAROLS = MlsDevice(CAROL, "CAROL")


def group_of(*devices):
    written = WrittenGroup.of(GROUP_ID, *devices)
    return written, first_group(read_group_info(written.group_info(devices[0])), group_id=GROUP_ID)


def committed(*devices, by=LAPTOP, **changes) -> Change:
    """What a commit does to a group of these devices."""
    written, group = group_of(*devices)
    message, info = written.commit(by, **changes)
    return group.apply(read_commit(message), read_group_info(info))


def joining(*devices, joiner, **changes) -> Change:
    """What an external commit does."""
    written, group = group_of(*devices)
    message, info = written.external(joiner, **changes)
    return group.apply(read_commit(message), read_group_info(info))


def room(visibility=None, **fields):
    more = [states.state_event(HISTORY_VISIBILITY, ALICE, {"history_visibility": visibility})] if visibility else []
    return states.room(more=more, **fields)


def rule_of(change, *, sender=ALICE, **fields):
    """The rule that refuses a change in a room like this; None when all allow it."""
    state = room(**fields)
    try:
        check_change(change, sender=sender, state=state)
        check_nobody_left(change, state=state)
    except Rejected as refusal:
        return refusal.rule
    return None


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"joined": (ALICE, BOB)}, None),
        ({"joined": (ALICE,), "invited": (BOB,)}, "mls.add"),
        ({"joined": (ALICE,), "knocking": (BOB,)}, "mls.add"),
        ({"joined": (ALICE,), "left": (BOB,)}, "mls.add"),
        ({"joined": (ALICE,), "banned": (BOB,)}, "mls.add"),
        ({"joined": (ALICE,)}, "mls.add"),
        ({"joined": (ALICE,), "visibility": "world_readable"}, None),
        ({"joined": (ALICE,), "visibility": "shared"}, "mls.add"),
        ({"joined": (ALICE,), "visibility": ["world_readable"]}, "mls.add"),
    ],
)
def test_a_device_is_added_when_its_user_is_joined_or_anybody_may_read(fields, rule):
    assert rule_of(committed(LAPTOP, adds=[BOBS]), **fields) == rule
    assert rule_of(joining(LAPTOP, joiner=BOBS), sender=BOB, **fields) == rule


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"joined": (ALICE, BOB)}, "mls.remove"),
        ({"joined": (ALICE,), "left": (BOB,)}, None),
        ({"joined": (ALICE,), "banned": (BOB,)}, None),
        ({"joined": (ALICE,), "invited": (BOB,)}, None),
        ({"joined": (ALICE, BOB), "visibility": "world_readable"}, "mls.remove"),
        ({"joined": (ALICE,), "visibility": "world_readable"}, None),
    ],
)
def test_a_device_of_another_user_is_removed_when_that_user_is_not_joined(fields, rule):
    assert rule_of(committed(LAPTOP, BOBS, removes=[BOBS]), **fields) == rule


def test_users_remove_their_own_devices():
    assert rule_of(committed(LAPTOP, TABLET, removes=[TABLET])) is None
    assert rule_of(committed(LAPTOP, BOBS, PHONE, by=BOBS, removes=[PHONE]), sender=BOB) is None


def test_a_commit_is_sent_by_the_committers_user():
    change = committed(LAPTOP, BOBS)
    assert rule_of(change, sender=ALICE) is None
    assert rule_of(change, sender=BOB) == "mls.event_sender"


@pytest.mark.parametrize("changes", [{}, {"adds": [PHONE]}])
def test_a_members_commit_leaves_nobody_in_the_group_who_has_left_the_room(changes):
    change = committed(LAPTOP, BOBS, CAROLS, **changes)
    assert rule_of(change, joined=(ALICE, BOB, CAROL)) is None
    assert rule_of(change, joined=(ALICE, BOB), left=(CAROL,)) == "mls.left"
    assert rule_of(change, joined=(ALICE, BOB), left=(CAROL,), visibility="world_readable") is None


def test_who_removes_one_who_left_must_remove_all():
    fields = {"joined": (ALICE,), "left": (BOB, CAROL)}
    assert rule_of(committed(LAPTOP, BOBS, CAROLS, removes=[BOBS, CAROLS]), **fields) is None
    assert rule_of(committed(LAPTOP, BOBS, CAROLS, removes=[BOBS]), **fields) == "mls.left"


def test_of_a_crowd_that_left_one_commit_need_not_remove_all():
    phones = [MlsDevice(BOB, f"PHONE{number}") for number in range(ENOUGH_REMOVED + 2)]
    fields = {"joined": (ALICE,), "left": (BOB,)}
    assert rule_of(committed(LAPTOP, *phones, removes=phones[:ENOUGH_REMOVED]), **fields) is None
    assert rule_of(committed(LAPTOP, *phones, removes=phones[1:ENOUGH_REMOVED]), **fields) == "mls.left"


def test_devices_of_users_who_are_joined_do_not_make_up_for_those_who_left():
    own = [MlsDevice(ALICE, f"OWN{number}") for number in range(ENOUGH_REMOVED)]
    change = committed(LAPTOP, BOBS, *own, removes=own)
    assert rule_of(change, joined=(ALICE, BOB)) is None
    assert rule_of(change, joined=(ALICE,), left=(BOB,)) == "mls.left"


def test_a_joiner_cannot_remove_others_and_need_not():
    fields = {"joined": (ALICE, BOB), "left": (CAROL,)}
    assert rule_of(joining(LAPTOP, CAROLS, joiner=BOBS), sender=BOB, **fields) is None
    assert rule_of(committed(LAPTOP, CAROLS, adds=[BOBS]), **fields) == "mls.left"


def test_a_refusal_names_the_first_devices_that_must_go():
    phones = [MlsDevice(BOB, f"PHONE{number}") for number in range(MAX_NAMED + 2)]
    with pytest.raises(Rejected) as refusal:
        check_nobody_left(committed(LAPTOP, *phones), state=room(joined=(ALICE,), left=(BOB,)))
    assert f"{BOB} PHONE0, {BOB} PHONE1" in refusal.value.reason
    assert refusal.value.reason.endswith(f"{BOB} PHONE{MAX_NAMED - 1} and 2 more")


def beginning_rule(*devices, sender=ALICE, **fields):
    _, group = group_of(*devices)
    try:
        check_beginning(group, group.members[0], sender=sender, state=room(**fields))
    except Rejected as refusal:
        return refusal.rule
    return None


def test_a_group_begins_with_members_only_and_by_its_committer():
    assert beginning_rule(LAPTOP, BOBS) is None
    assert beginning_rule(LAPTOP, BOBS, joined=(ALICE,), invited=(BOB,)) == "mls.add"
    assert beginning_rule(LAPTOP, BOBS, joined=(ALICE,), visibility="world_readable") is None
    assert beginning_rule(LAPTOP, BOBS, sender=BOB) == "mls.event_sender"
