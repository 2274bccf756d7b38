"""Holding what the servers answered against what they have.

`tests.scenarios.verdict` compares the servers with each other. Here stands what only the one who acted can know:
that nothing happened twice, that what was refused did not happen, and that each sender's messages kept their order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from linmatrix.protocol import canonical_json
from soak.ledger import Answer, Entry
from tests.scenarios.snapshots import Copy, Snapshot
from tests.scenarios.verdict import Promise


@dataclass(slots=True)
class Reckoning:
    """What became of the promises."""

    sent: int = 0
    """Events that were accepted by their senders' servers, or happened although nobody was told."""
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def promises(entries: Iterable[Entry]) -> list[Promise]:
    """What `verdict` is to find in the lines. A hub may still refuse what its sender did not wait for."""
    return [
        Promise(entry.actor.partition(":")[2], entry.room_id, entry.event_id, refusable=not entry.waited)
        for entry in entries
        if entry.event_id
    ]


def reckon(entries: Sequence[Entry], taken: Sequence[Snapshot]) -> Reckoning:
    """Compare answers with the lines of the rooms' hubs."""
    hubs = {copy.room_id: copy for one in taken for copy in one.rooms.values() if copy.role == "hub"}
    refused = {lpdu.lpdu_id for one in taken for lpdu in one.lpdus if lpdu.status == "refused"}
    found = Reckoning()
    places = {room_id: _places(copy) for room_id, copy in hubs.items()}
    for entry in entries:
        told = f"{entry.verb} {entry.number} of {entry.actor} in {entry.room_id} ({entry.answer} {entry.event_id})"
        ids, texts = places[entry.room_id]
        there = entry.event_id in ids
        if there or (entry.text and texts[entry.text]):
            found.sent += 1
        if entry.event_id and not there and (entry.waited or entry.event_id not in refused):
            found.lost.append(f"{told} is not in the line")
        if entry.text and texts[entry.text] > 1:
            found.duplicated.append(f"{told} is in the line {texts[entry.text]} times")
        if entry.answer == Answer.REFUSED.value and entry.text and texts[entry.text]:
            found.wrong.append(f"{told} was refused ({entry.reason}) and is in the line")
        if entry.answer == Answer.DISPUTED.value:
            found.wrong.append(f"{told}: {entry.reason}")
    found.lost += _unheard(taken, hubs)
    found.wrong += _disorder(entries, hubs)
    return found


def _places(copy: Copy) -> tuple[set[str], Counter[str]]:
    """The ids of a line's events and LPDUs, and how often each text is said in it."""
    ids = {id for entry in copy.line for id in (entry.event_id, entry.lpdu_id) if id}
    return ids, Counter(text for entry in copy.line if (text := _text(entry.json)))


def _text(event: str) -> str:
    content = canonical_json.loads_object(event.encode())["content"]
    return str(content.get("body", content.get("reason", "")))


def _unheard(taken: Sequence[Snapshot], hubs: dict[str, Copy]) -> list[str]:
    """LPDUs that a hub has acknowledged without refusing them, and does not have."""
    known = {entry.lpdu_id for copy in hubs.values() for entry in copy.line}
    return [
        f"{one.server}: {lpdu.destination} acknowledged LPDU {lpdu.lpdu_id} and does not have it"
        for one in taken
        for lpdu in one.lpdus
        if lpdu.status == "sent" and lpdu.lpdu_id not in known
    ]


def _disorder(entries: Sequence[Entry], hubs: dict[str, Copy]) -> list[str]:
    """Messages that are in a line before one that their sender had sent earlier."""
    places: dict[str, int] = {}
    for copy in hubs.values():
        for entry in copy.line:
            places[entry.event_id] = entry.position
            if entry.lpdu_id:
                places[entry.lpdu_id] = entry.position
    by_sender: dict[tuple[str, str], list[Entry]] = {}
    for one in entries:
        if one.verb == "message" and one.event_id in places:
            by_sender.setdefault((one.actor, one.room_id), []).append(one)
    return [
        f"message {late.number} of {late.actor} in {late.room_id} is in the line before {early.number}"
        for sent in by_sender.values()
        for early, late in pairwise(sorted(sent, key=lambda entry: entry.number))
        if places[late.event_id] < places[early.event_id]
    ]


def lost_joins(entries: Iterable[Entry], taken: Sequence[Snapshot]) -> set[tuple[str, str]]:
    """Servers that are or were in a room and do not know it, because the answer to a join was cut off: (server, room).

    No server can mend that by itself, for the join failed as far as its user knows. Whoever joins again does.
    """
    unknown = {
        (entry.actor.partition(":")[2], entry.room_id)
        for entry in entries
        if entry.verb == "join" and entry.answer == Answer.UNKNOWN.value
    }
    held = {
        (one.server, room_id): {entry.event_id for entry in copy.line}
        for one in taken
        for room_id, copy in one.rooms.items()
    }
    return {
        (stay.server, copy.room_id)
        for one in taken
        for copy in one.rooms.values()
        if copy.role == "hub"
        for stay in copy.stays
        if (stay.server, copy.room_id) in unknown
        and stay.joined != stay.left
        and copy.line[stay.joined - 1].event_id not in held.get((stay.server, copy.room_id), set())
    }
