"""Rooms as files, as tests look at them and tamper with them."""

import hashlib
import json

from django.db import connection
from django.utils import timezone

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.signing import sign_object
from rooms.export.lines import FORMAT, VERSION, Writer
from rooms.export.verifying import verify
from rooms.export.writing import export_room
from tests.support.peers import now_ms


def exported(room, folder, name="room.jsonl"):
    """The path of a file with the room."""
    path = folder / name
    with path.open("wb") as file:
        export_room(room.room_id, file, now=timezone.now())
    return path


def lines_of(path):
    """The lines as objects."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def problems(path):
    """What a verification finds, as (line, kind)."""
    found = []
    verify(path, tell=lambda problem: found.append((problem.line, str(problem.kind))))
    return found


def sealed(raw_lines):
    """These lines with a last one that counts them and has their digest, as someone who tampers would write it."""
    *body, last = raw_lines
    end = json.loads(last)
    end["sha256"] = hashlib.sha256(b"".join(body)).hexdigest()
    counts = {}
    for line in body:
        kind = json.loads(line)["kind"]
        counts[kind] = counts.get(kind, 0) + 1
    end["counts"] = counts
    return b"".join((*body, json.dumps(end, separators=(",", ":")).encode(), b"\n"))


def file_of(room, *peers, folder, head=None, before=lambda index, writer: None, verdicts=None):
    """A file with a peer's room as its hub would export it, made without a database.

    `before` may write lines before an event by its index; `verdicts` are other than accepted by index.
    """
    path = folder / "room.jsonl"
    with path.open("wb") as out:
        writer = Writer(out)
        last = room.line[-1]
        header = {
            "format": FORMAT, "format_version": VERSION, "room_id": room.room_id, "room_version": room.version,
            "hub_server": room.hub.name, "exported_by": room.hub.name, "exported_at": 0,
            "head": head or {"position": len(room.line), "event_id": last.event_id},
        }  # fmt: skip
        writer.put("header", header)
        for index, pdu in enumerate(room.line):
            before(index, writer)
            verdict = (verdicts or {}).get(index, "redacted" if pdu.redacted else "accepted")
            fields = {"position": index + 1, "event_id": pdu.event_id, "verdict": verdict}
            writer.put("event", fields, pdu.encoded.decode())
        for number, peer in enumerate((room.hub, *peers)):
            answer = {
                "server_name": peer.name,
                "valid_until_ts": now_ms() + 3_600_000,
                "verify_keys": {peer.key.key_id: {"key": encode_base64(peer.key.public_key)}},
            }
            signed = sign_object(answer, server=peer.name, key=peer.key)
            writer.put("key_response", {"number": number, "server": peer.name}, canonical_json.dumps(signed).decode())
            key = {
                "server": peer.name, "key_id": peer.key.key_id, "public_key": encode_base64(peer.key.public_key),
                "valid_until_ts": answer["valid_until_ts"], "expired_ts": None, "listed_in": number,
            }  # fmt: skip
            writer.put("key", key)
        writer.end()
    return path


def change_lines(path, change):
    """Let `change` alter the list of lines, and seal what it leaves."""
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(sealed(lines))
    return path


def respliced(line, *, event=None, **fields):
    """An event's line with other members, or another event in it."""
    old = json.loads(line)
    head = {key: value for key, value in {**old, **fields}.items() if key != "event"}
    text = canonical_json.dumps(old["event"] if event is None else event)
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"event":' + text + b"}\n"


def forget(room_id):
    """Lose a room, as with the database."""
    with connection.cursor() as cursor:
        for table in (
            "mlsgroup",
            "mlscommit",
            "stateentry",
            "redaction",
            "roomserver",
            "gap",
            "finding",
            "event",
            "room",
        ):
            cursor.execute(f"DELETE FROM rooms_{table} WHERE room_id = %s", [room_id])  # noqa: S608  names of tables
