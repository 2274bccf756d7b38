"""What an MLS commit may change of a group, given who is in the room.

Draft section "Updating Group State": MLS knows devices, a room knows users, and the hub keeps the first within the
second. That a commit is right as MLS is `linmatrix.protocol.mls`; here only the names of devices are looked at, and
the room's state. Each rule has a name, which a refusal carries:

- mls.event_sender: a commit is sent to the room by the user whose device made it.
- mls.add: devices are added of users who are joined, or of anybody where the room is world readable.
- mls.remove: devices are removed of the committer's own user, or of users who are not joined.
- mls.left: after a member's commit no device is left of a user who is not joined; not where the room is world readable,
  and not all at once where they are many.

The last one is not in the draft, which only says who may remove such a device. Without it a user who was banned would
read on until somebody cares to; docs/decisions/0011 says what follows from it.
"""

from collections.abc import Iterable

from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.mls import Change, DeviceName, Group
from linmatrix.protocol.state import HISTORY_VISIBILITY, State, membership

ENOUGH_REMOVED = 100
"""Devices of those who left that a commit removes to be allowed to leave more of them to the next: when a crowd leaves
a large room, one commit with all the removals, and what its path seals for those who stay, would not fit into an event.
"""

MAX_NAMED = 5
"""Devices that a refusal names."""


def check_change(change: Change, *, sender: str, state: State) -> None:
    """Check who a commit brings in and takes out. Raises `Rejected`.

    `sender` sent the commit's event; `state` is the room's state before it: the history visibility, and the
    memberships of those whose devices the commit adds and removes.
    """
    _check_sender(change.committer, sender)
    _check_added(change.added, state)
    own = change.committer.user_id
    for device in change.removed:
        if device.user_id != own and _is_joined(state, device):
            raise Rejected("mls.remove", f"{own} cannot remove {device}, whose user is joined")


def check_nobody_left(change: Change, *, state: State) -> None:
    """Check that a commit leaves nobody in the group who is not in the room. Raises `Rejected`.

    `state` needs the memberships of all whose devices the commit removes or leaves in the group. Who joins by an
    external commit cannot remove others, and is not asked to.
    """
    if change.external or is_world_readable(state):
        return
    if sum(not _is_joined(state, device) for device in change.removed) >= ENOUGH_REMOVED:
        return
    if left := not_joined(change.group, state):
        raise Rejected("mls.left", f"the commit must remove devices whose users are not joined: {_named(left)}")


def check_beginning(group: Group, committer: DeviceName, *, sender: str, state: State) -> None:
    """Check that a group may be the room's from here on. Raises `Rejected`.

    What the commit changed is not known, since there is nothing to compare with: all that are in the group count as
    added by its `committer`.
    """
    _check_sender(committer, sender)
    _check_added(group.members.values(), state)


def not_joined(group: Group, state: State) -> list[DeviceName]:
    """The devices in a group whose users are not joined, by name."""
    return sorted({device for device in group.members.values() if not _is_joined(state, device)})


def is_world_readable(state: State) -> bool:
    """Whether anybody may read the room (draft section "Calculating Event Visibility")."""
    event = state.get(HISTORY_VISIBILITY)
    return event is not None and event.content.get("history_visibility") == "world_readable"


def _check_sender(committer: DeviceName, sender: str) -> None:
    if committer.user_id != sender:
        raise Rejected("mls.event_sender", f"{sender} sends a commit of {committer.user_id}")


def _check_added(devices: Iterable[DeviceName], state: State) -> None:
    if is_world_readable(state):
        return
    for device in devices:
        current = membership(state, device.user_id)
        if current != "join":
            raise Rejected("mls.add", f"{device} cannot be in the group: its user's membership is {current:.20}")


def _is_joined(state: State, device: DeviceName) -> bool:
    return membership(state, device.user_id) == "join"


def _named(devices: list[DeviceName]) -> str:
    names = ", ".join(map(str, devices[:MAX_NAMED]))
    return f"{names} and {len(devices) - MAX_NAMED} more" if len(devices) > MAX_NAMED else names
