"""What will be done and what will break, planned from a seed.

The same seed gives the same plan, and a longer soak begins with the plan of a shorter one. The planner supposes that
every action has its effect, which keeps most of them sensible; some are not meant to be.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

USERS = 4
"""Users of each server."""

LANES = 2
"""Of each server: users act side by side, but each after what it did before. User n acts in lane n % LANES."""

ROOMS_PER_SERVER = 2
MODERATOR_LEVEL = 50
CREATOR = 0
"""Of each server: creates its rooms and never leaves them. In the rooms of other servers it is a moderator."""

SECONDS_BETWEEN_ACTIONS = 0.2
"""On average, of all servers together."""

SECONDS_BETWEEN_FAULTS = (4.0, 12.0)
"""On one server, after what was broken runs again. Servers break independently of one another."""

FIRST_FAULT_SECONDS = (2.0, 8.0)

STRAY = 0.04
"""The part of the actions that are tried whatever the plan thinks of them."""

PATIENCE = 0.5
"""The part of the actions whose users wait for the hub's answer before they do anything else."""

Member = tuple[int, int]
"""A server and one of its users, by number."""


@dataclass(frozen=True, slots=True)
class PlannedRoom:
    """A room, by the number of its hub."""

    hub: int
    join_rule: str
    history_visibility: str


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a user does. `of` is the number of an earlier message, for a redaction."""

    number: int
    at: float
    actor: Member
    verb: str
    room: int
    other: Member | None = None
    of: int | None = None
    waits: bool = True

    @property
    def lane(self) -> Member:
        """Where it is done: the server and the lane's number."""
        return self.actor[0], self.actor[1] % LANES


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks on a server: how, which part of it, and for how long it stays broken."""

    number: int
    at: float
    server: int
    kind: str
    part: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind} {self.part}".strip()


@dataclass(frozen=True, slots=True)
class Breakage:
    """A kind of fault: how often it comes among the others, and for how long it lasts, in seconds."""

    kind: str
    part: str
    weight: int
    seconds: tuple[float, float]


BREAKAGES = (
    Breakage("kill", "web", 4, (0, 5)),
    Breakage("kill", "worker", 4, (0, 5)),
    Breakage("kill", "beat", 1, (0, 10)),
    Breakage("kill", "postgres", 4, (0, 5)),
    Breakage("kill", "valkey", 2, (0, 5)),
    Breakage("empty", "valkey", 2, (0, 5)),
    Breakage("stop", "web", 1, (0, 5)),
    Breakage("stop", "worker", 1, (0, 5)),
    Breakage("stop", "postgres", 2, (0, 5)),
    Breakage("freeze", "web", 2, (1, 12)),
    Breakage("freeze", "worker", 2, (1, 20)),
    Breakage("freeze", "beat", 1, (1, 10)),
    Breakage("freeze", "postgres", 2, (1, 8)),
    Breakage("freeze", "valkey", 2, (1, 12)),
    Breakage("kill", "console 0", 1, (0, 0)),
    Breakage("kill", "console 1", 1, (0, 0)),
    Breakage("stop", "", 1, (2, 15)),
    Breakage("kill", "", 2, (2, 15)),
)
"""A part that is not named means the whole server. A console is where users act: what they were doing is cut off."""

JOIN_RULES = ("public", "invite", "knock")
HISTORY_VISIBILITIES = ("shared", "joined", "invited", "world_readable")

_WEIGHTS = {
    "message": 60,
    "state": 8,
    "join": 12,
    "leave": 4,
    "invite": 7,
    "kick": 3,
    "ban": 2,
    "unban": 3,
    "knock": 4,
    "redact": 6,
}
_OUTSIDE = ("none", "leave")


def plan_rooms(seed: int, *, servers: int) -> list[PlannedRoom]:
    """The rooms: every join rule is there, whatever the seed."""
    chance = random.Random(f"{seed} rooms")
    return [
        PlannedRoom(number % servers, JOIN_RULES[number % len(JOIN_RULES)], chance.choice(HISTORY_VISIBILITIES))
        for number in range(servers * ROOMS_PER_SERVER)
    ]


def plan_actions(seed: int, *, servers: int, seconds: float) -> list[Action]:
    """What users do within `seconds`, in the order in which it is due."""
    return list(_Planner(seed, servers).actions(seconds))


def plan_faults(seed: int, *, servers: int, seconds: float) -> list[Fault]:
    """What breaks within `seconds`, in the order in which it is due. On one server it breaks one after the other."""
    planned = []
    for server in range(servers):
        chance = random.Random(f"{seed} faults {server}")
        at = chance.uniform(*FIRST_FAULT_SECONDS)
        while at < seconds:
            (breakage,) = chance.choices(BREAKAGES, [item.weight for item in BREAKAGES])
            lasts = round(chance.uniform(*breakage.seconds), 1)
            planned.append((round(at, 1), server, breakage.kind, breakage.part, lasts))
            at += lasts + chance.uniform(*SECONDS_BETWEEN_FAULTS)
    return [Fault(number, *fault) for number, fault in enumerate(sorted(planned))]


class _Planner:
    """Chooses actions that make sense in rooms as they would be if everything went well."""

    def __init__(self, seed: int, servers: int) -> None:
        self._chance = random.Random(f"{seed} actions")
        self._users = [(server, user) for server in range(servers) for user in range(USERS)]
        self._rooms = plan_rooms(seed, servers=servers)
        self._members = [{(room.hub, CREATOR): "join"} for room in self._rooms]
        self._messages: list[list[int]] = [[] for _ in self._rooms]

    def actions(self, seconds: float) -> Iterator[Action]:
        at, number = 0.0, 0
        while (at := at + self._chance.expovariate(1 / SECONDS_BETWEEN_ACTIONS)) < seconds:
            room = self._chance.randrange(len(self._rooms))
            actor, verb, other, of = self._choice(room)
            waits = self._chance.random() < PATIENCE
            yield Action(number, round(at, 3), actor, verb, room, other, of, waits)
            self._suppose(room, number, actor, verb, other)
            number += 1

    def _choice(self, room: int) -> tuple[Member, str, Member | None, int | None]:
        if self._chance.random() < STRAY:
            verb = self._chance.choice([verb for verb in _WEIGHTS if verb != "redact"])
            needs_other = verb in ("invite", "kick", "ban", "unban")
            return self._anyone(), verb, self._anyone() if needs_other else None, None
        (verb,) = self._chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        actors, others = self._candidates(room, verb)
        if not actors or others == [] or (verb == "redact" and not self._messages[room]):
            verb, (actors, others) = "message", self._candidates(room, "message")
        of = self._chance.choice(self._messages[room]) if verb == "redact" else None
        return self._chance.choice(actors), verb, self._chance.choice(others) if others else None, of

    def _anyone(self) -> Member:
        return self._chance.choice(self._users)

    def _candidates(self, room: int, verb: str) -> tuple[list[Member], list[Member] | None]:
        """Who may do it, and to whom; None where it is done to nobody."""
        creator = (self._rooms[room].hub, CREATOR)
        joined = self._with(room, "join")
        moderators = [user for user in joined if user[1] == CREATOR]
        plain = [user for user in self._users if user[1] != CREATOR]
        match verb:
            case "join":
                public = self._rooms[room].join_rule == "public"
                return self._with(room, "invite", *(_OUTSIDE if public else ())), None
            case "leave":
                return [user for user in self._with(room, "join", "invite", "knock") if user != creator], None
            case "invite":
                return joined, self._with(room, "knock", *_OUTSIDE)
            case "kick":
                return moderators, [user for user in self._with(room, "join", "invite", "knock") if user in plain]
            case "ban":
                return moderators, [user for user in self._with(room, "join", "leave") if user in plain]
            case "unban":
                return moderators, self._with(room, "ban")
            case "knock":
                return self._with(room, *_OUTSIDE) if self._rooms[room].join_rule == "knock" else [], None
            case _:
                return joined, None

    def _with(self, room: int, *memberships: str) -> list[Member]:
        return [user for user in self._users if self._members[room].get(user, "none") in memberships]

    def _suppose(self, room: int, number: int, actor: Member, verb: str, other: Member | None) -> None:
        """Take it that the action has its effect, where it can have one."""
        members = self._members[room]
        if verb == "message":
            self._messages[room].append(number)
        elif verb in ("join", "leave", "knock"):
            if actor in self._candidates(room, verb)[0]:
                members[actor] = verb
        elif verb in ("invite", "kick", "ban", "unban"):
            actors, others = self._candidates(room, verb)
            if other is not None and actor in actors and other in (others or []):
                members[other] = {"kick": "leave", "unban": "leave"}.get(verb, verb)
