"""Which encryption a room has (draft section "MLS Considerations").

It is said once, in the room's create event, so that nobody can turn it off or make it weaker. An event
`m.room.encryption`, which does so in Matrix, is an event like any other here.
"""

import re
from collections.abc import Mapping
from typing import Any

from linmatrix.protocol.devices import MLS_ALGORITHM
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.state import CREATE, State

COMMIT = "m.mls.commit"
"""The type of the events that change a room's MLS group (draft section "m.mls.commit")."""

_MLS = "m.mls."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def algorithm_of(create: Mapping[str, Any]) -> str:
    """The algorithm that a create event's content names; '' when the room is not encrypted."""
    encryption = create.get("encryption")
    algorithm = encryption.get("algorithm") if isinstance(encryption, dict) else None
    return algorithm if isinstance(algorithm, str) else ""


def room_algorithm(state: State) -> str:
    """The algorithm of a room with this state; '' when it is not encrypted, or not known to be."""
    create = state.get(CREATE)
    return "" if create is None else algorithm_of(create.content)


def is_mls(algorithm: str) -> bool:
    """Whether the algorithm is MLS, with whatever ciphersuite: its commits are subject to checks."""
    return algorithm.startswith(_MLS)


def can_check(algorithm: str) -> bool:
    """Whether the algorithm is the MLS ciphersuite whose commits are checked here."""
    return algorithm == MLS_ALGORITHM


def require_hostable(algorithm: str) -> str:
    """Return an algorithm that a room of ours may have, or raise `Malformed` for people.

    A hub must check commits, so it hosts no room with MLS that it cannot read (decision 115). Any other algorithm is
    its clients' own business: Megolm, or one with a name of its owner's.
    """
    if not _NAME.fullmatch(algorithm):
        raise Malformed(f"{algorithm[:60]!r} cannot be the name of an encryption algorithm")
    if is_mls(algorithm) and not can_check(algorithm):
        raise Malformed(f"this server cannot check commits of {algorithm}; of MLS it hosts {MLS_ALGORITHM}")
    return algorithm
