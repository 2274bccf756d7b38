"""What must be true of every answer, and of the database after it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Max

from federation.models import Destination
from rooms.models import Event, Room, RoomServer, StateEntry
from rooms.state import members
from tests.fuzz.attempts import Answer, Attempt, World, sign
from tests.fuzz.doors import Door
from tests.support.peers import FEDERATION

MAX_SECONDS = 5.0
PROXIED = {502: "could not be reached", 503: "arlier event"}
"""Answers that say that something is needed of another server which it does not give: part of what each says."""

HTTP_REFUSALS = (400, 414, 431)
"""What granian answers by itself, without a body, to what is no request or too long for one."""


class Found(AssertionError):
    """An answer that should not have been given."""


@dataclass
class Watch:
    """Makes attempts at a door and looks at each answer. Raises `Found`."""

    door: Door
    world: World
    max_seconds: float = MAX_SECONDS
    """For one answer. Tests, which run beside others on a busy machine, have more patience."""
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many attempts at each endpoint got each status."""
    slowest: float = 0.0
    alive: int = 0
    """How many valid messages were sent between the attempts."""

    def attempt(self, attempt: Attempt) -> Answer | None:
        """Make an attempt, unless it could make the server ask somebody outside of this machine."""
        if attempt.leads_outside:
            return None
        before = fingerprint()
        answer = self.door.send(attempt)
        self.counts[attempt.endpoint, answer.status] += 1
        self.slowest = max(self.slowest, answer.seconds)
        try:
            check_answer(attempt, answer, max_seconds=self.max_seconds)
            attempt.check(answer)
            if answer.status != 200 and fingerprint() != before:
                raise Found("refused, and yet the database has changed")
        except AssertionError as found:
            shown = f"{attempt.method} {attempt.target[:2000]} {dict(attempt.headers)}\n{attempt.body[:4000]!r}"
            raise Found(f"{found}\n{shown}\nanswered {answer.status} {answer.body[:2000]!r}") from None
        return answer

    def check_alive(self) -> None:
        """A peer's user joins, if it is not in the room, and says something: that works, whatever was before."""
        self.alive += 1
        peer, room_id = self.world.peer, self.world.rooms[0]
        if members(room_id).get(peer.user("user")) != "join":  # it may have left: that is a valid request, too
            self._valid("POST", f"{FEDERATION}/v3/send_join/alive-{self.alive}", peer.join(room_id).event)
        lpdu = peer.lpdu(room_id, content={"body": f"alive {self.alive}"})
        content = {"pdus": [lpdu.event], "edus": []}
        answer = self._valid("PUT", f"{FEDERATION}/v2/send/alive-{self.alive}", content)
        if answer != {"failed_pdus": {}} or not Event.objects.filter(room_id=room_id, lpdu_id=lpdu.lpdu_id).exists():
            raise Found(f"a valid message was not taken: {answer}")

    def _valid(self, method: str, target: str, content: dict[str, Any]) -> Any:
        body = json.dumps(content).encode()
        answer = self.door.send(
            Attempt("valid", method, target, body, {"Authorization": sign(self.world.peer, method, target, body)})
        )
        if answer.status != 200:
            raise Found(f"a valid request to {target} was answered {answer.status} {answer.body[:1000]!r}")
        return json.loads(answer.body)


def check_answer(attempt: Attempt, answer: Answer, *, max_seconds: float) -> None:
    """Whether an answer is one that may be given to any request at all. Raises `Found`."""
    if answer.seconds > max_seconds:
        raise Found(f"took {answer.seconds:.1f} s")
    if answer.status >= 500 and PROXIED.get(answer.status, "\0") not in answer.body.decode(errors="replace"):
        raise Found("5xx")
    if answer.status >= 400 and attempt.method != "HEAD" and attempt.target.startswith("/_matrix"):
        _check_error(answer)


def _check_error(answer: Answer) -> None:
    """A refusal is the draft's: a JSON object with `errcode` and `error`."""
    if answer.status in HTTP_REFUSALS and not answer.body:
        return
    if answer.content_type.partition(";")[0] != "application/json":
        raise Found(f"an error of type {answer.content_type!r}")
    try:
        error = json.loads(answer.body)
    except ValueError:
        raise Found("an error that is no JSON") from None
    if not isinstance(error, dict) or not isinstance(error.get("error"), str):
        raise Found("an error without a text")
    if not isinstance(error.get("errcode"), str) or not error["errcode"].startswith("M_"):
        raise Found("an error without a code")


def fingerprint() -> tuple[Any, ...]:
    """All lines, states and stays, as far as any change of them shows."""
    return (
        list(Room.objects.order_by("room_id").values_list("room_id", "head_position", "head_event_id", "blocked")),
        Event.objects.aggregate(Count("pk"), Max("pk")),
        StateEntry.objects.aggregate(Count("pk"), Max("pk"), Count("replaced_at")),
        list(RoomServer.objects.order_by("pk").values_list("pk", "left_position", "joined_users")),
        Destination.objects.count(),
    )
