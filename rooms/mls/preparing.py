"""Checking commits before the room's lock: all that needs the commits' bytes and none of what others may change.

A batch of events may hold several commits, each made upon the one before. So each is applied to the groups of its
epoch that could be there when its turn comes: the stored one and what earlier commits of the batch lead to. Which of
them it is, only the line knows (`rooms.mls.line`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from linmatrix.protocol.encoding import decode_either_base64
from linmatrix.protocol.encryption import COMMIT, can_check, room_algorithm
from linmatrix.protocol.errors import Malformed, Rejected
from linmatrix.protocol.events import MAX_EVENT_BYTES
from linmatrix.protocol.mls import (
    Change,
    Commit,
    DeviceName,
    Group,
    GroupInfo,
    first_group,
    read_commit,
    read_group_info,
)
from linmatrix.protocol.state import CREATE, HISTORY_VISIBILITY, State
from rooms.append import current_entries, current_memberships, rooms_by_id
from rooms.mls import stored
from rooms.models import MlsGroup, Room
from rooms.state_events import state_event

MAX_GROUPS_TRIED = 4
"""Groups of one epoch that a commit is applied to. More than one are there only when a batch holds commits that
exclude each other, which no honest client sends."""

MAX_TREES = 4
"""GroupInfos of one batch whose whole trees are checked, at some 0.2 ms a device: a room begins once, and a group that
was lost is found again with the first that is right."""


class Key(NamedTuple):
    """What a commit's check depends on, as the event has it."""

    sender: str
    message: Any
    public_group_state: Any

    @classmethod
    def of(cls, event: dict[str, Any]) -> "Key":
        """The key of an `m.mls.commit`; what is not text there is taken as nothing."""
        message, state = (event["content"].get(name) for name in ("message", "public_group_state"))
        return cls(
            event["sender"], message if isinstance(message, str) else "", state if isinstance(state, str) else ""
        )


class Read(NamedTuple):
    """A commit and the state that it leads to, decoded."""

    commit: Commit
    group_info: GroupInfo


class Beginning(NamedTuple):
    """A group taken from a GroupInfo with its tree, and the device that made the commit which leads to it."""

    group: Group
    committer: DeviceName


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of checking one commit: read or not, applied to each of the groups with these digests, and taken for
    a beginning where that was asked for."""

    read: Read | Rejected
    applied: dict[bytes, Change | Rejected] = field(default_factory=dict)
    beginning: Beginning | Rejected | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The commits of a batch, and the room's visibility and memberships of `users` as they were when the line ended at
    `position`."""

    position: int
    checked: dict[Key, Checked]
    state: State
    users: frozenset[str]


def read_content(key: Key) -> Read:
    """Decode a commit's content (draft section "m.mls.commit"). Raises `Rejected`."""
    try:
        message = decode_either_base64(key.message, at_most=MAX_EVENT_BYTES)
        public_group_state = decode_either_base64(key.public_group_state, at_most=MAX_EVENT_BYTES)
    except Malformed as error:
        raise Rejected("mls.event", f"the commit's content is not what it should be: {error.reason}") from None
    return Read(read_commit(message), read_group_info(public_group_state))


def prepare(room_id: str, events: Sequence[dict[str, Any]], *, in_line: bool = False) -> Prepared | None:
    """Check the commits among events that are about to be appended; None when there is nothing to check.

    `in_line` says that the events have their places already, given by the room's hub.
    """
    keys = [Key.of(event) for event in events if event["type"] == COMMIT]
    room = rooms_by_id([room_id]).get(room_id) if keys else None
    if room is None:
        return None
    state = current_entries(room_id, [CREATE]) or _first_state(events)
    if not can_check(room_algorithm(state)):
        return None
    preparing = _Preparing(room, creator="" if in_line else state[CREATE].sender)
    for key in keys:
        if key not in preparing.checked:
            preparing.checked[key] = preparing.check(key)
    users = frozenset(device.user_id for device in preparing.devices)
    return Prepared(room.head_position, preparing.checked, read_state(room_id, users) if users else {}, users)


def read_state(room_id: str, user_ids: Collection[str]) -> State:
    """What the rules about memberships read of a room's current state."""
    return {**current_entries(room_id, [HISTORY_VISIBILITY]), **current_memberships(room_id, user_ids)}


def _first_state(events: Sequence[dict[str, Any]]) -> State:
    """The state after the first event of a room that comes with all of its line."""
    create = events[0]
    return {CREATE: state_event("", create)} if (create["type"], create.get("state_key")) == CREATE else {}


class _Preparing:
    """A batch of commits on top of the stored group. `devices` are all whose users' memberships will be asked for: of
    commits that apply, so that others cost no more than their signature."""

    def __init__(self, room: Room, *, creator: str) -> None:
        self.checked: dict[Key, Checked] = {}
        self.devices: set[DeviceName] = set()
        self._creator = creator
        self._group_id = room.room_id.encode()
        found = stored.read(room.room_id)
        self._standing = found.standing if found else None
        self._groups: list[Group] = []
        self._trees = MAX_TREES
        if found is not None and (group := stored.load(room.room_id, found.digest)) is not None:
            self._groups.append(group)

    def check(self, key: Key) -> Checked:
        try:
            read = read_content(key)
        except Rejected as refusal:
            return Checked(refusal)
        applied = self._apply(read)
        followed = any(isinstance(result, Change) for result in applied.values())
        beginning = None if followed or not self._may_begin(key.sender) else self._begin(read)
        return Checked(read, applied, beginning)

    def _apply(self, read: Read) -> dict[bytes, Change | Rejected]:
        groups = [group for group in self._groups if group.epoch == read.commit.epoch]
        applied: dict[bytes, Change | Rejected] = {}
        for group in groups[-MAX_GROUPS_TRIED:]:
            try:
                change = group.apply(read.commit, read.group_info)
            except Rejected as refusal:
                applied[group.digest] = refusal
            else:
                applied[group.digest] = change
                self.devices.update(change.removed)
                self._could_be(change.group)
        return applied

    def _may_begin(self, sender: str) -> bool:
        """Whether a commit that follows none that we know may be where our copy of the group begins.

        A hub knows the group from its first commit on, which is the creator's (draft section "Group Creation"); of
        what is in the line already any may be it.
        """
        first = self._standing is None and sender == self._creator
        return first or not self._creator or self._standing == MlsGroup.Standing.LOST

    def _begin(self, read: Read) -> Beginning | Rejected | None:
        if not self._trees:
            return None
        self._trees -= 1
        try:
            beginning = begin(read, group_id=self._group_id)
        except Rejected as refusal:
            return refusal
        self._could_be(beginning.group)
        return beginning

    def _could_be(self, group: Group) -> None:
        """Note a group that the line may have after a commit of the batch."""
        self._groups.append(group)
        self.devices.update(group.members.values())


def begin(read: Read, *, group_id: bytes) -> Beginning:
    """Take a commit for the beginning of a group: its GroupInfo is believed, if all in it fits together.

    Whether the commit leads there from the group before cannot be told, since that is not known (docs/decisions/0011).
    Raises `Rejected`.
    """
    commit, group_info = read
    if commit.group_id != group_id:
        raise Rejected("mls.group", "the commit is of another group than the room's")
    if group_info.epoch != commit.epoch + 1:
        raise Rejected("mls.epoch", f"a commit in epoch {commit.epoch} does not lead to epoch {group_info.epoch}")
    if group_info.confirmation_tag != commit.confirmation_tag:
        raise Rejected("mls.group_info_tag", "the commit and its GroupInfo confirm different states")
    group = first_group(group_info, group_id=group_id)
    if commit.sender is not None and commit.sender != group_info.signer:
        raise Rejected("mls.group_info_signer", "another device than the committer has signed the GroupInfo")
    return Beginning(group, group.members[group_info.signer])
