"""Figures, what they have to reach, and how they are shown."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `at_least` and `at_most` are what it has to reach, `aim` what it should.

    `key` names it in JSON, with its unit as last word; `text` says to people what it is.
    """

    key: str
    text: str
    value: float
    unit: str = "events/s"
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether it reaches its bar; None where it has none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most if self.at_most is not None else None

    def shown(self) -> str:
        """The value, as precisely as it means something."""
        return f"{self.value:.2f}" if self.unit == "ratio" else f"{self.value:,.{0 if self.value >= 100 else 1}f}"

    def bar(self) -> str:
        """What it has to reach, in words."""
        if self.at_least is not None:
            aim = f", aim {self.aim:.2f}" if self.aim is not None else ""
            return f">= {self.at_least:.2f}{aim}"
        return f"<= {self.at_most:.0f}" if self.at_most is not None else ""


def show(console: Console, figures: Sequence[Figure], *, seconds: float) -> None:
    """Print the figures as a table."""
    table = Table(
        "",
        "measured",
        "unit",
        "to reach",
        "",
        title="linmatrix benchmarks",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    # What is measured may be a long address; the figures beside it are what the table is for.
    table.columns[0].overflow, table.columns[1].justify = "fold", "right"
    for column in table.columns[1:]:
        column.no_wrap = True
    for figure in figures:
        verdict = {None: "", True: "[green]PASS[/]", False: "[red]MISS[/]"}[figure.passed]
        table.add_row(figure.text, figure.shown(), figure.unit, figure.bar(), verdict)
    console.print()
    console.print(table)
    console.print(f"\n{_machine_line()}; {seconds:.0f} s", style="dim")


def show_profile(console: Console, result: dict[str, Any]) -> None:
    """Print what `bench.inside.profile` found."""
    console.print(
        f"One request after the other, without TLS and web server: {1e6 / result['wall_us']:,.0f} events/s, "
        f"{result['wall_us']:.0f} us an event, {result['cpu_us']:.0f} us of it on the processor.\n"
    )
    table = Table("under the profiler", "share", box=None)
    table.columns[1].justify = "right"
    for layer, share in result["layers"].items():
        table.add_row(layer, f"{share:.0%}")
    console.print(table)
    console.print(result["table"], markup=False, soft_wrap=True)


def as_json(figures: Sequence[Figure]) -> str:
    """All of it on one line."""
    return json.dumps({"machine": machine(), "figures": {figure.key: _json(figure) for figure in figures}})


def _json(figure: Figure) -> dict[str, Any]:
    fields = {
        "value": figure.value,
        "unit": figure.unit,
        "at_least": figure.at_least,
        "at_most": figure.at_most,
        "aim": figure.aim,
        "passed": figure.passed,
    }
    return {name: value for name, value in fields.items() if value is not None}


def machine() -> dict[str, str]:
    """What it ran on."""
    return {"processor": _processor(), "system": platform.platform(), "python": platform.python_version()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def _machine_line() -> str:
    about = machine()
    return f"{about['processor']}, Python {about['python']}, {about['system']}"
