"""From the environment to values: all of it at once, so that all that is wrong is told together."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from linmatrix.environment.table import SETTINGS

PREFIX = "LINMATRIX_"


class InvalidSettings(Exception):
    """One or more settings cannot be used; the message names each of them and what is wrong."""


def read(environment: Mapping[str, str]) -> dict[str, Any]:
    """The value of every setting that processes of ours read. Raises `InvalidSettings`."""
    found, wrong = {}, []
    for setting in SETTINGS.values():
        if setting.reader in ("deployment", "development"):
            continue
        text = environment.get(setting.name, "").strip() or setting.default
        try:
            found[setting.name] = setting.parse(text)
        except ValueError as error:
            said = str(error)
            wrong.append(said if said.startswith(setting.name) else f"{setting.name}: {said}")
    if wrong:
        raise InvalidSettings("; ".join(wrong))
    return found


def unknown(environment: Mapping[str, str]) -> dict[str, str]:
    """Names that look like settings and are none, with the setting that may be meant, or an empty text."""
    strangers = sorted(name for name in environment if name.startswith(PREFIX) and name not in SETTINGS)
    ends = {name.removeprefix(PREFIX): name for name in SETTINGS}
    near = {name: get_close_matches(name.removeprefix(PREFIX), ends, n=1) for name in strangers}
    return {name: ends[found[0]] if found else "" for name, found in near.items()}
