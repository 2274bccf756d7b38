"""The participant's check: the same as the hub's, of commits that are in the line already (decision 40).

A commit that should have been refused is soft-failed and becomes a finding about the hub. The room goes on, and our
copy of its group too, if it can: the hub may have gone on from the commit that we refuse, or not. So from then on the
group counts as lost until a commit fits what we have, or carries its tree. A lost group is no one's fault and no
finding: commits are then in the line without having been checked, which is what `MlsCommit` says of them.
"""

from linmatrix.protocol.encryption import can_check, room_algorithm
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.mls import Change
from linmatrix.protocol.mls_membership import check_change, check_nobody_left
from linmatrix.protocol.state import State
from rooms.append import Line
from rooms.findings import Findings
from rooms.mls.line import Commits, NotPrepared, commits_of
from rooms.mls.preparing import Beginning, Checked
from rooms.models import Finding, MlsCommit, MlsGroup

LOST = MlsGroup.Standing.LOST


def judge_commit(line: Line, pdu: Pdu, findings: Findings) -> Rejected | None:
    """Check a commit that is next in the line and follow it; why it is soft-failed, None when it is not."""
    if not can_check(room_algorithm(line.state)) or "state_key" in pdu.event:
        return None
    commits = commits_of(line)
    checked = commits.checked(pdu)
    if pdu.redacted:
        _lose(commits, checked, pdu, "its content was removed")
        return None
    try:
        change = commits.change(checked)
    except NotPrepared as busy:
        _lose(commits, checked, pdu, str(busy))
        return None
    except Rejected as refusal:
        if commits.stored is not None and commits.stored.standing != LOST:
            return _refuse(commits, checked, pdu, refusal, findings)
        if after_refused := next((result for result in checked.applied.values() if isinstance(result, Change)), None):
            # The hub went on from a commit of the same batch that we refuse: what it made of the group is known.
            return _follow(commits, checked, pdu, after_refused, findings)
        _begin_again(commits, checked, pdu, str(refusal))
        return None
    return _follow(commits, checked, pdu, change, findings)


def forget_group(line: Line) -> None:
    """Note that commits may have been missed: our line goes on after a gap. What we have is kept, should it still fit.

    The caller holds the room's lock.
    """
    MlsGroup.objects.filter(room=line.room).update(standing=LOST)


def _follow(commits: Commits, checked: Checked, pdu: Pdu, change: Change, findings: Findings) -> Rejected | None:
    state = commits.state_for(pdu, (*change.removed, *change.group.members.values()))
    try:
        check_change(change, sender=pdu.event["sender"], state=state)
    except Rejected as refusal:
        return _refuse(commits, checked, pdu, refusal, findings)
    was = commits.stored.standing if commits.stored else LOST
    standing = MlsGroup.Standing.LATER if was == LOST else was
    commits.accept(pdu, change.group, standing=standing, change=change, reason=_remark(change, state))
    return None


def _remark(change: Change, state: State) -> str:
    """What is worth knowing of a commit that is followed: it leaves devices of users who have left.

    That is against a rule of ours and not of the draft, so no fault of the hub's, and no reason to part from all who
    followed the commit.
    """
    try:
        check_nobody_left(change, state=state)
    except Rejected as refusal:
        return str(refusal)
    return ""


def _refuse(commits: Commits, checked: Checked, pdu: Pdu, refusal: Rejected, findings: Findings) -> Rejected:
    findings.add(Finding.Kind.COMMIT, pdu, str(refusal))
    commits.note(pdu, MlsCommit.Verdict.REFUSED, str(refusal), checked, event_id=pdu.event_id)
    commits.lose(pdu)
    return refusal


def _begin_again(commits: Commits, checked: Checked, pdu: Pdu, reason: str) -> None:
    match checked.beginning:
        case Beginning(group, committer) if committer.user_id == pdu.event["sender"]:
            commits.accept(pdu, group, standing=MlsGroup.Standing.LATER)
        case Rejected() as refusal:
            _lose(commits, checked, pdu, str(refusal))
        case _:
            _lose(commits, checked, pdu, reason)


def _lose(commits: Commits, checked: Checked, pdu: Pdu, reason: str) -> None:
    commits.note(pdu, MlsCommit.Verdict.NOT_CHECKED, reason, checked, event_id=pdu.event_id)
    commits.lose(pdu)
