"""What a destination is sent next: events past its cursors and LPDUs in its queue, rooms taking turns.

A transaction holds at most 50 events (draft, `PUT send`). Everything that waits is sorted into lanes: one per
room, and one for LPDUs. Within a lane order is kept; among lanes the 50 places are shared out one by one, so
that a room with a backlog does not keep others waiting, and the next transaction begins with the lane after
the last one served. A transaction holds rooms of one path form only (decision 3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from federation.paths import uses_stable_paths
from linmatrix import prepared

MAX_EVENTS = 50
"""Draft, `PUT send`: more entries in `pdus` are refused."""

# One half each for the rooms after a lane and for the others, so that both are ranges of an index.
_UNFINISHED_HALF = f"""
    SELECT stay.id, stay.room_id, stay.sent_position, LEAST(stay.left_position, room.head_position), room.version,
        stay.joined_position
    FROM rooms_roomserver stay JOIN rooms_room room ON room.room_id = stay.room_id
    WHERE stay.server = %s AND (stay.left_position IS NULL OR stay.sent_position < stay.left_position)
    AND room.role = 'hub' AND room.head_position > stay.sent_position AND stay.room_id {{}} %s
    ORDER BY stay.room_id, stay.joined_position LIMIT {MAX_EVENTS}
"""  # noqa: S608  a number of ours
_UNFINISHED = f"({_UNFINISHED_HALF.format('>')}) UNION ALL ({_UNFINISHED_HALF.format('<=')}) ORDER BY 2, 6"

_QUEUED = f"""
    SELECT lpdu.id, lpdu.json, COALESCE(room.version, '')
    FROM federation_outboundlpdu lpdu LEFT JOIN rooms_room room ON room.room_id = lpdu.room_id
    WHERE lpdu.destination_id = %s AND lpdu.status = 'queued' ORDER BY lpdu.id LIMIT {MAX_EVENTS}
"""  # noqa: S608  a number of ours

# LATERAL with a limit keeps the planner to one index range per stretch. A hub's line holds no other verdicts; should
# one get there, no peer is sent it.
_READ = f"""
    SELECT event.room_id, event.position, event.json
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS stretch (room_id, after, until)
    CROSS JOIN LATERAL (
        SELECT room_id, position, json FROM rooms_event WHERE room_id = stretch.room_id
        AND position > stretch.after AND position <= stretch.until AND verdict IN ('accepted', 'redacted')
        ORDER BY position LIMIT {MAX_EVENTS}
    ) AS event ORDER BY event.room_id, event.position
"""  # noqa: S608  a number of ours

_PREFIX, _SUFFIX = b'{"edus":[],"pdus":[', b"]}"
_LPDU_LANE = ""  # room ids begin with "!"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Positions of a room that one stay of the server has still to get: after `after`, up to `until`."""

    stay_id: int
    room_id: str
    after: int
    until: int

    def first(self, count: int) -> "Stretch":
        """The first `count` positions of it."""
        return Stretch(self.stay_id, self.room_id, self.after, min(self.until, self.after + count))

    def __len__(self) -> int:
        return self.until - self.after


class QueuedLpdu(NamedTuple):
    """An `OutboundLpdu`, with its room's version, or "" when we do not know the room."""

    id: int
    json: str
    room_version: str


@dataclass(slots=True)
class Lane:
    """What waits of one room, in order, or the queued LPDUs."""

    name: str
    stable: bool
    stretches: list[Stretch] = field(default_factory=list)
    lpdus: list[QueuedLpdu] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.stretches)) + len(self.lpdus)


@dataclass(slots=True)
class Batch:
    """The content of one transaction. `cursors` says by stay id how far it brings the server, `lpdus` are the primary
    keys of queued LPDUs, `turn` is the lane after which the next transaction begins."""

    stable: bool
    turn: str
    max_bytes: int
    events: list[bytes] = field(default_factory=list)
    cursors: dict[int, int] = field(default_factory=dict)
    lpdus: list[int] = field(default_factory=list)
    size: int = len(_PREFIX) + len(_SUFFIX)

    def add(self, json: str) -> bool:
        """Add an event's stored JSON; False when it does not fit any more."""
        encoded = json.encode()
        size = self.size + len(encoded) + 1
        if size > self.max_bytes and self.events:
            return False
        self.events.append(encoded)
        self.size = size
        return True

    def body(self) -> bytes:
        """The request body."""
        return body_of(self.events)


def body_of(events: Sequence[bytes]) -> bytes:
    """A transaction's body: stored bytes side by side, canonical because they are."""
    return _PREFIX + b",".join(events) + _SUFFIX


def gather(server: str, *, turn: str, max_bytes: int, max_events: int = MAX_EVENTS) -> Batch | None:
    """The next batch for a server, which begins with the lane after `turn`; None when nothing waits.

    It holds at most `max_events`, and its body has at most `max_bytes` unless it is a single event.
    """
    lanes = _lanes(server, turn)
    if not lanes:
        return None
    batch = Batch(stable=lanes[0].stable, turn=turn, max_bytes=max_bytes)
    served = [lane for lane in lanes if lane.stable == batch.stable]
    shares = share_out(max_events, [len(lane) for lane in served])
    parts = {
        lane.name: (list(_first(lane.stretches, share)), lane.lpdus[:share])
        for lane, share in zip(served, shares, strict=True)
        if share
    }
    events = read([stretch for stretches, _ in parts.values() for stretch in stretches])
    passed_over = False
    for lane in lanes:
        if lane.name not in parts:
            passed_over = True
            continue
        count = len(batch.events)
        fits = _fill(batch, *parts[lane.name], events)
        if len(batch.events) > count and not passed_over:
            batch.turn = lane.name
        if not fits:
            break
    return batch


def share_out(places: int, demands: Sequence[int]) -> list[int]:
    """How many places each demand gets when they are given one by one in turns, the first demand first."""
    shares = [0] * len(demands)
    while places:
        open_ = [index for index, demand in enumerate(demands) if shares[index] < demand][:places]
        if not open_:
            break
        for index in open_:
            shares[index] += 1
        places -= len(open_)
    return shares


def _first(stretches: Sequence[Stretch], count: int) -> Iterator[Stretch]:
    for stretch in stretches:
        if count <= 0:
            return
        yield stretch.first(count)
        count -= len(stretch)


def _fill(
    batch: Batch, stretches: list[Stretch], lpdus: list[QueuedLpdu], events: dict[str, list[tuple[int, str]]]
) -> bool:
    """Add one lane's part; False when the batch is full before its end."""
    for stretch in stretches:
        for position, json in events.get(stretch.room_id, []):
            if stretch.after < position <= stretch.until:
                if not batch.add(json):
                    return False
                batch.cursors[stretch.stay_id] = position
        batch.cursors[stretch.stay_id] = stretch.until
    for lpdu in lpdus:
        if not batch.add(lpdu.json):
            return False
        batch.lpdus.append(lpdu.id)
    return True


def _lanes(server: str, turn: str) -> list[Lane]:
    """At most as many lanes as a transaction has places, from the one after `turn` on, around to `turn` itself."""
    later, earlier = _room_lanes(server, turn)
    lanes = later
    if len(lanes) < MAX_EVENTS:
        lanes += _lpdu_lane(server)
    return (lanes + earlier)[:MAX_EVENTS]


def _room_lanes(server: str, turn: str) -> tuple[list[Lane], list[Lane]]:
    """Rooms we are hub of with stays of the server that have not been sent to their end, or to the room's: those after
    `turn`, and the others."""
    # Two stays of one room are one lane: what the server missed of the earlier stay comes first.
    lanes: dict[str, Lane] = {}
    for stay_id, room_id, sent, until, version, _joined in prepared.execute(_UNFINISHED, [server, turn, server, turn]):
        lane = lanes.setdefault(room_id, Lane(room_id, uses_stable_paths(version)))
        lane.stretches.append(Stretch(stay_id, room_id, sent, until))
    later = [lane for lane in lanes.values() if lane.name > turn]
    return later, [lane for lane in lanes.values() if lane.name <= turn]


def _lpdu_lane(server: str) -> list[Lane]:
    """The queued LPDUs up to the first whose room has another path form than the one before."""
    lpdus = [QueuedLpdu(*row) for row in prepared.execute(_QUEUED, [server])]
    if not lpdus:
        return []
    forms = [uses_stable_paths(lpdu.room_version) for lpdu in lpdus]
    run = next((index for index, form in enumerate(forms) if form != forms[0]), len(forms))
    return [Lane(_LPDU_LANE, forms[0], lpdus=lpdus[:run])]


def read(stretches: Sequence[Stretch]) -> dict[str, list[tuple[int, str]]]:
    """The stretches' events as (position, JSON) by room, in order."""
    events: dict[str, list[tuple[int, str]]] = {}
    if stretches:
        columns = [(stretch.room_id, stretch.after, stretch.until) for stretch in stretches]
        for room_id, position, json in prepared.execute(_READ, [*map(list, zip(*columns, strict=True))]):
            events.setdefault(room_id, []).append((position, json))
    return events
