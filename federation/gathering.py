"""What a destination is sent next: events past its cursors, LPDUs in its queue and EDUs, rooms taking turns.

A transaction holds at most 50 events and 100 EDUs (draft, `PUT send`). Everything that waits is sorted into lanes: one
per room, one for LPDUs and one for EDUs. Within a lane order is kept; among lanes the 50 places are shared out one by
one, so that a room with a backlog does not keep others waiting, and the next transaction begins with the lane after
the last one served. EDUs have places of their own and share the bytes, so that large ones and large events take turns.
A transaction holds rooms of one path form only (decision 3); EDUs, which have none, go along with either, and take the
stable form alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from federation.edus.outgoing import WAITS, WaitingEdu, waiting_edus
from federation.paths import uses_stable_paths
from linmatrix import prepared

MAX_EVENTS = 50
"""Draft, `PUT send`: more entries in `pdus` are refused."""

MAX_EDUS = 100
"""The same of `edus`."""

# One half each for the rooms after a lane and for the others, so that both are ranges of an index.
_UNFINISHED_HALF = f"""
    SELECT stay.id, stay.room_id, stay.sent_position, LEAST(stay.left_position, room.head_position), room.version,
        stay.joined_position
    FROM rooms_roomserver stay JOIN rooms_room room ON room.room_id = stay.room_id
    WHERE stay.server = %s AND (stay.left_position IS NULL OR stay.sent_position < stay.left_position)
    AND room.role = 'hub' AND room.head_position > stay.sent_position AND stay.room_id {{}} %s
    ORDER BY stay.room_id, stay.joined_position LIMIT {MAX_EVENTS}
"""  # noqa: S608  a number of ours
# A row without a stay says that EDUs wait: a destination without any costs no statement about them.
_UNFINISHED = f"""
    ({_UNFINISHED_HALF.format(">")}) UNION ALL ({_UNFINISHED_HALF.format("<=")})
    UNION ALL (SELECT 0, '', 0, 0, '', 0 WHERE {WAITS}) ORDER BY 2, 6
"""

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

_PREFIX, _MIDDLE, _SUFFIX = b'{"edus":[', b'],"pdus":[', b"]}"
_LPDU_LANE, _EDU_LANE = "", " "  # before all room ids, which begin with "!"


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
    """What waits of one room, in order, or the queued LPDUs, or EDUs. `stable` is its path form, None for either."""

    name: str
    stable: bool | None
    stretches: list[Stretch] = field(default_factory=list)
    lpdus: list[QueuedLpdu] = field(default_factory=list)
    edus: list[WaitingEdu] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.stretches)) + len(self.lpdus)


@dataclass(slots=True)
class Batch:
    """The content of one transaction. `cursors` says by stay id how far it brings the server, `lpdus` are the primary
    keys of queued LPDUs, `edus` what is noted when the receiver has them (`federation.edus.outgoing`), `turn` is the
    lane after which the next transaction begins."""

    stable: bool
    turn: str
    max_bytes: int
    events: list[bytes] = field(default_factory=list)
    cursors: dict[int, int] = field(default_factory=dict)
    lpdus: list[int] = field(default_factory=list)
    edu_bodies: list[bytes] = field(default_factory=list)
    edus: list[Any] = field(default_factory=list)
    size: int = len(_PREFIX) + len(_MIDDLE) + len(_SUFFIX)

    def __len__(self) -> int:
        return len(self.events) + len(self.edus)

    def add(self, json: str) -> bool:
        """Add an event's stored JSON; False when it does not fit any more."""
        encoded = json.encode()
        if not self._has_room(len(encoded)):
            return False
        self.events.append(encoded)
        return True

    def add_edu(self, edu: WaitingEdu) -> bool:
        """Add an EDU; False when it does not fit any more."""
        if not self._has_room(len(edu.json)):
            return False
        self.edu_bodies.append(edu.json)
        self.edus.append(edu.mark)
        return True

    def _has_room(self, size: int) -> bool:
        size += self.size + 1
        if size > self.max_bytes and len(self):
            return False
        self.size = size
        return True

    def body(self) -> bytes:
        """The request body."""
        return body_of(self.events, self.edu_bodies)


def body_of(events: Sequence[bytes], edus: Sequence[bytes] = ()) -> bytes:
    """A transaction's body: stored bytes side by side, canonical because they are."""
    return _PREFIX + b",".join(edus) + _MIDDLE + b",".join(events) + _SUFFIX


def gather(server: str, *, turn: str, max_bytes: int, max_events: int = MAX_EVENTS) -> Batch | None:
    """The next batch for a server, which begins with the lane after `turn`; None when nothing waits.

    It holds at most `max_events`, EDUs included where that is one, and its body has at most `max_bytes` unless it is
    a single event or EDU. The caller holds the destination's row.
    """
    lanes = _lanes(server, turn, max_edus=MAX_EDUS if max_events > 1 else 1, max_bytes=max_bytes)
    if not lanes:
        return None
    if max_events == 1:
        lanes = lanes[:1]
    stable = next((lane.stable for lane in lanes if lane.stable is not None), True)
    batch = Batch(stable=stable, turn=turn, max_bytes=max_bytes)
    parts = _parts([lane for lane in lanes if lane.stable == stable], max_events)
    events = read([stretch for stretches, _ in parts.values() for stretch in stretches])
    passed_over = False
    for lane in lanes:
        if lane.name not in parts and not lane.edus:
            passed_over = True
            continue
        count = len(batch)
        fits = all(map(batch.add_edu, lane.edus)) if lane.edus else _fill(batch, *parts[lane.name], events)
        if len(batch) > count and not passed_over:
            batch.turn = lane.name
        if not fits:
            break
    return batch


def _parts(lanes: Sequence[Lane], places: int) -> dict[str, tuple[list[Stretch], list[QueuedLpdu]]]:
    """What each of these lanes may put into a transaction with so many places, by name; none without a place."""
    shares = share_out(places, [len(lane) for lane in lanes])
    return {
        lane.name: (list(_first(lane.stretches, share)), lane.lpdus[:share])
        for lane, share in zip(lanes, shares, strict=True)
        if share
    }


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


def _lanes(server: str, turn: str, *, max_edus: int, max_bytes: int) -> list[Lane]:
    """At most as many lanes of events as a transaction has places, and one of EDUs, from the one after `turn` on,
    around to `turn` itself."""
    lanes, edus_wait = _room_lanes(server, turn)
    later = [lane for lane in lanes if lane.name > turn]
    if len(later) < MAX_EVENTS:
        lanes += _lpdu_lane(server)

    def after_turn(lane: Lane) -> tuple[bool, str]:
        return lane.name <= turn, lane.name

    lanes = sorted(lanes, key=after_turn)[:MAX_EVENTS]
    if edus_wait and (edus := waiting_edus(server, most=max_edus, max_bytes=max_bytes)):
        lanes = sorted([*lanes, Lane(_EDU_LANE, None, edus=edus)], key=after_turn)
    return lanes


def _room_lanes(server: str, turn: str) -> tuple[list[Lane], bool]:
    """Rooms we are hub of with stays of the server that have not been sent to their end, or to the room's; and whether
    EDUs wait."""
    # Two stays of one room are one lane: what the server missed of the earlier stay comes first.
    lanes: dict[str, Lane] = {}
    edus_wait = False
    parameters = [server, turn, server, turn, server, server]
    for stay_id, room_id, sent, until, version, _joined in prepared.execute(_UNFINISHED, parameters):
        if not stay_id:
            edus_wait = True
            continue
        lane = lanes.setdefault(room_id, Lane(room_id, uses_stable_paths(version)))
        lane.stretches.append(Stretch(stay_id, room_id, sent, until))
    return list(lanes.values()), edus_wait


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
