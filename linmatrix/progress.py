"""How long work tells whoever waits for it how far it has come.

Verbs take a `OnProgress` and call it now and then; what becomes of it is not their affair. Commands draw it
(`federation.management.progress`), everything else is silent.
"""

from typing import Protocol


class OnProgress(Protocol):
    """Told what is being done, how many items of it are, and how many there are where that is known."""

    def __call__(self, stage: str, done: int = 0, total: int | None = None, /) -> None: ...


def silent(stage: str, done: int = 0, total: int | None = None, /) -> None:
    """Progress that nobody watches."""
