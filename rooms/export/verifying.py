"""Verifying a room's file: every hash, signature and id, the chain, and where the line is complete the rules.

Events go through the code that receives them from other servers (`linmatrix.protocol.receipt`). The file is read
twice, for keys stand behind the events: once for them and for the digest, then event by event. Memory does not grow
with the number of messages.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from linmatrix.progress import OnProgress, silent
from linmatrix.protocol.encryption import COMMIT
from linmatrix.protocol.errors import BadSignature, ProtocolError
from linmatrix.protocol.events import Pdu, check_schema
from linmatrix.protocol.hashes import event_id, event_id_of, lpdu_of, matches, pdu_content_hash, signed_bytes
from linmatrix.protocol.identifiers import domain_of, is_event_id
from linmatrix.protocol.receipt import receive_pdu
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.protocol.signing import signature_ids
from rooms.export.key_lines import BadKey, KeyLines
from rooms.export.lines import FORMAT, KINDS, REJECTED, VERSION, NotALine, Read, raw_lines, read_line
from rooms.export.problems import Kind, Problem, Report
from rooms.export.rules import Rules

IN_EFFECT = ("accepted", "redacted")
VERDICTS = (*IN_EFFECT, "soft-failed", "rejected")

EVENTS_PER_NOTE = 500
"""Events between two notes of progress."""

Tell = Callable[[Problem], None]


class NotARoom(Exception):
    """The file is no room's file that this version can read; the message says why."""


def verify(path: Path, *, tell: Tell, progress: OnProgress = silent) -> Report:
    """Verify a file; each problem is told when it is met. Raises `NotARoom`, `OSError`."""
    scan = _Scan(path, tell, progress)
    report = scan.report
    verification = _Verification(scan, tell)
    total = report.found["event"] + report.found["outlier"]
    for done, (number, line) in enumerate(raw_lines(path)):
        if done % EVENTS_PER_NOTE == 0:
            progress("verifying", min(done, total), total)
        verification.take(number, line)
    verification.end()
    progress("verifying", total, total)
    return report


def read_header(line: bytes) -> Read:
    """The first line of a file. Raises `NotARoom`."""
    try:
        header = read_line(1, line)
        if header.kind != "header" or header.text("format") != FORMAT:
            raise NotALine("its first line is no header")
        if header.whole("format_version") != VERSION:
            raise NotALine(f"its format has version {header.whole('format_version')}, known is {VERSION}")
        for name in ("room_id", "room_version", "hub_server", "exported_by"):
            header.text(name)
        if header.text("room_version") not in ROOM_VERSIONS:
            raise NotALine(f"the room version {header.text('room_version'):.60} is not known")
    except NotALine as error:
        raise NotARoom(f"the file is no exported room: {error}") from None
    return header


class _Scan:
    """The first reading: header, keys, digest, and which LPDUs are said to have been rejected."""

    def __init__(self, path: Path, tell: Tell, progress: OnProgress) -> None:
        self._tell = tell
        self._digest = hashlib.sha256()
        self._ended = False
        self.keys = KeyLines()
        self.rejected_lpdus: set[str] = set()
        lines = raw_lines(path)
        number, line = next(lines, (1, b""))
        self.report = Report(read_header(line))
        self._note(number, line)
        for number, line in lines:
            self._note(number, line)
            if number % (20 * EVENTS_PER_NOTE) == 0:
                progress("reading", number)
        self.report.lines = number
        self.report.sha256 = self._digest.hexdigest()
        self.report.given_keys, self.report.unproven_keys = self.keys.known, self.keys.unproven
        if not self._ended:
            self.problem(number, Kind.TRUNCATED, "the file ends here, without its last line")

    def problem(self, number: int, kind: Kind, reason: str) -> None:
        self.report.problems[kind] += 1
        self._tell(Problem(number, kind, reason))

    def _note(self, number: int, line: bytes) -> None:
        kind = line[9 : line.find(b'"', 9)].decode(errors="replace") if line.startswith(b'{"kind":"') else ""
        try:
            if self._ended:
                raise NotALine("it comes after the last one")
            if kind == "key_response":
                self.keys.add_response(read_line(number, line))
            elif kind == "key":
                self.keys.add_key(read_line(number, line))
            elif kind == "end":
                self._end(read_line(number, line))
            elif kind == "event" and REJECTED in line.partition(b',"event":')[0]:
                self._note_rejected(read_line(number, line).record("event"))
        except BadKey as error:
            self.problem(number, Kind.KEY, str(error))
        except NotALine as error:
            if self._ended or kind.startswith("key") or kind == "end":
                self.problem(number, Kind.FORM, str(error))
        self.report.found[kind if kind in KINDS else ""] += 1
        self._digest.update(line)

    def _note_rejected(self, event: dict[str, Any]) -> None:
        try:
            if "hub_server" in check_schema(event):
                self.rejected_lpdus.add(event_id_of(signed_bytes(lpdu_of(event))))
        except ProtocolError:
            return  # the second reading tells

    def _end(self, read: Read) -> None:
        self._ended = True
        if read.text("sha256") != self._digest.hexdigest():
            self.problem(read.number, Kind.DIGEST, "the lines before are not those that its SHA-256 is of")
        elif read.record("counts") != dict(self.report.found):
            self.problem(read.number, Kind.DIGEST, "the lines before are not as many as it counts")


class _Verification:
    """The second reading, event by event."""

    def __init__(self, scan: _Scan, tell: Tell) -> None:
        self._tell, self._keys, self.report = tell, scan.keys, scan.report
        header = scan.report.header
        self._room_id, self._hub = header.text("room_id"), header.text("hub_server")
        self._dense = self._hub == header.text("exported_by")
        self._rules = Rules(ROOM_VERSIONS[header.text("room_version")])
        self._rejected_lpdus, self._seen_lpdus = scan.rejected_lpdus, set[str]()
        self._position = 0
        self._last = ""
        self._may_follow: set[str] = set()
        self._whole = True
        self._unexplained: dict[str, int] = {}
        if domain_of(self._room_id) != self._hub:
            self._problem(header, Kind.RULES, f"the room was not created on {self._hub}")

    def take(self, number: int, line: bytes) -> None:
        """Verify one line."""
        try:
            read = read_line(number, line)
            if read.kind in ("event", "outlier"):
                self._take_event(read)
            elif read.kind == "gap":
                self._whole = False
                self._may_follow = {read.text("missing_event_id")}
            elif read.kind == "passed_over":
                self._pass_over(read)
            elif read.kind == "header" and number > 1:
                raise NotALine("a second header")
        except NotALine as error:
            if not line.startswith((b'{"kind":"key', b'{"kind":"end"')):  # those were told of in the first reading
                self._problem(Read(number, "", {}), Kind.FORM, str(error))

    def end(self) -> None:
        """What can only be said at the end."""
        report = self.report
        report.complete, report.head_event_id = self._whole and self._position > 0, self._last
        if self._whole:
            for event_id_, number in self._unexplained.items():
                reason = "its content was taken out, and no redaction in the line names it"
                self._problem(Read(number, "", {}), Kind.REDACTION, reason, event_id_)
        stated = report.header.fields.get("head")
        if isinstance(stated, dict) and stated.get("event_id", "") != self._last:
            reason = f"the room's head is said to be {stated.get('event_id')!r:.60}, the last event is {self._last!r}"
            self._problem(Read(report.lines, "", {}), Kind.CHAIN, reason)

    def _problem(self, read: Read, kind: Kind, reason: str, event_id_: str = "") -> None:
        self.report.problems[kind] += 1
        self._tell(Problem(read.number, kind, reason, event_id_))

    def _pass_over(self, read: Read) -> None:
        """An event that is not here may be followed, where it follows the last one itself, or a gap does."""
        passed, predecessor = read.text("event_id"), read.text("predecessor")
        allowed = {self._last, *self._may_follow}
        if predecessor not in allowed:
            self._problem(read, Kind.CHAIN, f"it follows {predecessor!r:.60}, not {self._last!r}", passed)
        self._whole = False
        self._may_follow.add(passed)

    def _take_event(self, read: Read) -> None:
        stated, verdict, event = read.text("event_id"), read.text("verdict"), read.record("event")
        if verdict not in VERDICTS:
            raise NotALine(f"{verdict!r:.40} is no verdict")
        position = read.whole("position") if read.kind == "event" else 0
        pdu = self._received(read, stated, event)
        if pdu is not None:
            self._check_content(read, pdu, verdict)
        if read.kind == "event":
            self._check_place(read, event, position)
            if pdu is not None and self._whole:
                self._check_rules(read, pdu, verdict)
            self._last = stated

    def _received(self, read: Read, stated: str, event: dict[str, Any]) -> Pdu | None:
        """The event, if it passes the checks on receipt, and is the one that its id says."""
        try:
            checked = check_schema(event)
        except ProtocolError as error:
            self._problem(read, Kind.SCHEMA, error.reason, stated)
            return None
        if event["room_id"] != self._room_id:
            self._problem(read, Kind.SCHEMA, f"it is of the room {event['room_id']:.60}", stated)
            return None
        for key_id in signature_ids(event["signatures"], self._hub):
            self.report.hub_keys.update((key_id, key) for key in self._keys.given.get((self._hub, key_id), ()))
        pdu = None
        try:
            pdu = receive_pdu(checked, hub=self._hub, keys=self._keys.known)
        except BadSignature as error:
            if event_id(event) == stated:
                try:
                    pdu = receive_pdu(checked, hub=self._hub, keys=self._keys.timeless)
                    self._problem(read, Kind.KEY_TIME, "a key that it is signed by was not valid at its time", stated)
                except BadSignature:
                    self._problem(read, Kind.SIGNATURE, error.reason, stated)
                    return None
        except ProtocolError as error:
            self._problem(read, Kind.SCHEMA, error.reason, stated)
            return None
        if pdu is None or pdu.event_id != stated:
            self._problem(read, Kind.ID, "the event is another one than its id says", stated)
            return None
        if not pdu.altered and pdu.event != event:
            self._problem(read, Kind.SCHEMA, "it has members that nobody has signed", stated)
        return pdu

    def _check_content(self, read: Read, pdu: Pdu, verdict: str) -> None:
        """That the content is what was hashed; a redacted copy must be said to be one, by the verdict and the line."""
        event = pdu.event
        if pdu.altered or (pdu.redacted and verdict == "accepted"):
            self._problem(read, Kind.CONTENT, "the content is not what was hashed and signed", pdu.event_id)
        elif verdict == "redacted" and not pdu.redacted:
            self._problem(read, Kind.CONTENT, "it is said to be redacted, and is not", pdu.event_id)
        elif pdu.redacted and not matches(event["hashes"]["sha256"], pdu_content_hash(event)):
            self._unexplained[pdu.event_id] = read.number
        if event["type"] == "m.room.redaction" and verdict in IN_EFFECT:
            redacts = event["content"].get("redacts")
            if is_event_id(redacts):
                self._unexplained.pop(redacts, None)

    def _check_place(self, read: Read, event: dict[str, Any], position: int) -> None:
        """That the event follows the last one, or what is named as missing."""
        before = event.get("prev_events")
        allowed = [[self._last] if self._last else [], *([event_id_] for event_id_ in self._may_follow)]
        follows = before in allowed
        if not follows:
            names = before[0] if isinstance(before, list) and before else "nothing"
            reason = f"it follows {names!s:.60}, and the event before it here is {self._last or 'none'}"
            self._problem(read, Kind.CHAIN, reason, read.text("event_id"))
            self._whole = False
        elif position != self._position + 1 and (self._dense or position <= self._position):
            reason = f"its position is {position}, after {self._position}"
            self._problem(read, Kind.POSITION, reason, read.text("event_id"))
        self._may_follow = set()
        self._position = position

    def _check_rules(self, read: Read, pdu: Pdu, verdict: str) -> None:
        """That what was accepted is allowed, and what was rejected is not, or uses an LPDU again.

        Commits are soft-failed for what they do to the MLS group, which is not gone through here.
        """
        refusal, in_effect = self._rules.refusal(pdu), verdict in IN_EFFECT
        elsewhere = pdu.lpdu_id in self._seen_lpdus or (pdu.event["type"] == COMMIT and verdict == "soft-failed")
        if refusal and in_effect:
            self._problem(read, Kind.RULES, refusal, pdu.event_id)
        elif not refusal and not in_effect and not elsewhere:
            self._problem(read, Kind.RULES, f"it is said to be {verdict}, and the rules allow it", pdu.event_id)
        if pdu.lpdu_id in self._rejected_lpdus:
            self._seen_lpdus.add(pdu.lpdu_id or "")
        self._rules.advance(pdu, in_effect=in_effect)
