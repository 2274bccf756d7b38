"""Many servers write at the same time, through any number of web processes and workers: each room has one valid line.

Eight participants send 25 transactions each into one hot room, each with an event for another room as well, while
bystanders write into those and the hub's own user talks in all. Of every fifth transaction an impatient twin is sent
beside it. The claims are then about what the hub has stored and what the participants have received.

The numbers of processes are those of `SHAPES`; with LINMATRIX_RACE=all those of `ALL_SHAPES`, with more rooms:

    LINMATRIX_RACE=all make test ARGS="tests/scenarios/test_race.py"
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Barrier

import psutil
import pytest

from federation.client import Answer
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.signing import KnownKeys
from linmatrix.stack.driver import Driver
from linmatrix.stack.processes import Deadline
from linmatrix.stack.server import Server
from tests.scenarios import records
from tests.scenarios.conftest import WEB_PROCESSES, WORKER_THREADS, make_server
from tests.scenarios.participants import ANSWER_SECONDS, Participant, participants
from tests.scenarios.waiting import eventually
from tests.scenarios.workers import one_more_worker
from tests.support.verification import published_keys, state_after, verify_line, verify_request


@dataclass(frozen=True)
class Shape:
    """How many processes a hub has."""

    web: int
    workers: int

    def __str__(self) -> str:
        return f"{self.web}-web-{self.workers}-workers"


ALL_SHAPES = [Shape(1, 1), Shape(1, 4), Shape(2, 2), Shape(4, 1), Shape(4, 2), Shape(4, 4)]
EVERYTHING = os.environ.get("LINMATRIX_RACE") == "all"
SHAPES = ALL_SHAPES if EVERYTHING else [Shape(WEB_PROCESSES, 2)]

OTHER_ROOMS = 12 if EVERYTHING else 2
RACERS = [f"racer{number}" for number in range(1, 9)]
BYSTANDERS = [f"bystander{number}" for number in range(1, OTHER_ROOMS + 1)]
TRANSACTIONS = 25
TWIN_EVERY = 5
OWN_MESSAGES = 25
CREATOR = "hugo"
TRY_AGAIN = (429, 503)


@dataclass(frozen=True)
class Race:
    """What was done, for the tests to look at what became of it."""

    hub: Server
    shape: Shape
    worker_logs: Sequence[Path]
    members: Mapping[str, Sequence[Participant]]
    """Who is in which room. The first one is where everybody wrote."""
    sent: Mapping[str, Sequence[Lpdu]]
    """What was sent into each room, in the order of each sender."""
    keys: KnownKeys

    @property
    def everybody(self) -> list[Participant]:
        return list({member.name: member for members in self.members.values() for member in members}.values())


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def race(request, authority, tmp_path_factory):
    """The race, run once for all that is claimed about it."""
    shape, folder = request.param, tmp_path_factory.mktemp("race")
    with ExitStack() as stack:
        if shape.web == WEB_PROCESSES:
            hub = request.getfixturevalue("hub")
        else:
            hub = stack.enter_context(make_server("racecourse", folder / "hub", authority, web_workers=shape.web))
        logs = [folder / f"worker{number}.log" for number in range(1, shape.workers)]
        for log in logs:
            stack.enter_context(one_more_worker(hub, threads=WORKER_THREADS, log=log))
        console = stack.enter_context(Driver(hub))
        everybody = stack.enter_context(
            participants(*RACERS, *BYSTANDERS, authority=authority, folder=folder, trusted=authority)
        )
        for log in logs:
            eventually(lambda log=log: "ready." in log.read_text(), "all workers run")
        racers, bystanders = everybody[: len(RACERS)], everybody[len(RACERS) :]
        hot, *others = (
            console.run("create_room", "--creator", CREATOR, "--join-rule", "public")[0] for _ in range(1 + OTHER_ROOMS)
        )
        members = {hot: list(racers), **{room_id: [bystanders[index]] for index, room_id in enumerate(others)}}
        targets = {racer: [hot, others[index % OTHER_ROOMS]] for index, racer in enumerate(racers)}
        for racer, (_, other) in targets.items():
            members[other].append(racer)
        _join_all(hub, members)
        targets |= {bystander: [room_id] for bystander, room_id in zip(bystanders, others, strict=True)}
        sent = _run(hub, console, targets)
        eventually(lambda: not records.waiting(hub), "everything was delivered")
        yield Race(hub, shape, [hub.log("worker"), *logs], members, sent, _keys(hub, everybody))


def _join_all(hub: Server, members: Mapping[str, Sequence[Participant]]) -> None:
    """Everybody joins at the same time."""
    joins = [(member, room_id) for room_id, joining in members.items() for member in joining]
    with ThreadPoolExecutor(len(joins)) as pool:
        for answer in pool.map(lambda join: join[0].join(hub.server_name, join[1]), joins):
            assert answer.status == 200, answer


def _run(hub: Server, console: Driver, targets: Mapping[Participant, Sequence[str]]) -> dict[str, list[Lpdu]]:
    """Have everybody write at once, an event for each of their rooms in a transaction; what went into each room."""
    prepared = {
        sender: [
            [_message(hub, sender, room_id, f"{sender.name} {number}") for room_id in room_ids]
            for number in range(TRANSACTIONS)
        ]
        for sender, room_ids in targets.items()
    }
    start = Barrier(len(targets) + 1)
    rooms = list(dict.fromkeys(room_id for room_ids in targets.values() for room_id in room_ids))
    with ThreadPoolExecutor(len(targets)) as pool:
        running = [pool.submit(_write, hub, sender, batches, start) for sender, batches in prepared.items()]
        start.wait()
        for number in range(OWN_MESSAGES):
            console.run("send", rooms[number % len(rooms)], CREATOR, f"{CREATOR} {number}")
        for done in running:
            done.result()
    sent: dict[str, list[Lpdu]] = {room_id: [] for room_id in rooms}
    for batches in prepared.values():
        for batch in batches:
            for lpdu in batch:
                sent[lpdu.event["room_id"]].append(lpdu)
    return sent


def _message(hub: Server, sender: Participant, room_id: str, text: str) -> Lpdu:
    return sender.lpdu(hub.server_name, room_id, type="m.room.message", content={"body": text})


def _write(hub: Server, sender: Participant, batches: Sequence[Sequence[Lpdu]], start: Barrier) -> None:
    """Send one transaction after the other, as the draft wants it; every fifth one twice at the same time."""
    stable = sender.name[: sender.name.index(".")][-1] in "2468"  # some use one path, some the other
    start.wait()
    with ThreadPoolExecutor(2) as pool:
        for number, lpdus in enumerate(batches):
            twins = 2 if number % TWIN_EVERY == 0 else 1
            attempts = [
                pool.submit(_insist, hub, sender, lpdus, txn_id=f"{number}", stable=stable) for _ in range(twins)
            ]
            for attempt in attempts:
                answer = attempt.result()
                assert (answer.status, answer.content) == (200, {"failed_pdus": {}}), answer


def _insist(hub: Server, sender: Participant, lpdus: Sequence[Lpdu], *, txn_id: str, stable: bool) -> Answer:
    """Send a transaction, and the same again while the hub asks for that: on a machine that does much else a wait for
    the hot room may come to its limit."""
    deadline = Deadline(ANSWER_SECONDS)
    while True:
        answer = sender.send(hub.server_name, lpdus, txn_id=txn_id, stable=stable)
        if answer.status not in TRY_AGAIN or not deadline.pause():
            return answer


def _keys(hub: Server, everybody: Sequence[Participant]) -> KnownKeys:
    """The keys that all of them publish, as anybody gets them."""
    names = [hub.server_name, *(member.name for member in everybody)]
    get = partial(everybody[0].http.request, headers={}, timeout=ANSWER_SECONDS, max_response_bytes=65536)
    answers = [published_keys(get(name, "GET", "/_matrix/key/v2/server").body) for name in names]
    return {key_id: keys for answer in answers for key_id, keys in answer.items()}


def test_the_hub_runs_as_many_processes_as_it_is_said_to_and_all_workers_deliver(race):
    (web,) = (
        process
        for process in psutil.Process().children()
        if "granian" in process.cmdline() and str(race.hub.port) in process.cmdline()
    )
    assert len(web.children()) == race.shape.web
    assert len(race.worker_logs) == race.shape.workers
    for log in race.worker_logs:
        assert "outcome=delivered" in log.read_text(), log


def test_each_room_has_one_line_without_gaps(race):
    for room_id in race.members:
        line = records.line(race.hub, room_id)
        assert [record.position for record in line] == list(range(1, len(line) + 1))
        assert records.head(race.hub, room_id) == (len(line), line[-1].event_id)


def test_every_event_passes_all_checks_from_its_bytes_alone(race):
    """Hashes, signatures, ids, predecessors, auth events and the authorization rules, once more."""
    for room_id in race.members:
        line = records.line(race.hub, room_id)
        verified = verify_line([record.json for record in line], hub=race.hub.server_name, keys=race.keys)
        assert [(event.event_id, event.lpdu_id) for event in verified] == [
            (record.event_id, record.lpdu_id) for record in line
        ]
        assert {record.verdict for record in line} == {"accepted"}


def test_each_lpdu_is_in_its_room_once_and_in_its_senders_order(race):
    for room_id, sent in race.sent.items():
        of_messages = {lpdu.lpdu_id for lpdu in sent}
        order = [record.lpdu_id for record in records.line(race.hub, room_id) if record.lpdu_id in of_messages]
        assert Counter(order) == Counter(of_messages)
        position = {lpdu_id: index for index, lpdu_id in enumerate(order)}
        for sender in {lpdu.event["sender"] for lpdu in sent}:
            positions = [position[lpdu.lpdu_id] for lpdu in sent if lpdu.event["sender"] == sender]
            assert positions == sorted(positions)


def test_nothing_else_is_in_the_rooms(race):
    for room_id, members in race.members.items():
        line = [event.event for event in _verified(race, room_id)]
        messages = [event for event in line if event["type"] == "m.room.message"]
        own = [event for event in messages if event["sender"] == f"@{CREATOR}:{race.hub.server_name}"]
        joins = [event for event in line if event["type"] == "m.room.member" and event["sender"] != line[0]["sender"]]
        assert len(messages) - len(own) == len(race.sent[room_id])
        assert sorted(event["sender"] for event in joins) == sorted(member.user("user") for member in members)
    own_messages = [
        event
        for room_id in race.members
        for event in _verified(race, room_id)
        if event.event["sender"].startswith(f"@{CREATOR}:") and event.event["type"] == "m.room.message"
    ]
    assert len(own_messages) == OWN_MESSAGES


def test_the_state_is_what_the_line_leads_to(race):
    for room_id in race.members:
        expected = {key: event.event_id for key, event in state_after(_verified(race, room_id)).items()}
        assert records.current_state(race.hub, room_id) == expected


def test_the_audience_is_who_has_joined_and_everybody_was_sent_to_the_end(race):
    for room_id, members in race.members.items():
        last, _ = records.head(race.hub, room_id)
        audience = records.stays(race.hub, room_id)
        assert audience.pop(race.hub.server_name)[0] == 1
        assert audience == {member.name: (1, last) for member in members}


def test_every_participant_received_every_event_since_its_join_once_and_in_order(race):
    for room_id, members in race.members.items():
        line = _verified(race, room_id)
        for member in members:
            joined = next(index for index, event in enumerate(line) if event.event["sender"] == member.user("user"))
            assert member.events(room_id) == [event.event for event in line[joined:]], member.name


def test_no_participant_received_events_of_a_room_that_it_is_not_in(race):
    for member in race.everybody:
        rooms = {room_id for room_id, members in race.members.items() if member in members}
        assert {pdu["room_id"] for delivery in member.deliveries for pdu in delivery.pdus} == rooms


def test_transactions_came_one_at_a_time_signed_and_unchanged_when_repeated(race):
    for member in race.everybody:
        assert member.most_at_once == 1
        assert len({(item.target, item.body) for item in member.deliveries}) == len(member.transactions)
        for delivery in member.deliveries:
            assert 1 <= len(delivery.pdus) <= 50
            verify_request(
                method="PUT",
                target=delivery.target,
                authorization=delivery.authorization,
                body=delivery.body,
                origin=race.hub.server_name,
                destination=member.name,
                keys=race.keys,
            )


def _verified(race, room_id):
    """A room's events, checked."""
    texts = [record.json for record in records.line(race.hub, room_id)]
    return verify_line(texts, hub=race.hub.server_name, keys=race.keys)
