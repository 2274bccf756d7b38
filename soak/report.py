"""What a soak has found, as it is told: all that is wrong, and a closing line."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from linmatrix.stack.server import PROJECT
from soak.ledger import Answer, Entry
from soak.reckoning import Reckoning

SHOWN = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for: the same again is the same plan."""

    minutes: float
    seed: int
    servers: int

    @property
    def command(self) -> str:
        """The command that makes the same plan again."""
        servers = f" ARGS='--servers {self.servers}'" if self.servers != DEFAULT_SERVERS else ""
        return f"make soak MINUTES={self.minutes:g} SEED={self.seed}{servers}"


DEFAULT_SERVERS = 3


@dataclass(slots=True)
class Report:
    """The outcome. `problems` are parts that ended by themselves or did not start, `differences` what servers at rest
    do not agree on; `last` is what was waited for in the end, while they drained for `drained` seconds."""

    survived: int
    drained: float
    last: str
    entries: Sequence[Entry]
    reckoning: Reckoning
    problems: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Everything that should not be."""
        found = self.reckoning
        return [*self.problems, *self.differences, *found.lost, *found.duplicated, *found.wrong]

    @property
    def closing_line(self) -> str:
        """The figures."""
        lost, duplicated = len(self.reckoning.lost), len(self.reckoning.duplicated)
        return (
            f"{self.survived} faults survived, {self.reckoning.sent} events sent, {lost} lost, {duplicated} duplicated."
        )

    def tell(self, console: Console) -> None:
        """Print it."""
        for text in self.wrong[:SHOWN]:
            console.print(text, style="red", markup=False, soft_wrap=True)
        if len(self.wrong) > SHOWN:
            console.print(f"... and {len(self.wrong) - SHOWN} more", style="red")
        counts = [(sum(entry.answer == answer.value for entry in self.entries), answer.value) for answer in Answer]
        told = ", ".join(f"{count} {value}" for count, value in counts if count)
        console.print(f"{len(self.entries)} actions: {told}.", soft_wrap=True)
        last = f", waiting at last for this: {self.last}" if self.last else ""
        console.print(f"Drained in {self.drained:.0f} s{last}", markup=False, soft_wrap=True)
        console.print(self.closing_line, style="bold red" if self.wrong else "bold green")


def conclude(console: Console, plan: Plan, folder: Path, *, failed: bool) -> None:
    """Remove the data of a soak, or keep what failed and say how to have it again."""
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
        return
    shown = folder.relative_to(PROJECT) if folder.is_relative_to(PROJECT) else folder
    console.print(f"The same plan again: {plan.command}", style="red", markup=False, soft_wrap=True)
    console.print(f"Data, logs and actions.jsonl are kept in {shown}", style="red", markup=False, soft_wrap=True)
