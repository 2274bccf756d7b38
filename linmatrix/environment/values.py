"""What the text of a setting comes to. Each function takes the text and raises ValueError, which says what is wrong
with it and what would be right; the setting's name is put before that by who calls."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import parse_server_name
from linmatrix.protocol.room_versions import ROOM_VERSIONS

_YES_AND_NO = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_GLOB = re.compile(r"[A-Za-z0-9.:*?\[\]-]+")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def text(value: str) -> str:
    """Any text."""
    return value


def yes_or_no(value: str) -> bool:
    answer = _YES_AND_NO.get(value.lower())
    if answer is None:
        raise ValueError(f"{value!r} is neither yes nor no; give 1 or 0")
    return answer


def whole(value: str, *, lowest: int, highest: int) -> int:
    if not re.fullmatch(r"[0-9]+", value) or not lowest <= int(value) <= highest:
        raise ValueError(f"{value!r} is no whole number from {lowest} to {highest}")
    return int(value)


def number(value: str, *, lowest: float, highest: float) -> float:
    wrong = f"{value!r} is no number from {lowest:g} to {highest:g}"
    try:
        parsed = float(value)
    except ValueError:
        raise ValueError(wrong) from None
    if not lowest <= parsed <= highest:  # NaN, too, is outside
        raise ValueError(wrong)
    return parsed


def one_of(value: str, *, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(choices)}")
    return value


def log_level(value: str) -> str:
    return one_of(value.upper(), choices=_LEVELS)


def server_name(value: str) -> str:
    try:
        parse_server_name(value)
    except Malformed as error:
        raise ValueError(f"{value!r} cannot be a server's name: {error.reason}; example.org:8448 could") from None
    return value


def optional(value: str, *, of: Callable[[str], Any]) -> Any:
    """None, or what `of` makes of the text."""
    return of(value) if value else None


def items(value: str, *, of: Callable[[str], Any]) -> list[Any]:
    """A list, by commas."""
    return [of(part.strip()) for part in value.split(",") if part.strip()]


def glob(value: str) -> str:
    """A glob of server names, with the grammar of a room's server ACL."""
    if not _GLOB.fullmatch(value):
        raise ValueError(f"{value!r} is no glob of server names like *.example.org")
    return value


def host(value: str) -> str:
    """A host as Django's ALLOWED_HOSTS has it."""
    if not re.fullmatch(r"\*|\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\]", value):
        raise ValueError(f"{value!r} is no host name like matrix.example.org, without a port")
    return value


def web_origin(value: str) -> str:
    """A scheme and a host, as Django's CSRF_TRUSTED_ORIGINS has them."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
        raise ValueError(f"{value!r} is no origin like https://admin.example.org")
    return value


def path(value: str) -> Path:
    return Path(value).absolute()


def file(value: str) -> Path:
    """A file that is there."""
    found = path(value)
    if not found.is_file():
        raise ValueError(f"there is no file {value}")
    return found


def url(value: str, *, schemes: tuple[str, ...]) -> str:
    """A URL of one of these schemes, the port a number. The text is not told: it may hold a password."""
    try:
        parts = urlsplit(value)
        known = parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"it is no URL that begins with {', '.join(f'{scheme}://' for scheme in schemes)}")
    return value


def json_object(value: str) -> dict[str, Any]:
    try:
        parsed = json.loads(value or "{}")
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise ValueError('it is no JSON object like {"event": [50, 500]}')
    return parsed


room_version = partial(one_of, choices=tuple(ROOM_VERSIONS))
server_names = partial(items, of=server_name)
globs = partial(items, of=glob)
hosts = partial(items, of=host)
web_origins = partial(items, of=web_origin)
