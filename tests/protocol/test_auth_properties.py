"""The authorization rules on generated input: they never fail but by refusing, and hold to their consequences."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from linmatrix.protocol.auth_events import AuthorizedEvent, CitedEvent
from linmatrix.protocol.auth_power_levels import check_power_levels
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from linmatrix.protocol.state import CREATE, JOIN_RULES, POWER_LEVELS, StateEvent, StateKey, member
from tests.protocol.test_auth_power_levels import FIELDS
from tests.support.situations import Situation
from tests.support.states import ALICE, BOB, CAROL, ROOM_ID, room, state_event

# Whatever a room holds and whatever comes to it, the rules answer or refuse.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
USERS = st.sampled_from([ALICE, BOB, CAROL])
LEVEL = st.integers(-1, 101) | JSON
MEMBERSHIP = st.sampled_from(["join", "invite", "leave", "ban", "knock"]) | JSON
CONTENT = st.fixed_dictionaries(
    {},
    optional={
        "room_version": st.just("I.1") | JSON,
        "m.federate": JSON,
        "membership": MEMBERSHIP,
        "join_rule": st.sampled_from(["public", "invite", "knock"]) | JSON,
        "users": st.dictionaries(USERS, LEVEL) | JSON,
        "events": st.dictionaries(st.just("m.room.power_levels"), LEVEL) | JSON,
        **dict.fromkeys(FIELDS, LEVEL),
    },
)
KEYS = st.sampled_from([CREATE, POWER_LEVELS, JOIN_RULES, member(ALICE), member(BOB), member(CAROL)])
STATE_EVENTS = st.lists(st.builds(state_event, KEYS, USERS, CONTENT), max_size=6)
TYPES = KEYS.map(lambda key: key[0]) | st.text(max_size=4)
STATE_KEYS = st.none() | st.just("") | USERS | st.text(max_size=4)
CITATIONS = st.none() | st.dictionaries(
    st.sampled_from(["$1", "$2", "$3"]),
    st.builds(CitedEvent, st.just(ROOM_ID) | st.text(max_size=2), TYPES, STATE_KEYS),
)
SITUATIONS = st.builds(
    Situation,
    more=STATE_EVENTS,
    empty=st.booleans(),
    joined=st.lists(USERS),
    type=TYPES,
    state_key=STATE_KEYS,
    sender=USERS,
    content=CONTENT,
    prev_events=st.lists(st.just("$previous"), max_size=1),
    auth_events=st.lists(st.sampled_from(["$1", "$2", "$3", "$4"]), max_size=4),
    cited=CITATIONS,
    previous_is_create=st.booleans(),
    room_version=st.sampled_from(sorted(ROOM_VERSIONS)),
)


@settings(deadline=None)  # a busy machine is no finding
@given(SITUATIONS)
def test_the_rules_never_fail_but_by_refusing(situation: Situation) -> None:
    with suppress(Rejected):
        situation.check()


@settings(deadline=None)  # a busy machine is no finding
@given(SITUATIONS)
def test_only_members_and_newcomers_get_anything_in(situation: Situation) -> None:
    """The first of the draft's consequences: others may create, join, knock or leave, and no more."""
    try:
        situation.check()
    except Rejected:
        return
    state: Mapping[StateKey, StateEvent] = situation.state
    own = state.get(member(situation.sender))
    joined = own is not None and own.content.get("membership") == "join"
    for_oneself = situation.type == "m.room.member" and situation.state_key == situation.sender
    assert joined or for_oneself or situation.type == "m.room.create"


# The same rule said another way round: alteration by alteration instead of rule by rule.

LEVELS = st.integers(min_value=-1, max_value=3)
POWER_LEVELS_CONTENT = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, LEVELS),
        "users": st.dictionaries(st.sampled_from([ALICE, BOB, CAROL]), LEVELS),
        "events": st.dictionaries(st.sampled_from(["m.room.power_levels", "m.room.name"]), LEVELS),
    },
)


def flat(content: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Power levels as one map, keyed by where they stand."""
    entries: dict[tuple[str, str], int] = {("field", field): content[field] for field in FIELDS if field in content}
    for part in ("users", "events"):
        entries |= {(part, name): level for name, level in content.get(part, {}).items()}
    return entries


def allowed_by_alterations(current: dict[str, Any], new: dict[str, Any], *, equals_protected: bool) -> bool:
    """Whether Bob may replace `current` by `new`."""
    before, after = flat(current), flat(new)
    own = before.get(("users", BOB), before.get(("field", "users_default"), 0))
    for key in before.keys() | after.keys():
        old_level, new_level = before.get(key), after.get(key)
        if old_level == new_level:
            continue
        if new_level is not None and new_level > own:
            return False
        if old_level is None or key == ("users", BOB):
            continue
        if old_level > own or (equals_protected and key[0] == "users" and old_level == own):
            return False
    return True


@settings(deadline=None)  # a busy machine is no finding
@given(POWER_LEVELS_CONTENT, POWER_LEVELS_CONTENT, st.sampled_from(list(ROOM_VERSIONS.values())))
def test_rule_9_agrees_with_its_restatement(current: dict[str, Any], new: dict[str, Any], version: RoomVersion) -> None:
    event = AuthorizedEvent(ROOM_ID, "m.room.power_levels", "", BOB, new)
    try:
        check_power_levels(event, state=room(levels=current), room_version=version)
        allowed = True
    except Rejected:
        allowed = False
    equals_protected = version.equal_power_protects_users
    assert allowed == allowed_by_alterations(current, new, equals_protected=equals_protected)
