"""What there is to know of a setting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from linmatrix.environment import values

Reader = Literal["server", "deployment", "make run", "development"]
"""Who reads a setting: the server's processes; docker-compose.yml and the front; `make run`; tests and benchmarks."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. An empty text is as good as none: the default counts. `parse` raises ValueError."""

    name: str
    default: str
    takes: str
    meaning: str
    parse: Callable[[str], Any] = values.text
    reader: Reader = "server"


YES_NO = "1 or 0"
FILE = "a file"
ITEMS = "by commas"
