"""What a room's hub did that the protocol forbids, kept with the signed events that show it.

Draft section "Receiving Events/PDUs": participants should check their hub and may warn of it. Decisions 38, 40, 83
and 92 say what is found; threats T29 to T33 say why. A finding changes nothing in the room: what an event may do was
decided before. It is recorded once for an event, and not more often than `findings_per_room` for a kind, so
that a hub cannot fill our disk with its own faults.

One kind decides something: an event in the line that fails the checks on receipt is never stored, and its successor
may be appended only because the finding says what preceded it (`passed_over`).
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q

from linmatrix.metrics import instruments
from linmatrix.protocol.events import Pdu
from rooms.models import Event, Finding, Room

logger = logging.getLogger(__name__)

MAX_REASON_LENGTH = 500
"""Characters of a reason: a sentence with names and numbers."""

UNVERIFIABLE_GRACE = timedelta(minutes=10)
"""How long an event whose keys cannot be had holds up those that follow it, and with them all that the hub has for
us. Its server may be starting again, and what is passed over is lost to us; but one that is gone for good must not
end the room here."""


for _kind in Finding.Kind:
    instruments.findings.labels(str(_kind))  # at 0 from the start, or Prometheus would not see the first one come


def _count(kinds: Iterable[str]) -> None:
    for kind in kinds:
        instruments.findings.labels(kind).inc()


def one_line(reason: str) -> str:
    """A reason as it can be stored and shown: one line, without the NUL that PostgreSQL refuses.

    Reasons may quote a peer's event types and the names within its power levels.
    """
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in reason)[
        :MAX_REASON_LENGTH
    ]


@dataclass(frozen=True, slots=True)
class _Found:
    kind: Finding.Kind
    event_id: str
    reason: str
    texts: tuple[str, ...]
    related: tuple[str, ...]
    predecessor: str


class Findings:
    """Findings about one room's hub, gathered while its events are gone through and then written together.

    `seen` are the events at hand by id: related events are taken from there or from the database.
    """

    def __init__(self, room: Room, seen: Mapping[str, Pdu] | None = None) -> None:
        self._room = room
        self._seen = seen or {}
        self._found: dict[tuple[str, str], _Found] = {}

    def add(self, kind: Finding.Kind, pdu: Pdu, reason: str, *, related: Iterable[str] = ()) -> None:
        """Note a finding about an event; `related` are the ids of events that it contradicts."""
        others = tuple(event_id for event_id in related if event_id != pdu.event_id)
        self._note(_Found(kind, pdu.event_id, reason, (pdu.encoded.decode(),), others, ""))

    def add_text(
        self, kind: Finding.Kind, event_id: str, reason: str, *, text: str = "", predecessor: str = ""
    ) -> None:
        """Note a finding about something that is no checked event: its JSON text, if any, and what it follows."""
        self._note(_Found(kind, event_id, reason, (text,) if text else (), (), predecessor))

    def _note(self, found: _Found) -> None:
        self._found.setdefault((found.kind, found.event_id), found)

    def write(self) -> None:
        """Record what was gathered and is not recorded yet, up to `findings_per_room` of a kind."""
        if not self._found:
            return
        kinds = {kind for kind, _ in self._found}
        of_kinds = Finding.objects.filter(room=self._room, kind__in=kinds)
        counts = dict(of_kinds.order_by().values_list("kind").annotate(Count("pk")))
        event_ids = [event_id for _, event_id in self._found]
        recorded = set(of_kinds.filter(event_id__in=event_ids).values_list("kind", "event_id"))
        new = []
        for key, found in self._found.items():
            if key not in recorded and counts.get(found.kind, 0) < settings.LIMITS.findings_per_room:
                counts[found.kind] = counts.get(found.kind, 0) + 1
                new.append(found)
        texts = self._texts({event_id for found in new for event_id in found.related})
        Finding.objects.bulk_create([self._row(found, texts) for found in new], ignore_conflicts=True)
        transaction.on_commit(partial(_count, [str(found.kind) for found in new]))
        self._found.clear()

    def _texts(self, event_ids: Collection[str]) -> dict[str, str]:
        texts = {event_id: self._seen[event_id].encoded.decode() for event_id in event_ids if event_id in self._seen}
        missing = [event_id for event_id in event_ids if event_id not in texts]
        stored = Event.objects.filter(event_id__in=missing).values_list("event_id", "json") if missing else ()
        return texts | dict(stored)

    def _row(self, found: _Found, texts: Mapping[str, str]) -> Finding:
        reason = one_line(found.reason)
        logger.warning("%s of %s, %s: %s", self._room.hub_server, self._room.room_id, found.kind, reason)
        evidence, size = [], 0
        for text in (*found.texts, *(texts[event_id] for event_id in found.related if event_id in texts)):
            size += len(text)
            if size <= settings.LIMITS.evidence_bytes:
                evidence.append(text)
        return Finding(
            room=self._room,
            server=self._room.hub_server,
            kind=found.kind,
            event_id=found.event_id,
            evidence=f"{reason}\n[{','.join(evidence)}]",
            predecessor=found.predecessor,
        )


def record(
    room: Room, kind: Finding.Kind, event_id: str, reason: str, *, text: str = "", predecessor: str = ""
) -> None:
    """Record one finding at once."""
    findings = Findings(room)
    findings.add_text(kind, event_id, reason, text=text, predecessor=predecessor)
    findings.write()


def passed_over(room_id: str, event_ids: Collection[str], *, now: datetime) -> dict[str, str]:
    """Which of these events are never to be stored, by what the one before each is, '' for none.

    Those that fail the checks on receipt whatever happens, and those whose keys could not be had for
    `UNVERIFIABLE_GRACE`.
    """
    given_up = Q(kind=Finding.Kind.INVALID) | Q(
        kind=Finding.Kind.UNVERIFIABLE, created_at__lte=now - UNVERIFIABLE_GRACE
    )
    found = Finding.objects.filter(given_up, room_id=room_id, event_id__in=list(event_ids))
    return dict(found.values_list("event_id", "predecessor"))
