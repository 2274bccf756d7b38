"""Fetching history from a room's hub: before an event that does not fit, and before where we joined.

Draft section "backfill"; decisions 83, 84; threats T33 to T35. Events come from `GET backfill` in either order,
pass the same checks as any other, and count only where the event after them names them. An event's id is a hash
over what it follows, so the hub can answer with whatever it likes: only the one right event fits.

An event that fails the checks is ignored (draft, "Receiving Events/PDUs"), but the line goes on over it: what it
follows is in its id, too. It becomes a finding, which lets its successor be appended. One whose keys cannot be had
just now is waited for.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.conf import settings
from django.utils import timezone

from federation import backoff, paths
from federation.blocking import block_list
from federation.client import BadAnswer, federation_client
from federation.errors import ApiError
from keys.keyring import keys_for
from linmatrix.progress import OnProgress, silent
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import BadSignature, Malformed, ProtocolError
from linmatrix.protocol.events import MAX_EVENT_BYTES, CheckedEvent, Pdu, check_schema
from linmatrix.protocol.hashes import event_id, event_id_elsewhere
from linmatrix.protocol.identifiers import is_event_id
from linmatrix.protocol.receipt import keys_needed, receive_pdu
from linmatrix.protocol.redaction import redact
from linmatrix.protocol.signing import KnownKeys
from linmatrix.transport.errors import TransportError
from rooms import findings
from rooms.history import insert_history
from rooms.models import Finding, Gap, Room
from rooms.participant import known_events

logger = logging.getLogger(__name__)

PAGE = 100
"""Events asked for at a time; what a hub answers at most (decision 84)."""

PAGES_PER_RUN = 50
"""Pages that one run of `fill_gap` fetches before it makes room for other tasks."""

MAX_DUE = 50
"""Gaps that one sweep wakes."""

RETRY_DELAYS = (timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
"""Waits after failures to fetch history, the last one from then on: nobody waits for it urgently."""


class Withheld(BadAnswer):
    """The hub answers, and without the event that it was asked for."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An event object that is no event for us; `predecessor` is what it follows, '' for nothing."""

    event_id: str
    predecessor: str
    kind: Finding.Kind
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """What came of a list of event objects: those that pass the checks, and by id those that do not."""

    events: Sequence[Pdu]
    failed: dict[str, Failed]


def fetch_page(room: Room, event_id: str) -> Page:
    """The event and what preceded it, checked.

    Raises `TransportError` when the hub does not answer with a page, `Withheld` when the event is not on it.
    """
    answer = federation_client().call(
        room.hub_server,
        "GET",
        paths.backfill(room.room_id, from_event_id=event_id, limit=PAGE),
        stable=paths.uses_stable_paths(room.version),
        timeout=settings.LIMITS.backfill_seconds,
        max_response_bytes=settings.LIMITS.backfill_answer_bytes,
    )
    pdus = (answer.content or {}).get("pdus")
    if answer.status == 404 and not answer.unrecognized:
        raise Withheld(f"{room.hub_server} does not give {event_id}: {answer}")
    if answer.status != 200 or not isinstance(pdus, list):
        raise BadAnswer(f"{room.hub_server} answered backfill with {answer}")
    page = check_page(pdus[:PAGE], room_id=room.room_id, hub=room.hub_server)
    if not _holds(page, event_id):
        page = _fetch_event(room, event_id)
    if not _holds(page, event_id):
        raise Withheld(f"{room.hub_server} answered backfill without {event_id}")
    return page


def _holds(page: Page, event_id: str) -> bool:
    return event_id in page.failed or any(event_id == pdu.event_id for pdu in page.events)


def _fetch_event(room: Room, event_id: str) -> Page:
    """The event alone: an existing hub answers every backfill with an empty page. Raises `TransportError`."""
    answer = federation_client().call(
        room.hub_server,
        "GET",
        paths.event(event_id),
        stable=paths.uses_stable_paths(room.version),
        timeout=settings.LIMITS.backfill_seconds,
        max_response_bytes=settings.LIMITS.backfill_answer_bytes,
    )
    found = [answer.content] if answer.status == 200 else []
    return check_page(found, room_id=room.room_id, hub=room.hub_server)


def check_pdus(
    objects: list[Any], *, room_id: str, hub: str, stage: str = "checking", progress: OnProgress = silent
) -> list[Pdu]:
    """The events among `objects` that pass the checks on receipt and are of the room (threats T34, T35)."""
    return list(check_page(objects, room_id=room_id, hub=hub, stage=stage, progress=progress).events)


def check_page(
    objects: list[Any], *, room_id: str, hub: str, stage: str = "checking", progress: OnProgress = silent
) -> Page:
    """Check a list of event objects that are said to be of the room."""
    failed: dict[str, Failed] = {}

    def leave_out(item: Any, error: ProtocolError, kind: Finding.Kind = Finding.Kind.INVALID) -> None:
        logger.info("left out an event of %s from %s: %s", room_id, hub, error.reason)
        failed.update((failure.event_id, failure) for failure in _failed(item, room_id, kind, error.reason))

    events: list[CheckedEvent] = []
    for item in objects:
        try:
            event = check_schema(item)
        except Malformed as error:
            leave_out(item, error)
            continue
        if event["room_id"] == room_id:
            events.append(event)
    keys = keys_for(events)
    checked = []
    for done, event in enumerate(events):
        if done % PAGE == 0:
            progress(stage, done, len(events))
        try:
            checked.append(receive_pdu(event, hub=hub, keys=keys))
        except BadSignature as error:
            waits = _lacks_a_key(event, keys)
            leave_out(event, error, Finding.Kind.UNVERIFIABLE if waits else Finding.Kind.INVALID)
        except ProtocolError as error:
            leave_out(event, error)
    progress(stage, len(events), len(events))
    return Page(checked, failed)


def _lacks_a_key(event: CheckedEvent, keys: KnownKeys) -> bool:
    """Whether the event names a key that we do not have, or not for its time: its server may give it later."""
    ts = event["origin_server_ts"]
    return any(not any(key.valid_at(ts) for key in keys.get(needed, ())) for needed in keys_needed(event))


def _failed(item: Any, room_id: str, kind: Finding.Kind, reason: str) -> list[Failed]:
    """What can be said about an object that fails the checks: nothing, when not even where it belongs is clear.

    An event whose id covers more at its hub than here is known by that id, too: those that follow it name it so.
    """
    try:
        known_as, kept = {event_id(item), event_id_elsewhere(item)}, redact(item)
    except (KeyError, TypeError, AttributeError, ProtocolError):
        return []
    before = item.get("prev_events")
    if item.get("room_id") != room_id or not isinstance(before, list) or not all(map(is_event_id, before)):
        return []
    text = canonical_json.dumps(kept)
    evidence = text.decode() if len(text) <= MAX_EVENT_BYTES else ""
    return [Failed(name, before[0] if before else "", kind, reason, evidence) for name in known_as]


def fetch_predecessors(room: Room, pdu: Pdu) -> list[Pdu]:
    """What lies between our line's end and an event that came from the hub, oldest first.

    Raises `ApiError` 503 when the hub does not give it: the transaction should be sent again.
    """
    chain = _Chain(room, pdu.event["prev_events"][0])
    limits = settings.LIMITS
    deadline = time.monotonic() + limits.gap_seconds
    try:
        for _ in range(limits.gap_pages):
            if chain.extend(fetch_page(room, chain.missing)):
                return chain.events[::-1]
            if len(chain.events) >= limits.gap_events or time.monotonic() > deadline:
                break
    except Withheld as error:
        findings.record(room, Finding.Kind.GAP, chain.missing, error.reason)
    except TransportError as error:
        logger.warning("the gap in %s before %s was not filled: %s", room.room_id, pdu.event_id, error)
    raise ApiError(503, "M_UNKNOWN", "An earlier event is missing and could not be fetched. Try again.")


class _Chain:
    """Events back from one that is missing, newest first, until one is reached that we have."""

    def __init__(self, room: Room, missing: str) -> None:
        self._room = room
        self.missing = missing
        self.events: list[Pdu] = []

    def extend(self, page: Page) -> bool:
        """Follow the predecessors through a page; whether the chain is complete.

        Raises `TransportError` at an event that has to be waited for.
        """
        by_id = {pdu.event_id: pdu for pdu in page.events}
        named = {before for pdu in page.events for before in pdu.event["prev_events"]}
        named |= {failure.predecessor for failure in page.failed.values()}
        known = known_events(self._room.room_id, named | {self.missing})
        while self.missing and self.missing not in known:
            if self.missing in by_id:
                self.events.append(by_id[self.missing])
                self.missing = next(iter(by_id[self.missing].event["prev_events"]), "")
            elif self.missing in page.failed:
                self.missing = pass_over(self._room, page.failed[self.missing])
            else:
                return False
        return True


def pass_over(room: Room, failure: Failed) -> str:
    """What an event follows that fails the checks, noted for good so that its successor can be appended.

    Raises `BadAnswer` while it has to be waited for, and when the room has too many such events
    (`findings_per_room`): then the hub is not worth following.
    """
    findings.record(
        room,
        failure.kind,
        failure.event_id,
        failure.reason,
        text=failure.text,
        predecessor=failure.predecessor,
    )
    if failure.event_id not in findings.passed_over(room.room_id, [failure.event_id], now=timezone.now()):
        raise BadAnswer(f"{failure.event_id} from {room.hub_server} cannot be taken or passed over: {failure.reason}")
    return failure.predecessor


class Progress(Enum):
    """How far a run of `fill_gap` came."""

    CLOSED = "closed"
    MORE = "more"
    LATER = "later"


def hub_of(gap_id: int) -> str:
    """The server that is asked to fill a gap; empty when that has been done."""
    return Gap.objects.filter(pk=gap_id).values_list("room__hub_server", flat=True).first() or ""


def fill_gap(gap_id: int, *, fetch: Callable[[Room, str], Page] = fetch_page) -> Progress:
    """Fetch history into a gap. A failure is noted with the time of the next attempt, which the sweep finds.

    Two workers on one gap do no harm: what one has inserted the other finds known.
    """
    for _ in range(PAGES_PER_RUN):
        gap = Gap.objects.select_related("room").filter(pk=gap_id).first()
        if gap is None:
            return Progress.CLOSED
        try:
            page = fetch(gap.room, gap.missing_event_id)
            passed = _passed_over(gap, page)
        except TransportError as error:
            if isinstance(error, Withheld):
                findings.record(gap.room, Finding.Kind.GAP, gap.missing_event_id, error.reason)
            _note_failure(gap, error.reason)
            return Progress.LATER
        if insert_history(gap, page.events, now=timezone.now(), passed_over=passed):
            return Progress.CLOSED
    return Progress.MORE


def _passed_over(gap: Gap, page: Page) -> dict[str, str]:
    """Those events of a page that history has to go over, by what each follows. Raises as `pass_over` does, when
    not even the first of the page can be had."""
    before = {pdu.event_id: next(iter(pdu.event["prev_events"]), "") for pdu in page.events}
    passed: dict[str, str] = {}
    missing = gap.missing_event_id
    while missing in before or missing in page.failed:
        if missing in before:
            missing = before.pop(missing)
            continue
        try:
            passed[missing] = pass_over(gap.room, page.failed[missing])
        except BadAnswer:
            if missing == gap.missing_event_id:
                raise
            break
        missing = passed[missing]
    return passed


def due_gaps(*, now: datetime | None = None) -> list[int]:
    """Gaps whose time has come, those first that have waited longest; none of a blocked hub."""
    due = (
        Gap.objects.filter(backoff.is_due(now or timezone.now()))
        .exclude(block_list.among("room__hub_server"))
        .order_by("next_attempt")
    )
    return list(due.values_list("pk", flat=True)[:MAX_DUE])


def _note_failure(gap: Gap, error: str) -> None:
    delay = RETRY_DELAYS[min(gap.failures, len(RETRY_DELAYS) - 1)]
    Gap.objects.filter(pk=gap.pk).update(
        failures=gap.failures + 1, last_error=error[:500], next_attempt=timezone.now() + delay
    )
