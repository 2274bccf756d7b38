"""A server at the other end of deliveries: it answers as it is told to and keeps what it was sent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from federation.client import Answer
from federation.models import OutboundTransaction
from linmatrix.protocol import canonical_json
from linmatrix.transport.errors import Unreachable

OK = Answer(200, {})
UNREACHABLE = Unreachable("connection refused")


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    txn_id: str
    body: bytes

    @property
    def pdus(self) -> list[dict[str, Any]]:
        """Its events."""
        pdus: list[dict[str, Any]] = canonical_json.loads(self.body)["pdus"]
        return pdus


@dataclass
class Remote:
    """Takes the place of the network: `Remote(Answer(500, None))` fails once and acknowledges from then on.

    An answer may be an exception, which is raised, or a function, which is called before an acknowledgement.
    """

    answers: list[Answer | BaseException | Callable[[], None]] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    acknowledged: list[Received] = field(default_factory=list)

    @classmethod
    def answering(cls, *answers: Answer | BaseException | Callable[[], None]) -> "Remote":
        """A remote with these answers, in their order; whatever comes after them is acknowledged."""
        return cls(list(answers))

    def __call__(self, row: OutboundTransaction) -> Answer:
        request = Received(row.path, row.txn_id, bytes(row.body))
        self.received.append(request)
        answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer()
            answer = OK
        if answer.status == 200:
            self.acknowledged.append(request)
        return answer

    def bodies(self) -> list[str]:
        """The texts of the messages that were acknowledged, in order."""
        return [event["content"]["body"] for request in self.acknowledged for event in request.pdus]
