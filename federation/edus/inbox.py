"""The messages for one of our users' devices: stored in order, each once; read until they are acknowledged.

Draft section "To-Device Messaging"; decision 114; threat T63. What its client reads is still there when it reads again,
until it acknowledges a position: then everything up to that is done with. Numbers are given under the lock of the
inbox's row, so that what appears later has a higher one.

A message that came before is not stored again, though it may have been read and acknowledged meanwhile: `source` names
it for as long as its server may repeat a transaction.

An inbox has an end. What is new is dropped then, not what is old: of messages that build on one another the first are
worth most, and nobody can push another's out by sending more. One server may fill a quarter of it, for the same reason.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from federation.models import ToDeviceInbox, ToDeviceMessage
from keys.models import Device
from linmatrix import prepared
from linmatrix.metrics import instruments
from linmatrix.protocol import canonical_json
from linmatrix.protocol.edus import TO_DEVICE, ToDevice
from linmatrix.pruning import prune

logger = logging.getLogger(__name__)

SHARE_OF_ONE_SERVER = 4
"""One server may fill this part of an inbox."""

# One statement each, however many inboxes: a message may be for every device of a room.
_LOCK = """
    SELECT inbox.id, inbox.user_id, inbox.device_id, inbox.last_position, inbox.waiting, inbox.waiting_bytes
    FROM federation_todeviceinbox inbox JOIN unnest(%s::text[], %s::text[]) AS wanted (user_id, device_id)
    ON inbox.user_id = wanted.user_id AND inbox.device_id = wanted.device_id
    ORDER BY inbox.user_id, inbox.device_id FOR NO KEY UPDATE OF inbox
"""
_KNOWN = """
    SELECT inbox_id, source FROM federation_todevicemessage JOIN unnest(%b::bigint[], %b::bytea[])
    AS wanted (inbox_id, source) USING (inbox_id, source)
"""
_OF_ORIGIN = """
    SELECT count(*), coalesce(sum(octet_length(json)), 0) FROM federation_todevicemessage
    WHERE inbox_id = %s AND origin = %s AND acknowledged_at IS NULL
"""
_ADD = """
    INSERT INTO federation_todevicemessage
        (origin, txn_id, received_at, inbox_id, position, sender, type, json, source)
    SELECT %s, %s, %s, new.* FROM unnest(
        %b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::bytea[]) AS new
"""
_COUNT = """
    UPDATE federation_todeviceinbox inbox
    SET last_position = new.last_position, waiting = new.waiting, waiting_bytes = new.waiting_bytes
    FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[])
    AS new (id, last_position, waiting, waiting_bytes) WHERE inbox.id = new.id
"""
_ACKNOWLEDGE = """
    UPDATE federation_todevicemessage message SET json = '', acknowledged_at = %s
    FROM (
        SELECT id, octet_length(json) AS length FROM federation_todevicemessage
        WHERE inbox_id = %s AND position <= %s AND acknowledged_at IS NULL
    ) waiting WHERE message.id = waiting.id RETURNING waiting.length
"""


class Incoming(NamedTuple):
    """A message for an existing device of ours, and what makes it the same when it comes again."""

    message: ToDevice
    source: bytes


class Message(NamedTuple):
    """A message as its device's client gets it."""

    position: int
    sender: str
    type: str
    content: dict[str, Any]


def source_of(*parts: str | int) -> bytes:
    """Names a message by what tells it apart, as 32 bytes."""
    return hashlib.sha256(canonical_json.dumps(list(parts))).digest()


@dataclass(slots=True)
class _Inbox:
    """A locked inbox, as it becomes while messages are put into it."""

    id: int
    user_id: str
    device_id: str
    last_position: int
    waiting: int
    waiting_bytes: int

    def __str__(self) -> str:
        return f"{self.device_id} of {self.user_id}"


def store(incoming: Sequence[Incoming], *, origin: str, txn_id: str, now: datetime) -> None:
    """Put messages into their inboxes, in order; the caller holds a transaction, and inboxes are locked to its end.

    Those that are there, or were, are passed over; those for which there is no room are dropped.
    """
    by_device: dict[tuple[str, str], dict[bytes, ToDevice]] = defaultdict(dict)
    for item in incoming:
        by_device[item.message.user_id, item.message.device_id].setdefault(item.source, item.message)
    inboxes = _locked(sorted(by_device))
    if not inboxes:
        return  # their devices were removed just then
    known = _known([(inbox.id, source) for inbox in inboxes for source in by_device[inbox.user_id, inbox.device_id]])
    rows: list[tuple[Any, ...]] = []
    new = 0
    for inbox in inboxes:
        messages = by_device[inbox.user_id, inbox.device_id]
        unknown = [(source, message) for source, message in messages.items() if (inbox.id, source) not in known]
        new += len(unknown)
        rows += _rows_for(inbox, unknown, origin)
    if rows:
        prepared.execute(_ADD, [origin, txn_id, now, *map(list, zip(*rows, strict=True))])
        columns = zip(*((box.id, box.last_position, box.waiting, box.waiting_bytes) for box in inboxes), strict=True)
        prepared.execute(_COUNT, [*map(list, columns)])
    counts = {"known": len(incoming) - new, "inbox_full": new - len(rows), "accepted": len(rows)}
    transaction.on_commit(partial(_count, counts))


def _count(outcomes: dict[str, int]) -> None:
    for outcome, number in outcomes.items():
        if number:
            instruments.edus.labels(TO_DEVICE, outcome).inc(number)


def _locked(devices: Sequence[tuple[str, str]]) -> list[_Inbox]:
    """The inboxes of these devices, locked in their order."""
    rows = [ToDeviceInbox(user_id=user_id, device_id=device_id) for user_id, device_id in devices]
    ToDeviceInbox.objects.bulk_create(rows, ignore_conflicts=True)
    return [_Inbox(*row) for row in prepared.execute(_LOCK, [*map(list, zip(*devices, strict=True))])]


def _known(messages: Sequence[tuple[int, bytes]]) -> set[tuple[int, bytes]]:
    """Those that are stored already, by inbox and source."""
    rows = prepared.execute(_KNOWN, [*map(list, zip(*messages, strict=True))])
    return {(inbox_id, bytes(source)) for inbox_id, source in rows}


def _rows_for(inbox: _Inbox, messages: Sequence[tuple[bytes, ToDevice]], origin: str) -> list[tuple[Any, ...]]:
    """The messages for which an inbox has room as they are stored; the inbox counts them."""
    sizes = [len(message.json.encode()) for _, message in messages]
    fitting = _room_for(sizes, inbox, origin)
    rows = []
    for (source, message), size in zip(messages[:fitting], sizes, strict=False):
        inbox.last_position += 1
        inbox.waiting += 1
        inbox.waiting_bytes += size
        rows.append((inbox.id, inbox.last_position, message.sender, message.type, message.json, source))
    if fitting < len(messages):
        logger.warning("the inbox of %s is full: dropped %d messages from %s", inbox, len(messages) - fitting, origin)
    return rows


def _room_for(sizes: Sequence[int], inbox: _Inbox, origin: str) -> int:
    """How many messages of these sizes, from the first on, fit into an inbox with those that wait in it."""
    limits, share = settings.LIMITS, 1 if origin == settings.SERVER_NAME else SHARE_OF_ONE_SERVER
    most, most_bytes = limits.to_device_messages, limits.to_device_bytes
    number, size = inbox.waiting, inbox.waiting_bytes
    if number + len(sizes) <= most // share and size + sum(sizes) <= most_bytes // share:
        return len(sizes)
    ((of_origin, bytes_of_origin),) = prepared.execute(_OF_ORIGIN, [inbox.id, origin])
    for count, length in enumerate(sizes):
        number, size = number + 1, size + length
        of_origin, bytes_of_origin = of_origin + 1, bytes_of_origin + length
        if number > most or size > most_bytes or of_origin > most // share or bytes_of_origin > most_bytes // share:
            return count
    return len(sizes)


def read(user_id: str, device_id: str, limit: int = 100) -> list[Message]:
    """The first messages that a device has not acknowledged, at most so many, in order."""
    rows = ToDeviceMessage.objects.filter(
        inbox__user_id=user_id, inbox__device_id=device_id, acknowledged_at__isnull=True
    ).order_by("position")
    return [
        Message(row.position, row.sender, row.type, canonical_json.loads(row.json.encode())) for row in rows[:limit]
    ]


def acknowledge(user_id: str, device_id: str, upto: int, *, now: datetime | None = None) -> int:
    """Be done with a device's messages up to a position, which it has read; how many there were."""
    with transaction.atomic():
        inboxes = ToDeviceInbox.objects.select_for_update(no_key=True)
        inbox = inboxes.filter(user_id=user_id, device_id=device_id).first()
        if inbox is None:
            return 0
        sizes = [size for (size,) in prepared.execute(_ACKNOWLEDGE, [now or timezone.now(), inbox.pk, upto])]
        inbox.waiting -= len(sizes)
        inbox.waiting_bytes -= sum(sizes)
        inbox.save(update_fields=["waiting", "waiting_bytes"])
    return len(sizes)


def discard_gone(user_id: str) -> None:
    """Forget the inboxes of devices that a local user has no more. Called in the transaction that removes one."""
    gone = _gone().filter(user_id=user_id).order_by("device_id").select_for_update()
    if ids := list(gone.values_list("pk", flat=True)):
        ToDeviceMessage.objects.filter(inbox__in=ids).delete()
        ToDeviceInbox.objects.filter(pk__in=ids).delete()


def _gone() -> QuerySet[ToDeviceInbox]:
    there = Device.objects.filter(user_id=OuterRef("user_id"), device_id=OuterRef("device_id"), deleted=False)
    return ToDeviceInbox.objects.filter(~Exists(there))


def prune_messages(now: datetime) -> int:
    """What is left of messages whose servers repeat their transactions no more; and inboxes that a message made which
    came while its device was removed."""
    before = now - timedelta(hours=settings.LIMITS.inbound_transaction_hours)
    rows = ToDeviceMessage.objects.filter(acknowledged_at__isnull=False, received_at__lt=before)
    return prune(rows, oldest_first="received_at") + prune(_gone(), oldest_first="id")
