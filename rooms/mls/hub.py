"""The hub's check: a commit that does not pass is refused, and is no event of the room.

Draft section "Updating Group State": the hub must validate that changes of the group match the room's memberships.
Beyond the draft it requires that commits are right as MLS, since else it would not know whom they change, and that
devices of those who left go with the next member's commit (docs/decisions/0011).
"""

from linmatrix.protocol.encryption import can_check, is_mls, room_algorithm
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.mls import Change
from linmatrix.protocol.mls_membership import check_beginning, check_change, check_nobody_left
from linmatrix.protocol.state import CREATE
from rooms.append import Line, open_line
from rooms.mls import records
from rooms.mls.line import Commits, commits_of
from rooms.mls.preparing import Beginning, Checked
from rooms.models import MlsCommit, MlsGroup


def take_commit(line: Line, pdu: Pdu) -> None:
    """Check a commit that is about to be appended, and make the group that it leads to the room's.

    Nothing happens in a room without MLS: there a commit is an event like any other. Raises `Rejected`.
    """
    algorithm = room_algorithm(line.state)
    if not is_mls(algorithm):
        return
    if not can_check(algorithm):
        raise Rejected("mls.ciphersuite", f"this server cannot check commits of {algorithm:.100}")
    commits = commits_of(line)
    checked = commits.checked(pdu)
    try:
        if "state_key" in pdu.event:
            raise Rejected("mls.event", "a commit is no state event")
        _take(line, commits, checked, pdu)
    except Rejected as refusal:
        commits.note(pdu, MlsCommit.Verdict.REFUSED, str(refusal), checked, event_id=pdu.lpdu_id or "")
        raise


def _take(line: Line, commits: Commits, checked: Checked, pdu: Pdu) -> None:
    standing = commits.stored.standing if commits.stored else None
    if standing is None:
        _begin(line, commits, checked, pdu, standing=MlsGroup.Standing.FIRST)
        return
    try:
        change = commits.change(checked)
    except Rejected:
        if standing != MlsGroup.Standing.LOST:
            raise
        _begin(line, commits, checked, pdu, standing=MlsGroup.Standing.LATER)
        return
    _check(commits, change, pdu)
    follows = MlsGroup.Standing.LATER if standing == MlsGroup.Standing.LOST else standing
    commits.accept(pdu, change.group, standing=follows, change=change)


def _check(commits: Commits, change: Change, pdu: Pdu) -> None:
    state = commits.state_for(pdu, (*change.removed, *change.group.members.values()))
    check_change(change, sender=pdu.event["sender"], state=state)
    check_nobody_left(change, state=state)


def _begin(line: Line, commits: Commits, checked: Checked, pdu: Pdu, *, standing: str) -> None:
    """The first commit, which is the creator's (draft section "Group Creation"), or the first that we can know again
    after the group was lost."""
    creator = line.state[CREATE].sender
    if standing == MlsGroup.Standing.FIRST and pdu.event["sender"] != creator:
        raise Rejected("mls.creator", f"the room's group begins with a commit of {creator}")
    if isinstance(checked.read, Rejected):
        raise checked.read
    match checked.beginning:
        case Beginning(group, committer):
            state = commits.state_for(pdu, group.members.values())
            check_beginning(group, committer, sender=pdu.event["sender"], state=state)
            commits.accept(pdu, group, standing=standing)
        case Rejected() as refusal:
            raise refusal
        case _:
            raise Rejected("mls.epoch", "the commit does not go on from the room's group as it is now; send it again")


def keep_refusals(line: Line) -> None:
    """Write down what was refused in an append that was undone because of it."""
    if line.commits is None or not (refusals := line.commits.refusals()):
        return
    with open_line(line.room.room_id, now=line.now):
        records.write(line.room.room_id, refusals)
