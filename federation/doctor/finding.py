"""What a look comes to."""

import time
from dataclasses import asdict, dataclass

PATIENCE = 15.0
"""Seconds for each request and connection: who looks is waiting."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` was looked at; `says` is what was seen; `advice` is what to do, and empty when all is well."""

    subject: str
    says: str
    advice: str = ""

    @property
    def ok(self) -> bool:
        return not self.advice

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ok": self.ok}


def deadline() -> float:
    """Until when a look may take that begins now (of `time.monotonic`)."""
    return time.monotonic() + PATIENCE
