"""Whether servers that talked to each other hold the same, once nothing is under way: what any fault must not change.

`differences` compares snapshots of all servers with each other and with what they had promised, and says in words what
is wrong; an empty list is the verdict "nothing lost, nothing twice, in order". `forgotten` holds at any moment, in the
middle of any fault: what has to be sent is known to those who look for it. `agreement` waits for both.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import psycopg

from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.hashes import event_id
from linmatrix.protocol.redaction import redact
from linmatrix.stack.server import Server
from tests.scenarios.snapshots import Copy, Destination, Entry, Snapshot, Stay, snapshot
from tests.scenarios.waiting import POLL_SECONDS, SECONDS

ENDED = frozenset(("sent", "refused"))
"""What becomes of LPDUs; those queued or set aside have no end yet."""

SHOWN = 3
"""Ids named of a long list of missing events."""


@dataclass(frozen=True, slots=True)
class Promise:
    """An event that `server` has said it accepted: by its own id, or by that of its LPDU.

    `refusable`: a participant takes an event of its user before the hub has decided, which may refuse it.
    """

    server: str
    room_id: str
    id: str
    refusable: bool = False


def agreement(servers: Sequence[Server], promises: Iterable[Promise] = (), *, seconds: float = SECONDS) -> None:
    """Wait until the servers agree; raises AssertionError with the last differences when they do not in time, and
    at once for what waiting does not mend."""
    promised = list(promises)
    end = time.monotonic() + seconds
    while True:
        found, lasting = _look(servers, promised)
        assert not lasting, "\n".join(lasting)
        if not found:
            return
        assert time.monotonic() < end, "\n".join([f"after {seconds:.0f} s:", *found])
        time.sleep(POLL_SECONDS)


def _look(servers: Sequence[Server], promises: Sequence[Promise]) -> tuple[list[str], list[str]]:
    try:
        taken = [snapshot(server.database_url, server=server.server_name) for server in servers]
    except psycopg.OperationalError as error:
        return [f"a database is away: {error}"], []
    return differences(taken, promises), [text for one in taken for text in forgotten(one)]


def differences(taken: Sequence[Snapshot], promises: Iterable[Promise] = ()) -> list[str]:
    """Everything in which servers that should be at rest differ from what they should hold."""
    by_name = {one.server: one for one in taken}
    found = [text for one in taken for text in [*_own_lines(one), *_under_way(one), *forgotten(one)]]
    for hub in taken:
        for copy in hub.rooms.values():
            if copy.role == "hub":
                found += _room(copy, hub, by_name)
    return found + [text for promise in promises for text in _broken(promise, by_name)]


def forgotten(one: Snapshot) -> list[str]:
    """What has to be sent and nobody looks for, since its destination's mark is missing."""
    waiting = {item.destination: f"transaction {item.txn_id}" for item in one.transactions if not item.set_aside}
    waiting |= {lpdu.destination: f"LPDU {lpdu.lpdu_id}" for lpdu in one.lpdus if lpdu.status == "queued"}
    for copy in one.rooms.values():
        if copy.role == "hub":
            waiting |= {stay.server: f"what follows {stay.sent} in {copy.room_id}" for stay in _behind(copy, one)}
    marked = {server for server, row in one.destinations.items() if row.pending}
    return [
        f"{one.server} forgot {server}: {what} waits, and the destination is not marked"
        for server, what in sorted(waiting.items())
        if server not in marked
    ]


def _own_lines(one: Snapshot) -> list[str]:
    """What is wrong with a server's lines by themselves."""
    found = []
    for copy in one.rooms.values():
        where = f"{one.server}, {copy.room_id}"
        if copy.line and (copy.line[-1].position, copy.line[-1].event_id) != (copy.head_position, copy.head_event_id):
            found.append(f"{where}: the head is {copy.head_position}, the last event {copy.line[-1].position}")
        if copy.role == "hub" and [entry.position for entry in copy.line] != list(range(1, len(copy.line) + 1)):
            found.append(f"{where}: positions do not count from 1 without gaps")
        found += [f"{where}: {text}" for text in _links(copy.line)]
        found += [f"{where}: history is missing from {gap} on" for gap in copy.gaps]
        found += [f"{where}: finding {text}" for text in copy.findings]
        found += [
            f"{where}: {entry.event_id} at {entry.position} is {entry.verdict}"
            for entry in copy.line
            if entry.verdict not in ("accepted", "redacted")
        ]
    return found


def _links(line: Sequence[Entry]) -> list[str]:
    """Events that are not what their ids say, or do not name the one before them."""
    found = []
    before: list[str] = []
    for entry in line:
        try:
            event = canonical_json.loads_object(entry.json.encode())
            if event_id(event) != entry.event_id:
                found.append(f"{entry.event_id} at {entry.position} has the id {event_id(event)} by its bytes")
            if event["prev_events"] != before:
                found.append(f"{entry.event_id} at {entry.position} follows {event['prev_events']}, not {before}")
        except (ProtocolError, KeyError) as error:
            found.append(f"{entry.event_id} at {entry.position} is no event: {error}")
        before = [entry.event_id]
    lpdus = Counter(entry.lpdu_id for entry in line if entry.lpdu_id)
    return found + [f"LPDU {lpdu} is in the line {count} times" for lpdu, count in lpdus.items() if count > 1]


def _under_way(one: Snapshot) -> list[str]:
    """What a server at rest does not have."""
    found = [f"{one.server} has still to send to {_told(row)}" for row in one.destinations.values() if row.pending]
    found += [
        f"{one.server}: transaction {item.txn_id} of {item.events} events to {item.destination} "
        f"{'was set aside' if item.set_aside else f'is open after {item.attempts} attempts'}: {item.last_error}"
        for item in one.transactions
    ]
    found += [
        f"{one.server}: LPDU {lpdu.lpdu_id} to {lpdu.destination} is {lpdu.status} {lpdu.reason}".rstrip()
        for lpdu in one.lpdus
        if lpdu.status not in ENDED
    ]
    found += [f"{one.server}: the join of {join} is under way" for join in one.joins]
    return found + [f"{one.server}: the hub has not been told of the leave of {leave}" for leave in one.leaves]


def _told(row: Destination) -> str:
    due = f"due at {row.next_attempt:%X}" if row.next_attempt else "due now"
    lease = f", leased until {row.lease_until:%X}" if row.lease_until else ""
    return f"{row.server} ({due}{lease}{f', {row.last_error}' if row.last_error else ''})"


def _behind(copy: Copy, hub: Snapshot) -> list[Stay]:
    """Stays whose servers have not been sent everything."""
    others = [stay for stay in copy.stays if stay.server != hub.server]
    return [stay for stay in others if stay.sent < _end(stay, copy)]


def _end(stay: Stay, copy: Copy) -> int:
    return copy.head_position if stay.left is None else stay.left


def _room(copy: Copy, hub: Snapshot, by_name: dict[str, Snapshot]) -> list[str]:
    """What is wrong with a room between its hub and the servers that are, or were, in it."""
    found = [
        f"{hub.server}, {copy.room_id}: {stay.server} was sent up to {stay.sent} of {_end(stay, copy)}"
        for stay in copy.stays
        if stay.server != hub.server and stay.sent != _end(stay, copy)
    ]
    # A stay of one event tells a server outside of the room that an invite has ended; it holds no copy for that.
    stays = [stay for stay in copy.stays if stay.server in by_name and stay.joined != stay.left]
    for server in sorted({stay.server for stay in stays} - {hub.server}):
        theirs = by_name[server].rooms.get(copy.room_id)
        if theirs is None:
            found.append(f"{server} does not know {copy.room_id}, which it is or was in")
            continue
        its_stays = [stay for stay in stays if stay.server == server]
        found += [f"{server}, {copy.room_id}: {text}" for text in _copy(theirs, copy, its_stays)]
        if its_stays[-1].left is None:
            found += [f"{server}, {copy.room_id}: {text}" for text in _state(theirs, copy)]
    return found


def _copy(theirs: Copy, hubs: Copy, stays: Sequence[Stay]) -> list[str]:
    """Where a participant's line is another than the hub's."""
    positions = {entry.event_id: entry.position for entry in hubs.line}
    texts = {entry.event_id: entry.json for entry in hubs.line}
    held = {entry.event_id for entry in theirs.line}
    found = [f"has {event}, which the hub does not have" for event in sorted(held - positions.keys())]
    common = [entry for entry in theirs.line if entry.event_id in positions]
    found += [
        f"has {two.event_id} after {one.event_id}; the hub has them the other way round"
        for one, two in pairwise(common)
        if positions[two.event_id] < positions[one.event_id]
    ]
    for stay in stays:
        end = _end(stay, hubs)
        of_stay = [entry.event_id for entry in hubs.line if stay.joined <= entry.position <= end]
        if missing := [event for event in of_stay if event not in held]:
            named = ", ".join(f"{event} at {positions[event]}" for event in missing[:SHOWN])
            found.append(f"lacks {len(missing)} of {len(of_stay)} events of its stay from {stay.joined} on: {named}")
    for entry in common:
        hubs_text = texts[entry.event_id]
        # What was redacted after a server had left it still has; what it may not read it has redacted only.
        unaware = held.isdisjoint(hubs.redactions.get(entry.event_id, ()))
        kept = unaware and _redacted(entry.json) == hubs_text
        if not kept and entry.json not in (hubs_text, _redacted(hubs_text)):
            found.append(f"has {entry.event_id} with other bytes than the hub")
    return found


def _redacted(text: str) -> str:
    return canonical_json.dumps(redact(canonical_json.loads_object(text.encode()))).decode()


def _state(theirs: Copy, hubs: Copy) -> list[str]:
    """Where the current state differs."""
    keys = sorted(
        {key for key in theirs.state.keys() | hubs.state.keys() if theirs.state.get(key) != hubs.state.get(key)}
    )
    return [
        f"state {type_} {state_key!r} is {theirs.state.get((type_, state_key))}, at the hub "
        f"{hubs.state.get((type_, state_key))}"
        for type_, state_key in keys
    ]


def _broken(promise: Promise, by_name: dict[str, Snapshot]) -> list[str]:
    """Why an accepted event is not where it should be; nothing when it is."""
    hubs = [one for one in by_name.values() if (copy := one.rooms.get(promise.room_id)) and copy.role == "hub"]
    if not hubs:
        return [f"nobody hosts {promise.room_id}"]
    line = hubs[0].rooms[promise.room_id].line
    if any(promise.id in (entry.event_id, entry.lpdu_id) for entry in line):
        return []
    refusals = {lpdu.lpdu_id: lpdu.reason for one in by_name.values() for lpdu in one.lpdus if lpdu.status == "refused"}
    if promise.id in refusals and promise.refusable:
        return []
    why = f"; it was refused: {refusals[promise.id]}" if promise.id in refusals else ""
    return [f"{promise.server} accepted {promise.id}, which is not in {promise.room_id}{why}"]
