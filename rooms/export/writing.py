"""Writing a room's file from the database, as the room is at one moment.

All of it is read in one snapshot (as pg_dump does), so the room goes on meanwhile and the file does not: it ends with
the event that was last when it began. Events are read a page at a time by position; memory does not grow with the room.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

import orjson
from django.conf import settings
from django.db import connection, transaction

from keys import history
from keys.local import own_keys, server_keys
from linmatrix.progress import OnProgress, silent
from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.receipt import keys_needed
from rooms.export.lines import FORMAT, VERSION, Writer
from rooms.findings import UNVERIFIABLE_GRACE
from rooms.hub import milliseconds
from rooms.models import Event, Finding, Gap, Room, RoomServer

PAGE = 1000
"""Events read at a time: 1 MB of ordinary ones, 64 MB of the largest."""

Pairs = set[tuple[str, str]]
_COLUMNS = ("position", "event_id", "verdict", "reason", "json")


def export_room(room_id: str, out: BinaryIO, *, now: datetime, progress: OnProgress = silent) -> str:
    """Write a room to `out`; the SHA-256 that the file ends with. Raises `Room.DoesNotExist`, `OSError`."""
    with _snapshot():
        room = Room.objects.get(room_id=room_id)
        writer, needed = Writer(out), Pairs()
        _write_header(writer, room, now)
        for row in _outliers(room):
            _write_event(writer, "outlier", row, needed)
        _write_line(writer, room, needed, now, progress)
        if room.role == Room.Role.HUB:
            _write_servers(writer, room)
        _write_keys(writer, needed, now)
        return writer.end()


@contextmanager
def _snapshot() -> Iterator[None]:
    """One snapshot of the database for as long as writing takes. RuntimeError inside of a transaction."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Whoever reads a pipe may take a break.
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


def _write_header(writer: Writer, room: Room, now: datetime) -> None:
    fields = {
        "format": FORMAT,
        "format_version": VERSION,
        "room_id": room.room_id,
        "room_version": room.version,
        "hub_server": room.hub_server,
        "exported_by": settings.SERVER_NAME,
        "exported_at": milliseconds(now),
        "head": {"position": room.head_position, "event_id": room.head_event_id},
    }
    writer.put("header", fields)


def _outliers(room: Room) -> Iterator[tuple[Any, ...]]:
    """The events without a place, by id."""
    rows = Event.objects.filter(room=room, position__isnull=True).order_by("event_id")
    return rows.values_list(*_COLUMNS).iterator(chunk_size=PAGE)


def _placed(room: Room) -> Iterator[tuple[Any, ...]]:
    """The events of the line, in order."""
    line = Event.objects.filter(room=room, position__isnull=False).order_by("position").values_list(*_COLUMNS)
    page = list(line[:PAGE])
    while page:
        yield from page
        page = list(line.filter(position__gt=page[-1][0])[:PAGE])


def _write_line(writer: Writer, room: Room, needed: Pairs, now: datetime, progress: OnProgress) -> None:
    """The line with what is known to be missing in it named where it is."""
    total = Event.objects.filter(room=room, position__isnull=False).count()
    gaps = {gap.before_position: gap.missing_event_id for gap in Gap.objects.filter(room=room)}
    passed_over = _passed_over(room, now)
    last = ""
    for done, row in enumerate(_placed(room)):
        if done % PAGE == 0:
            progress("exporting", done, total)
        position, event_id, before = row[0], row[1], _predecessor(row[-1])
        if position in gaps:
            writer.put("gap", {"before_position": position, "missing_event_id": gaps[position]})
        for passed in _between(last, before, passed_over, until=gaps.get(position)):
            writer.put("passed_over", {"event_id": passed, "predecessor": passed_over[passed]})
        _write_event(writer, "event", row, needed)
        last = event_id
    progress("exporting", total, total)


def _predecessor(text: str) -> str:
    before = orjson.loads(text)["prev_events"]
    return str(before[0]) if before else ""


def _passed_over(room: Room, now: datetime) -> dict[str, str]:
    """The events of the line that are not stored, each with what it follows (`rooms.findings`)."""
    kinds = (Finding.Kind.INVALID, Finding.Kind.UNVERIFIABLE)
    found = Finding.objects.filter(room=room, kind__in=kinds).exclude(
        kind=Finding.Kind.UNVERIFIABLE, created_at__gt=now - UNVERIFIABLE_GRACE
    )
    return dict(found.values_list("event_id", "predecessor"))


def _between(last: str, before: str, passed_over: dict[str, str], *, until: str | None) -> list[str]:
    """The events that were passed over between the last one written and the next, oldest first."""
    found: list[str] = []
    while before not in (last, until) and before in passed_over and before not in found:
        found.append(before)
        before = passed_over[before]
    return found[::-1]


def _write_event(writer: Writer, kind: str, row: tuple[Any, ...], needed: Pairs) -> None:
    position, event_id, verdict, reason, text = row
    fields = {"event_id": event_id, "verdict": verdict}
    if kind == "event":
        fields["position"] = position
    if reason:
        fields["reason"] = reason
    writer.put(kind, fields, text)
    needed |= keys_needed(orjson.loads(text))


def _write_servers(writer: Writer, room: Room) -> None:
    """Up to where each server has been sent the line: who takes the room over goes on there."""
    stays = RoomServer.objects.filter(room=room).exclude(server=settings.SERVER_NAME).order_by("joined_position", "pk")
    columns = ("server", "joined_position", "sent_position")
    for row in stays.values_list(*columns).iterator(chunk_size=PAGE):
        writer.put("server", dict(zip(columns, row, strict=True)))


def _write_keys(writer: Writer, needed: Pairs, now: datetime) -> None:
    """The keys that verify what was written, each after the answer that proves it."""
    numbers: dict[int, int] = {}
    _write_own_keys(writer, {key_id for server, key_id in needed if server == settings.SERVER_NAME}, now)
    for key in history.proven({pair for pair in needed if pair[0] != settings.SERVER_NAME}):
        if key.response_id not in numbers:
            numbers[key.response_id] = writer.counts["key_response"]
            for server, text in history.responses([key.response_id]):
                writer.put("key_response", {"number": numbers[key.response_id], "server": server}, text)
        fields = {
            "server": key.server,
            "key_id": key.key_id,
            "public_key": encode_base64(key.public_key),
            "valid_until_ts": key.valid_until_ts,
            "expired_ts": key.expired_ts,
            "notary": key.notary,
            "listed_in": numbers[key.response_id],
        }
        writer.put("key", fields)


def _write_own_keys(writer: Writer, key_ids: Collection[str], now: datetime) -> None:
    if not key_ids:
        return
    own, answer = own_keys(), server_keys(milliseconds(now))
    number = writer.counts["key_response"]
    writer.put(
        "key_response", {"number": number, "server": settings.SERVER_NAME}, canonical_json.dumps(answer).decode()
    )
    keys: list[tuple[str, bytes, int, int | None]] = [
        (own.signing.key_id, own.signing.public_key, answer["valid_until_ts"], None)
    ]
    keys += [(old.key_id, old.public_key, old.expired_ts, old.expired_ts) for old in own.old]
    for key_id, public_key, valid_until_ts, expired_ts in keys:
        if key_id in key_ids:
            listed = key_id in answer["verify_keys"] or key_id in answer["old_verify_keys"]
            fields = {
                "server": settings.SERVER_NAME,
                "key_id": key_id,
                "public_key": encode_base64(public_key),
                "valid_until_ts": valid_until_ts,
                "expired_ts": expired_ts,
                "notary": "",
                "listed_in": number if listed else None,
            }
            writer.put("key", fields)
