"""Taking a room in from its file: a whole line at once, under the lock of the room's row like any other writer.

The file is verified first (`rooms.export.verifying`), and only a complete line is taken: from the create event on,
without a gap. Events are then appended in one database transaction, by the code that appends what a hub sends
(`rooms.participant`), so state, audience, redactions and verdicts come about as they did the first time. What the room
is here follows from its line:

- Its hub is this server: it is hosted here again, and goes on with the next event.
- One of our users is joined: we take part again, and what the hub sends next leads to what was missed.
- Otherwise it is an archive: blocked, for looking at.

A room that we know gets what its line lacks at its end. An id covers all that was before, so the lines are one if our
last event is in the file; if it is not, they have parted, and nothing is taken. docs/decisions/0008 says what a hub
risks, and why keys that we do not have need an operator's word.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Greatest, Least

from keys import fetchers, history
from keys.keyring import stored_keys
from linmatrix.progress import OnProgress, silent
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.events import Pdu
from linmatrix.protocol.hashes import event_id_of, lpdu_of, signed_bytes
from rooms.append import Line, create_line, open_line
from rooms.audience import takes_part
from rooms.export.lines import NotALine, Read, raw_lines, read_line
from rooms.export.problems import Kind, Problem, Report
from rooms.export.verifying import NotARoom, verify
from rooms.hub import milliseconds
from rooms.mls.line import commits_of
from rooms.mls.preparing import prepare
from rooms.models import Event, Room, RoomServer
from rooms.participant import Appending, Predecessor, known_events
from rooms.signals import events_appended

logger = logging.getLogger(__name__)

__all__ = ["Imported", "NeedsConsent", "NotARoom", "Refused", "import_room"]

BATCH = 500
"""Events appended with one set of statements."""

FORGIVABLE = frozenset((Kind.KEY_TIME, Kind.REDACTION))
"""What may be wrong with a file that is taken in after all, when whoever does it knows of it."""


MAX_TOLD = 5
"""Keys that are named of those that we lack."""


class Refused(Exception):
    """The file is not taken in; the message says why. Nothing has changed."""


class NeedsConsent(Refused):
    """The file is not taken in unless the operator says that the `risks` are known, one sentence or two for each."""

    def __init__(self, risks: Sequence[str]) -> None:
        super().__init__(" ".join(risks))
        self.risks = risks


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: the room, and how many of its events are new here."""

    room: Room
    new_events: int

    @property
    def is_archive(self) -> bool:
        """Whether the room is here to be looked at only."""
        return self.room.blocked and self.room.role == Room.Role.PARTICIPANT


def import_room(path: Path, *, now: datetime, consent: bool = False, progress: OnProgress = silent) -> Imported:
    """Verify a room's file and take it in; all of it or nothing. RuntimeError inside of a transaction.

    Raises `NotARoom`, `Refused`, `NeedsConsent` (unless `consent`), `OSError`.
    """
    first: list[Problem] = []
    report = verify(path, tell=lambda problem: first.append(problem) if not first else None, progress=progress)
    if not FORGIVABLE.issuperset(report.problems):
        raise Refused(f"The file does not hold ({_counted(report)}): {first[0]}")
    if not report.complete:
        raise Refused(
            "The file has gaps. Where it was exported, `backfill` fetches the room's history; export it again then."
        )
    strange = _strange_keys(report)
    if report.hub_server == settings.SERVER_NAME:
        _check_own_keys(strange)
    risks = []
    if report.problems:
        risks.append(f"The file has flaws ({_counted(report)}), beginning with {first[0]}.")
    if strange:
        risks.append(_told(strange))
    try:
        with transaction.atomic(durable=True):
            taking = _Taking(path, report, now=now, risks=risks, consent=consent, progress=progress)
            imported = taking.take()
            if imported.new_events:
                _keep_keys(path, report, {server for server, *_ in strange}, now)
    except (NotALine, Predecessor) as error:
        raise Refused(f"The file has changed while it was read: {error}") from None
    return imported


def _counted(report: Report) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(report.problems.items()))


def _strange_keys(report: Report) -> list[tuple[str, str, str]]:
    """Server, id and public key of those keys in the file that we have from nobody, or are not in our key file.

    Whoever signs a room anew, or goes on with its line, needs keys of their own for it, for which the file has answers
    as good as any: which keys a server really has, only those tell that we have from it. The hub's come first.
    """
    known = stored_keys({server for server, _ in report.given_keys})
    strange = {
        (server, key_id, encode_base64(public_key))
        for (server, key_id), given in report.given_keys.items()
        for public_key in {bytes(key.key) for key in given}
        - {bytes(key.key) for key in known.get((server, key_id), ())}
    }
    return sorted(strange, key=lambda key: (key[0] != report.hub_server, key))


def _told(strange: Sequence[tuple[str, str, str]]) -> str:
    named = ", ".join(map(" ".join, strange[:MAX_TOLD]))
    more = f" and {len(strange) - MAX_TOLD} more" if len(strange) > MAX_TOLD else ""
    return f"Keys that this server does not have, for which the file alone vouches: {named}{more}."


def _check_own_keys(strange: Iterable[tuple[str, str, str]]) -> None:
    """A room that was hosted here is signed by our keys, those of the key file (threat T21)."""
    if lacking := [key_id for server, key_id, _ in strange if server == settings.SERVER_NAME]:
        raise Refused(
            f"The room's events are signed by {', '.join(lacking)}, which this server does not have. Put back the "
            "signing key file of that time first (LINMATRIX_SIGNING_KEY_FILE)."
        )


def _keep_keys(path: Path, report: Report, lacking: set[str], now: datetime) -> None:
    """Keep keys that we do not have, as if the file's writer had passed them on as a notary: for events only."""
    writer = report.header.text("exported_by")
    for read in _reads(path, b"key_response"):
        if read.text("server") not in lacking - {settings.SERVER_NAME}:
            continue
        try:
            answer = fetchers.check_server_keys(
                read.record("response"), server=read.text("server"), now_ms=milliseconds(now), notary=writer
            )
            history.store(answer, now_ms=milliseconds(now))
        except ProtocolError as error:
            logger.warning("keys of %s in the file are not kept: %s", read.text("server"), error.reason)


class _Taking:
    """The file on its way into the database, within one transaction."""

    def __init__(
        self, path: Path, report: Report, *, now: datetime, risks: list[str], consent: bool, progress: OnProgress
    ) -> None:
        self._path, self._report, self._now = path, report, now
        self._risks, self._consent, self._progress = risks, consent, progress
        self._hosted = report.hub_server == settings.SERVER_NAME

    def take(self) -> Imported:
        """Append what is new. Raises `Refused`, `NeedsConsent`."""
        report = self._report
        known = Room.objects.filter(room_id=report.room_id).first()
        if known is None:
            return self._take_new()
        if (known.hub_server, known.version) != (report.hub_server, report.header.text("room_version")):
            raise Refused(f"The room is known with the hub {known.hub_server} and version {known.version}.")
        with open_line(known.room_id, now=self._now) as line:
            if known_events(known.room_id, [report.head_event_id]):
                return Imported(line.room, 0)
            self._ask()
            return self._append(line, after=line.room.head_event_id)

    def _take_new(self) -> Imported:
        self._ask()
        role = Room.Role.HUB if self._hosted else Room.Role.PARTICIPANT
        report = self._report
        room = Room(
            room_id=report.room_id,
            version=report.header.text("room_version"),
            role=role,
            hub_server=report.hub_server,
        )
        try:
            line = create_line(room, now=self._now)
        except IntegrityError:
            raise Refused("The room came to be known while the file was read. Try again.") from None
        imported = self._append(line, after="")
        if not self._hosted and not takes_part(room.room_id, settings.SERVER_NAME):
            room.blocked = True
            room.save(update_fields=["blocked"])
        return imported

    def _ask(self) -> None:
        """Name all risks at once, since one word is given for all. A hub that goes on from an earlier event than its
        last makes two rooms of one."""
        risks = list(self._risks)
        if self._hosted:
            risks.append(
                f"This server hosts the room and will go on after {self._report.head_event_id}, event "
                f"{self._report.found['event']}. If it has ever sent a later event to anybody, the room parts in two "
                "and the other servers refuse what comes from here."
            )
        if risks and not self._consent:
            raise NeedsConsent(risks)

    def _append(self, line: Line, *, after: str) -> Imported:
        first, new = line.room.head_position + 1, 0
        events = _following(_placed(self._path, self._report.sha256), after)
        while batch := list(islice(events, BATCH)):
            if commits := prepare(line.room.room_id, [pdu.event for pdu in batch], in_line=True):
                commits_of(line).know(commits)
            appending = Appending(line, batch)
            for pdu in batch:
                new += appending.append(pdu)
            appending.findings.write()
            line.write(announce=False)
            self._progress("importing", new, self._report.found["event"])
        if line.room.head_event_id != self._report.head_event_id:
            raise Refused(
                f"The lines have parted, or the file has changed: the last event here is {line.room.head_event_id}, "
                f"that of the file {self._report.head_event_id}."
            )
        if self._hosted:
            self._resume(line, first)
        return Imported(line.room, new)

    def _resume(self, line: Line, first: int) -> None:
        """Go on sending where the hub had stopped; where that is not in the file, from a stay's beginning."""
        room = line.room
        rejected = Event.objects.filter(room=room, position__gte=first, verdict=Event.Verdict.REJECTED).first()
        if rejected is not None:
            raise Refused(f"This server would not have accepted {rejected.event_id}: {rejected.reason}")
        stays = RoomServer.objects.filter(room=room)
        for read in _reads(self._path, b"server"):
            of_server = stays.filter(server=read.text("server"), joined_position=read.whole("joined_position"))
            sent = Least(read.whole("sent_position"), room.head_position)
            of_server.update(sent_position=Greatest(F("sent_position"), sent))
        events_appended.send(sender=Room, room=room, first_position=first, last_position=room.head_position)


def _reads(path: Path, kind: bytes) -> Iterator[Read]:
    """The lines of one kind of a verified file."""
    start = b'{"kind":"%b"' % kind
    return (read_line(number, line) for number, line in raw_lines(path) if line.startswith(start))


def _placed(path: Path, sha256: str) -> Iterator[Pdu]:
    """The events of a verified file's line, in order. Raises `Refused` for a file that has changed meanwhile."""
    digest = hashlib.sha256()
    for number, line in raw_lines(path):
        digest.update(line)
        if line.startswith(b'{"kind":"event"'):
            yield _pdu(read_line(number, line))
    if digest.hexdigest() != sha256:
        raise Refused("The file has changed while it was read.")


def _pdu(read: Read) -> Pdu:
    """A verified event as it was received."""
    event = read.record("event")
    lpdu_id = event_id_of(signed_bytes(lpdu_of(event))) if "hub_server" in event else None
    redacted = read.text("verdict") == Event.Verdict.REDACTED
    return Pdu(event, event_id_of(signed_bytes(event)), lpdu_id, canonical_json.dumps(event), redacted)


def _following(events: Iterable[Pdu], after: str) -> Iterator[Pdu]:
    """The events after the one with this id; all of them for ''."""
    passed = not after
    for pdu in events:
        if passed:
            yield pdu
        passed = passed or pdu.event_id == after
