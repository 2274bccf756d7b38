"""A room's group while the room's row is locked: which group it is, what is known of the commits that come, and what
becomes of both.

Nothing is decided here but whether what was prepared still holds; `hub` and `participant` decide what follows.
"""

from collections.abc import Iterable

from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.mls import Change, DeviceName, Group
from linmatrix.protocol.state import State
from rooms.append import Line
from rooms.findings import one_line
from rooms.mls import records, stored
from rooms.mls.preparing import Checked, Key, Prepared, read_content, read_state
from rooms.mls.stored import Stored
from rooms.models import MlsCommit, MlsGroup

MAX_UNPREPARED = 2
"""Commits that are applied under the lock in one append, each for some milliseconds (docs/decisions/0011). It takes
one that was not prepared for the very group that it meets: made by somebody who knew that group before we did."""

LARGEST_EPOCH = 2**63 - 1
"""What a row of ours can hold; in a commit that is refused there may be any number of 64 bits."""


class NotPrepared(Rejected):
    """The group has changed since the commit was looked at, and there is no time to look again under the lock."""


class Commits:
    """The commits of one append, and the group that each of them meets."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._prepared: dict[Key, tuple[Prepared, Checked]] = {}
        self._loaded_since = line.room.head_position
        self._stored: Stored | None = stored.read(line.room.room_id)
        self._group: Group | None = None
        self._lost = False
        self._unprepared = MAX_UNPREPARED
        self._notes: list[MlsCommit] = []
        self._event_id = ""

    def know(self, prepared: Prepared) -> None:
        """Take what was prepared for commits that will come before the next `write`. Of two checks of the same one the
        first stays."""
        for key, checked in prepared.checked.items():
            self._prepared.setdefault(key, (prepared, checked))

    @property
    def stored(self) -> Stored | None:
        """How the room's group stands now; None before its first commit."""
        return self._stored

    def checked(self, pdu: Pdu) -> Checked:
        """What is known of a commit. Reads it where it was not prepared; that is cheap and asks for no signature."""
        key = Key.of(pdu.event)
        if key in self._prepared:
            return self._prepared[key][1]
        try:
            return Checked(read_content(key))
        except Rejected as refusal:
            return Checked(refusal)

    def change(self, checked: Checked) -> Change:
        """What the commit makes of the room's group as it is now. Raises `Rejected`, `NotPrepared`."""
        if isinstance(checked.read, Rejected):
            raise checked.read
        epoch, digest = (self._stored.epoch, self._stored.digest) if self._stored else (0, b"")
        result = checked.applied.get(digest)
        if result is None:
            if not digest or checked.read.commit.epoch != epoch:
                raise Rejected(
                    "mls.epoch", f"the commit is to epoch {checked.read.commit.epoch}, the group's is {epoch}"
                )
            if any(isinstance(other, Change) for other in checked.applied.values()):
                raise Rejected("mls.epoch", f"another commit to epoch {epoch} came first")
            result = self._apply(checked)
        if isinstance(result, Rejected):
            raise result
        return result

    def _apply(self, checked: Checked) -> Change:
        """The rare case: the group came to be the one that the commit is for after the commit was looked at."""
        group = self._group or (stored.load(self._line.room.room_id, self._stored.digest) if self._stored else None)
        if group is None or self._unprepared == 0 or isinstance(checked.read, Rejected):
            raise NotPrepared("mls.epoch", "the group has changed while the commit was on its way; send it again")
        self._unprepared -= 1
        return group.apply(*checked.read)

    def state_for(self, pdu: Pdu, devices: Iterable[DeviceName]) -> State:
        """The room's state before an event, with what the rules read of these devices.

        What was read before the lock holds but for what has changed since; all of that is loaded.
        """
        prepared, _ = self._prepared.get(Key.of(pdu.event), (None, None))
        users = {device.user_id for device in devices}
        if prepared is None or not users <= prepared.users:
            return {**read_state(self._line.room.room_id, users), **self._line.state}
        if prepared.position < self._loaded_since:
            self._line.load_changes(prepared.position)
            self._loaded_since = prepared.position
        return {**prepared.state, **self._line.state}

    def accept(self, pdu: Pdu, group: Group, *, standing: str, change: Change | None = None, reason: str = "") -> None:
        """Make a group the room's; `change` is what the commit did, None where it is not known."""
        self._group, self._lost, self._event_id = group, False, pdu.event_id
        self._stored = Stored(standing, group.epoch, group.digest)
        note = self._note(pdu, MlsCommit.Verdict.ACCEPTED, reason)
        note.epoch = group.epoch - 1
        if change is not None:
            note.added, note.removed = records.names(change.added), records.names(change.removed)

    def lose(self, pdu: Pdu) -> None:
        """Note that the group is not known from this commit on."""
        epoch, digest = (self._stored.epoch, self._stored.digest) if self._stored else (0, b"")
        self._stored = Stored(MlsGroup.Standing.LOST, epoch, digest)
        self._lost, self._event_id = True, pdu.event_id

    def note(self, pdu: Pdu, verdict: str, reason: str, checked: Checked, *, event_id: str) -> None:
        """Note what became of a commit that does not lead to the next group."""
        note = self._note(pdu, verdict, reason)
        note.event_id = event_id
        if not isinstance(checked.read, Rejected) and checked.read.commit.epoch <= LARGEST_EPOCH:
            note.epoch = checked.read.commit.epoch

    def _note(self, pdu: Pdu, verdict: str, reason: str) -> MlsCommit:
        note = MlsCommit(
            room=self._line.room,
            event_id=pdu.event_id,
            sender=pdu.event["sender"],
            verdict=verdict,
            reason=one_line(reason),
            at=self._line.now,
        )
        self._notes.append(note)
        return note

    def refusals(self) -> list[MlsCommit]:
        """What was refused so far and not written."""
        return [note for note in self._notes if note.verdict == MlsCommit.Verdict.REFUSED]

    def write(self) -> None:
        """Write the group and what became of the commits, and forget what was prepared for them: an import goes on
        with the next batch. The caller is the line, in the transaction that appends."""
        room_id, now = self._line.room.room_id, self._line.now
        if self._group is not None and self._stored is not None:
            standing = self._stored.standing
            stored.write_group(room_id, self._group, standing=standing, event_id=self._event_id, now=now)
        elif self._lost:
            stored.write_lost(room_id, event_id=self._event_id, now=now)
        if self._notes:
            records.write(room_id, self._notes)
        self._group, self._lost, self._notes = None, False, []
        self._prepared.clear()


def commits_of(line: Line) -> Commits:
    """The commits of a line; looked up in the database with the first."""
    if line.commits is None:
        line.commits = Commits(line)
    return line.commits
