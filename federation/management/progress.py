"""How a command shows the progress of long work: bars on a terminal, now and then a line where there is none.

It goes to standard error, so that what a command prints can be piped.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from linmatrix.progress import OnProgress

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def shown_progress(stderr: TextIO) -> Iterator[OnProgress]:
    """Progress that is shown on `stderr` until the block ends."""
    console = Console(file=stderr)
    if not console.is_terminal:
        yield Lines(stderr)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar for each stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stages: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int = 0, total: int | None = None, /) -> None:
        for other, task in self._stages.items():
            if other != stage:
                self._bars.stop_task(task)
        if stage not in self._stages:
            self._stages[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._stages[stage], completed=done, total=total)


class Lines:
    """One line every few seconds, so that short work says nothing."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._stage, self._began, self._told = "", 0.0, clock()

    def __call__(self, stage: str, done: int = 0, total: int | None = None, /) -> None:
        now = self._clock()
        if stage != self._stage:
            self._stage, self._began = stage, now
        if now - self._told < LINE_SECONDS:
            return
        self._told = now
        count = f" {done} of {total}" if total is not None else f" {done}" if done else ""
        seconds = now - self._began
        rate = f", {done / seconds:.0f}/s" if seconds and done else ""
        self._out.write(f"{stage}{count}{rate}\n")
