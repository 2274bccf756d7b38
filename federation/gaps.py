"""Fetching history from a room's hub: before an event that does not fit, and before where we joined.

Draft section "backfill"; decisions 83, 84. Events come from `GET backfill` in either order, pass the same
checks as any other, and count only where the event after them names them.
"""

import logging
from datetime import timedelta
from enum import Enum
from typing import Any

from django.utils import timezone

from federation import paths
from federation.client import BadAnswer, federation_client
from federation.errors import ApiError
from keys.keyring import keys_for
from linmatrix.protocol.errors import Malformed, ProtocolError
from linmatrix.protocol.events import Pdu, check_schema
from linmatrix.protocol.receipt import receive_pdu
from linmatrix.transport.errors import TransportError
from rooms.models import Gap, Room
from rooms.participant import insert_history, known_events

logger = logging.getLogger(__name__)

PAGE = 100
"""Events asked for at a time; what a hub answers at most (decision 84)."""

MAX_GAP_PAGES = 20
"""Pages fetched while a transaction waits: 2,000 events. A longer hole is for an operator to see."""

BACKFILL_TIMEOUT = 20.0
"""Seconds for one page."""

MAX_BACKFILL_BYTES = 12 * 1024 * 1024
"""Bytes of one page: 100 events of the largest size and the list around them."""

PAGES_PER_RUN = 50
"""Pages that one run of `fill_gap` fetches before it makes room for other tasks."""

MAX_DUE = 50
"""Gaps that one sweep wakes."""

RETRY_DELAYS = (timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
"""Waits after failures to fetch history, the last one from then on: nobody waits for it urgently."""


def fetch_page(room: Room, event_id: str) -> list[Pdu]:
    """The event and what preceded it, checked; those that fail the checks are left out.

    Raises `TransportError` when the hub does not answer with a page.
    """
    answer = federation_client().call(
        room.hub_server,
        "GET",
        paths.backfill(room.room_id, from_event_id=event_id, limit=PAGE),
        stable=paths.uses_stable_paths(room.version),
        timeout=BACKFILL_TIMEOUT,
        max_response_bytes=MAX_BACKFILL_BYTES,
    )
    pdus = (answer.content or {}).get("pdus")
    if answer.status != 200 or not isinstance(pdus, list):
        raise BadAnswer(f"{room.hub_server} answered backfill with {answer}")
    return check_pdus(pdus[:PAGE], room_id=room.room_id, hub=room.hub_server)


def check_pdus(objects: list[Any], *, room_id: str, hub: str) -> list[Pdu]:
    """The events among `objects` that pass the checks on receipt and are of the room (threats T34, T35)."""
    events = []
    for item in objects:
        try:
            event = check_schema(item)
        except Malformed as error:
            logger.info("left out an event of %s from %s: %s", room_id, hub, error.reason)
            continue
        if event["room_id"] == room_id:
            events.append(event)
    keys = keys_for(events)
    checked = []
    for event in events:
        try:
            checked.append(receive_pdu(event, hub=hub, keys=keys))
        except ProtocolError as error:
            logger.info("left out an event of %s from %s: %s", room_id, hub, error.reason)
    return checked


def fetch_predecessors(room: Room, pdu: Pdu) -> list[Pdu]:
    """What lies between our line's end and an event that came from the hub, oldest first.

    Raises `ApiError` 503 when the hub does not give it: the transaction should be sent again.
    """
    missing = pdu.event["prev_events"][0]
    chain: list[Pdu] = []
    try:
        for _ in range(MAX_GAP_PAGES):
            page = {event.event_id: event for event in fetch_page(room, missing)}
            known = known_events(room.room_id, {ref for event in page.values() for ref in event.event["prev_events"]})
            if missing not in page:
                break
            while missing in page and missing not in known:
                chain.append(page[missing])
                missing = next(iter(page[missing].event["prev_events"]), "")
            if missing in known or not missing:
                return chain[::-1]
    except TransportError as error:
        logger.warning("the gap in %s before %s was not filled: %s", room.room_id, pdu.event_id, error)
    raise ApiError(503, "M_UNKNOWN", "An earlier event is missing and could not be fetched. Try again.")


class Progress(Enum):
    """How far a run of `fill_gap` came."""

    CLOSED = "closed"
    MORE = "more"
    LATER = "later"


def fill_gap(gap_id: int) -> Progress:
    """Fetch history into a gap. A failure is noted with the time of the next attempt, which the sweep finds.

    Two workers on one gap do no harm: what one has inserted the other finds known.
    """
    for _ in range(PAGES_PER_RUN):
        gap = Gap.objects.select_related("room").filter(pk=gap_id).first()
        if gap is None:
            return Progress.CLOSED
        try:
            page = fetch_page(gap.room, gap.missing_event_id)
            if gap.missing_event_id not in {event.event_id for event in page}:
                raise BadAnswer(f"{gap.room.hub_server} does not give {gap.missing_event_id}")
        except TransportError as error:
            _note_failure(gap, error.reason)
            return Progress.LATER
        if insert_history(gap, page, now=timezone.now()):
            return Progress.CLOSED
    return Progress.MORE


def due_gaps() -> list[int]:
    """Gaps whose time has come, those first that have waited longest."""
    due = Gap.objects.filter(next_attempt__lte=timezone.now()).order_by("next_attempt")
    return list(due.values_list("pk", flat=True)[:MAX_DUE])


def _note_failure(gap: Gap, error: str) -> None:
    delay = RETRY_DELAYS[min(gap.failures, len(RETRY_DELAYS) - 1)]
    Gap.objects.filter(pk=gap.pk).update(
        failures=gap.failures + 1, last_error=error[:500], next_attempt=timezone.now() + delay
    )
