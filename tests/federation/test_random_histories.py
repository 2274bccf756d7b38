"""Random histories of a room, through a hub's line and a participant's: all say the same of every event.

Members of three servers try what they may and what they may not. Each verdict is compared with a naive replay of the
draft's rules (`tests.support.naive_replay`), and the lines and states of the servers with one another. The two roles
share the test's database one after the other: what the hub wrote is rolled back before the participant begins.

LINMATRIX_HISTORIES=5000 makes a long run of it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys.local import signing_key
from linmatrix.protocol import canonical_json, completion
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.events import Lpdu, Pdu, check_schema
from linmatrix.protocol.receipt import receive_lpdu, receive_pdu
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from rooms.history import insert_history
from rooms.hub import append_lpdus, append_own
from rooms.models import Event, Finding, Gap, Room, RoomServer, StateEntry
from rooms.participant import append_pdus, begin_stay
from tests.support import naive_replay
from tests.support.hosted import keys_of
from tests.support.naive_replay import Entry
from tests.support.peers import US, Peer

pytestmark = pytest.mark.django_db

HISTORIES = int(os.environ.get("LINMATRIX_HISTORIES", "40"))
LENGTH = 30
ROOM_ID = f"!room:{US}"
PEERS = {name: Peer(name) for name in ("part.example.org", "third.example.org")}
USERS = [f"@creator:{US}", f"@helper:{US}", *(f"@{user}:{name}" for name in PEERS for user in ("one", "two"))]
CREATOR = USERS[0]
TS = 1_700_000_000_000

PROFILE = settings(
    max_examples=HISTORIES,
    deadline=None,  # a busy machine is no finding
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Action:
    """What a user tries. `again` repeats the user's LPDU of so many events ago instead, where there is one."""

    sender: str
    type: str = "m.room.message"
    state_key: str | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    again: int = 0


def membership(membership: Any, sender: str, target: str | None) -> Action:
    return Action(sender, "m.room.member", target, {"membership": membership})


users = st.sampled_from(USERS)
peers_users = st.sampled_from(USERS[2:])
leaders = st.sampled_from([CREATOR, CREATOR, CREATOR, *USERS[1:4]])
levels = st.sampled_from([0, 0, 10, 50, 50, 100, 101])
bad_levels: st.SearchStrategy = st.sampled_from([True, None, "50", 50.5, [], {}])
power_levels = st.fixed_dictionaries(
    {"users": st.dictionaries(users, levels, max_size=3).map(lambda entries: {CREATOR: 100, **entries})},
    optional={
        **dict.fromkeys(naive_replay.FIELDS, levels),
        "events": st.dictionaries(st.sampled_from(["m.room.name", "m.room.power_levels", "m.room.message"]), levels),
    },
)
wrong_power_levels = st.one_of(
    st.builds(lambda name, value: {name: value}, st.sampled_from(naive_replay.FIELDS), bad_levels),
    st.builds(lambda value: {"users": {CREATOR: value}}, bad_levels),
    st.sampled_from([{}, {"users": []}, {"users": {"nobody": 1}}, {"events": 5}, {"events": {"a\0b": 101}}]),
    st.dictionaries(users, levels, max_size=3).map(lambda entries: {"users": entries}),
)
join_rules = st.sampled_from(["public", "public", "invite", "knock"])
odd_join_rules = st.sampled_from([{"join_rule": "restricted"}, {"join_rule": 5}, {}])


def of_state(type: str, contents: st.SearchStrategy, senders: st.SearchStrategy = leaders) -> st.SearchStrategy:
    return st.builds(lambda sender, content: Action(sender, type, "", content), senders, contents)


actions = st.one_of(
    st.builds(Action, users, content=st.just({"body": "hello"})),
    st.builds(lambda user: membership("join", user, user), users),
    st.builds(lambda user: membership("join", user, user), peers_users),
    st.builds(lambda user: membership("leave", user, user), users),
    st.builds(lambda user: membership("knock", user, user), peers_users),
    st.builds(membership, st.sampled_from(["invite", "invite", "leave", "ban"]), leaders, users),
    st.builds(
        membership,
        st.sampled_from(["join", "invite", "leave", "ban", "knock", "owner", 5, None]),
        users,
        users | st.sampled_from([None, "", "nobody"]),
    ),
    of_state("m.room.power_levels", power_levels),
    of_state("m.room.power_levels", wrong_power_levels),
    of_state("m.room.join_rules", join_rules.map(lambda rule: {"join_rule": rule})),
    of_state("m.room.join_rules", join_rules.map(lambda rule: {"join_rule": rule}) | odd_join_rules, users),
    of_state("m.room.name", st.just({"name": "a room"}), users),
    of_state("m.room.create", st.sampled_from([{"room_version": version} for version in ROOM_VERSIONS]), users),
    st.builds(lambda user, key: Action(user, "org.example.status", key, {"on": True}), users, users),
    st.builds(lambda user: Action(user, "m.room.redaction", None, {"redacts": "$something"}), users),
    st.builds(lambda user, ago: Action(user, again=ago), peers_users, st.integers(1, 5)),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[Action]]:
    """A room version and what is tried in a room of it, the creation first and mostly set up as rooms are.

    Of several things that a user might try, most often one is taken that is allowed: what is forbidden is more, and
    rooms in which nothing happens would show little.
    """
    version = draw(st.sampled_from(sorted(ROOM_VERSIONS)))
    content = {"room_version": version, **draw(st.sampled_from([{}, {}, {}, {"m.federate": False}]))}
    tried = [Action(CREATOR, "m.room.create", "", content)]
    if draw(st.integers(0, 9)):
        tried.append(membership("join", CREATOR, CREATOR))
        tried += draw(st.lists(of_state("m.room.power_levels", power_levels, st.just(CREATOR)), max_size=1))
        rules = join_rules.map(lambda rule: {"join_rule": rule})
        tried += draw(st.lists(of_state("m.room.join_rules", rules, st.just(CREATOR)), max_size=1))
        tried += [membership("invite", CREATOR, user) for user in draw(st.lists(peers_users, max_size=3))]
    line: list[Entry] = []
    for action in tried:
        _try(action, line, version)
    for _ in range(draw(st.integers(5, LENGTH))):
        candidates = draw(st.lists(actions, min_size=1, max_size=6))
        at_will = draw(st.integers(0, 3)) == 0
        chosen = candidates[0] if at_will else next((one for one in candidates if _allows(one, line, version)), None)
        tried.append(chosen or candidates[0])
        _try(tried[-1], line, version)
    return version, tried


def _allows(action: Action, line: Sequence[Entry], version: str) -> bool:
    return naive_replay.allows(event_of(action, len(line)), line, version=version)


def _try(action: Action, line: list[Entry], version: str) -> None:
    if not action.again and _allows(action, line, version):
        line.append(Entry({**event_of(action, len(line)), "auth_events": []}, f"${len(line)}"))


@contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def event_of(action: Action, number: int) -> dict[str, Any]:
    return completion.new_event(
        room_id=ROOM_ID,
        sender=action.sender,
        type=action.type,
        content=dict(action.content),
        origin_server_ts=TS + number,
        state_key=action.state_key,
    )


class Attempts:
    """What the users send: own events of the hub's users, and LPDUs of the others', some of them twice."""

    def __init__(self, keys: Mapping) -> None:
        self._keys = keys
        self._sent: dict[str, list[Lpdu]] = {}

    def make(self, action: Action, number: int) -> dict[str, Any] | Lpdu:
        peer = PEERS.get(naive_replay.domain(action.sender))
        event = event_of(action, number)
        if peer is None:
            return event
        sent = self._sent.setdefault(action.sender, [])
        if action.again and sent:
            return sent[-min(action.again, len(sent))]
        lpdu = completion.make_lpdu(event, hub_server=US, key=peer.key)
        as_received = canonical_json.loads(canonical_json.dumps(lpdu.event))
        sent.append(receive_lpdu(check_schema(as_received), keys=self._keys))
        return sent[-1]


class Hub:
    """The real hub's line, and the naive one beside it."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.line: list[Entry] = []
        self._events_of_lpdus: dict[str, str] = {}
        Room.objects.create(room_id=ROOM_ID, version=version, role=Room.Role.HUB, hub_server=US)

    def take_own(self, event: dict[str, Any]) -> None:
        allowed = naive_replay.allows(event, self.line, version=self.version)
        if allowed:
            self._check_completed(append_own(ROOM_ID, [event], now=timezone.now())[0])
        else:
            with pytest.raises(Rejected):
                append_own(ROOM_ID, [event], now=timezone.now())

    def take(self, lpdus: Sequence[Lpdu]) -> None:
        for lpdu, outcome in zip(lpdus, append_lpdus(ROOM_ID, lpdus, now=timezone.now()), strict=True):
            if lpdu.lpdu_id in self._events_of_lpdus:
                assert outcome.known_event_id == self._events_of_lpdus[lpdu.lpdu_id]
                continue
            allowed = naive_replay.allows(lpdu.event, self.line, version=self.version)
            assert (outcome.refusal is None) == allowed, f"{outcome.refusal}: {lpdu.event}"
            if outcome.pdu is not None:
                self._events_of_lpdus[lpdu.lpdu_id] = outcome.pdu.event_id
                self._check_completed(outcome.pdu)

    def _check_completed(self, pdu: Pdu) -> None:
        assert pdu.event["auth_events"] == naive_replay.selection(pdu.event, self.line)
        assert pdu.event["prev_events"] == [entry.event_id for entry in self.line[-1:]]
        self.line.append(Entry(pdu.event, pdu.event_id))


def grouped(made: Sequence[dict[str, Any] | Lpdu], sizes: Iterator[int]) -> Iterator[list[Lpdu] | dict[str, Any]]:
    """Own events one by one, LPDUs in runs, as a transaction brings them."""
    run: list[Lpdu] = []
    for item in made:
        if isinstance(item, Lpdu):
            run.append(item)
            if len(run) < next(sizes):
                continue
        if run:
            yield run
            run = []
        if not isinstance(item, Lpdu):
            yield item
    if run:
        yield run


def sizes_from(draw: Any) -> Iterator[int]:
    while True:
        yield draw(st.integers(1, 8))


def received(texts: Sequence[str], keys: Mapping) -> list[Pdu]:
    """Events as they come over the wire, through the checks on receipt."""
    events = [check_schema(canonical_json.loads(text.encode())) for text in texts]
    return [receive_pdu(event, hub=US, keys=keys) for event in events]


def stored_line() -> list[tuple[str, str, str]]:
    events = Event.objects.filter(position__isnull=False).order_by("position")
    return list(events.values_list("event_id", "json", "verdict"))


def stored_state() -> dict[tuple[str, str], str]:
    current = StateEntry.objects.filter(replaced_at__isnull=True)
    return {(entry.type, entry.state_key): entry.event_id for entry in current}


def stored_audience() -> dict[str, int]:
    return dict(RoomServer.objects.filter(left_position__isnull=True).values_list("server", "joined_users"))


def participate(version: str) -> None:
    Room.objects.create(room_id=ROOM_ID, version=version, role=Room.Role.PARTICIPANT, hub_server=US)


def take_as_participant(pdus: Sequence[Pdu], sizes: Iterator[int]) -> None:
    rest = list(pdus)
    while rest:
        size = next(sizes)
        append_pdus(ROOM_ID, rest[:size], now=timezone.now())
        del rest[:size]


@PROFILE
@given(histories(), st.data())
def test_hub_participant_and_naive_replay_agree_on_every_event(history, data) -> None:
    version, tried = history
    keys, sizes = keys_of(*PEERS.values()), sizes_from(data.draw)
    attempts = Attempts(keys)
    with rolled_back():
        hub = Hub(version)
        for item in grouped([attempts.make(action, number) for number, action in enumerate(tried)], sizes):
            hub.take(item) if isinstance(item, list) else hub.take_own(item)
        line, state, audience = stored_line(), stored_state(), stored_audience()
    assert [event_id for event_id, _, _ in line] == [entry.event_id for entry in hub.line]
    assert state == naive_replay.state(hub.line)
    with rolled_back():
        participate(version)
        take_as_participant(received([text for _, text, _ in line], keys), sizes)
        assert (stored_line(), stored_state(), stored_audience()) == (line, state, audience)
        assert not Finding.objects.exists()


def test_row96_a_hub_takes_a_knock_where_the_join_rule_is_knock() -> None:
    knock = membership("knock", USERS[2], USERS[2])
    rule = Action(CREATOR, "m.room.join_rules", "", {"join_rule": "knock"})
    create = Action(CREATOR, "m.room.create", "", {"room_version": "I.1"})
    attempts, hub = Attempts(keys_of(*PEERS.values())), Hub("I.1")
    for number, action in enumerate([create, membership("join", CREATOR, CREATOR), rule, knock]):
        made = attempts.make(action, number)
        hub.take([made]) if isinstance(made, Lpdu) else hub.take_own(made)


class DishonestHub:
    """A hub that puts everything into its line, some of it with auth events of its choice (conformance row 59)."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.line: list[Entry] = []
        self.pdus: list[Pdu] = []
        self._lpdus: set[str] = set()

    def take(self, item: dict[str, Any] | Lpdu, citing: str) -> None:
        lpdu = item if isinstance(item, Lpdu) else None
        event = item.event if isinstance(item, Lpdu) else item
        pdu = completion.complete(
            event,
            auth_events=self._citations(event, citing),
            prev_event=self.line[-1].event_id if self.line else None,
            server=US,
            key=signing_key(),
            lpdu=lpdu,
        )
        if any(pdu.event_id == other.event_id for other in self.pdus):
            return
        replayed = pdu.lpdu_id in self._lpdus
        self._lpdus |= {pdu.lpdu_id} if pdu.lpdu_id else set()
        allowed = not replayed and naive_replay.allows(pdu.event, self.line, version=self.version)
        self.line.append(Entry(pdu.event, pdu.event_id, rejected=not allowed))
        self.pdus.append(pdu)

    def _citations(self, event: Mapping[str, Any], citing: str) -> list[str]:
        selected = naive_replay.selection(event, self.line)
        if citing == "no power levels":
            powers = naive_replay.current(self.line, "m.room.power_levels", "")
            return [event_id for event_id in selected if powers is None or event_id != powers.event_id]
        if citing == "the last event":
            return [*selected, *(entry.event_id for entry in self.line[-1:] if entry.event_id not in selected)]
        if citing == "something unknown":
            return [*selected, "$unknown"]
        return selected


CITING = st.sampled_from(["current"] * 8 + ["no power levels", "the last event", "something unknown"])


@PROFILE
@given(histories(), st.data())
def test_a_participant_rejects_what_the_naive_replay_refuses_of_a_dishonest_hubs_line(history, data) -> None:
    version, tried = history
    keys = keys_of(*PEERS.values())
    attempts, hub = Attempts(keys), DishonestHub(version)
    for number, action in enumerate(tried):
        hub.take(attempts.make(action, number), "current" if number == 0 else data.draw(CITING))
    with rolled_back():
        participate(version)
        texts = [pdu.encoded.decode() for pdu in hub.pdus]
        take_as_participant(received(texts, keys), sizes_from(data.draw))
        line = stored_line()
        assert [event_id for event_id, _, _ in line] == [entry.event_id for entry in hub.line]
        rejected = {event_id for event_id, _, verdict in line if verdict == "rejected"}
        assert rejected == {entry.event_id for entry in hub.line if entry.rejected}
        assert stored_state() == naive_replay.state(hub.line)
        found = Finding.objects.filter(kind__in=["rejected", "replay"]).values_list("event_id", flat=True)
        assert set(found) == rejected


def is_join_from_elsewhere(event: Mapping[str, Any]) -> bool:
    elsewhere = naive_replay.domain(event["sender"]) != US
    return elsewhere and event["type"] == "m.room.member" and event["content"].get("membership") == "join"


@PROFILE
@given(histories(), st.data())
def test_whoever_joins_in_the_middle_comes_to_the_same_line_and_state(history, data) -> None:
    version, tried = history
    keys = keys_of(*PEERS.values())
    attempts, hub = Attempts(keys), DishonestHub(version)
    for number, action in enumerate(tried):
        made = attempts.make(action, number)
        before = len(hub.line)
        hub.take(made, "current")
        if hub.line[-1].rejected:  # an honest hub after all
            del hub.line[before:], hub.pdus[before:]
    pdus = received([pdu.encoded.decode() for pdu in hub.pdus], keys)
    joins = [index for index, pdu in enumerate(pdus) if is_join_from_elsewhere(pdu.event)]
    if not joins:
        return
    at = data.draw(st.sampled_from(joins))
    by_id = {pdu.event_id: pdu for pdu in pdus}
    state_ids = set(naive_replay.state(hub.line[:at]).values())
    cited = [cited for event_id in state_ids for cited in by_id[event_id].event["auth_events"]]
    chain = [by_id[entry.event_id] for entry in naive_replay.auth_chain(cited, hub.line[:at])]
    state = [pdu for pdu in pdus[:at] if pdu.event_id in state_ids]
    if data.draw(st.booleans()):
        state = pdus[:at]  # a hub that answers with its whole line
    with rolled_back():
        room = begin_stay(
            room_id=ROOM_ID,
            hub=US,
            version=version,
            state=state,
            auth_chain=chain,
            join=pdus[at],
            now=timezone.now(),
        )
        take_as_participant(pdus[at + 1 :], sizes_from(data.draw))
        end = at
        while (gap := Gap.objects.filter(room=room).first()) is not None:
            begin = max(0, end - data.draw(st.integers(1, 10)))
            insert_history(gap, data.draw(st.permutations(pdus[begin:end])), now=timezone.now())
            end = begin
        assert [event_id for event_id, _, _ in stored_line()] == [pdu.event_id for pdu in pdus]
        assert stored_state() == naive_replay.state(hub.line)
        assert not Finding.objects.exists()
