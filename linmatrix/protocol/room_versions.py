"""Room versions: which algorithms a room follows.

Draft section "Room Versions". Two identifiers name the algorithms of this draft (decision 1); they
differ in one comparison of the power-level rules (decision 49).
"""

from dataclasses import dataclass

UNSTABLE_PREFIX = "org.matrix.i-d.ralston-mimi-linearized-matrix.02"
"""The unstable room version's id, which is also the path prefix of its endpoints (decision 3)."""


@dataclass(frozen=True, slots=True)
class RoomVersion:
    """The algorithms of one room version, as far as versions differ.

    `equal_power_protects_users`: rule 9.8 refuses to change or remove a user's entry when that entry is
    equal to the sender's power level, not only when it is higher.
    """

    identifier: str
    stable: bool
    equal_power_protects_users: bool


ROOM_VERSIONS = {
    version.identifier: version
    for version in (
        RoomVersion("I.1", stable=True, equal_power_protects_users=False),
        RoomVersion(UNSTABLE_PREFIX, stable=False, equal_power_protects_users=True),
    )
}
"""The supported room versions by identifier."""
