"""Creating a room that we host (draft sections "m.room.create" and the state events that follow)."""

import secrets
import string
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from linmatrix.protocol.completion import new_event
from linmatrix.protocol.encryption import require_hostable
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from rooms.append import create_line
from rooms.hub import append_own_to, member_event, milliseconds
from rooms.local_users import require_local
from rooms.models import Room

JOIN_RULES = ("public", "knock", "invite")
"""Join rules of the draft; any other would let nobody in (decision 45)."""

HISTORY_VISIBILITIES = ("world_readable", "shared", "invited", "joined")
"""Decision 59."""

LOCALPART_LENGTH = 18
"""Characters of a new room id's localpart: 107 bits, nobody guesses it (threat T80)."""


def create_room(
    *,
    creator: str,
    now: datetime,
    name: str = "",
    topic: str = "",
    join_rule: str = "invite",
    history_visibility: str = "shared",
    version: str = "",
    federate: bool = True,
    encryption: str = "",
    power_levels: Mapping[str, Any] | None = None,
) -> Room:
    """Create a room with `creator`, one of our users, joined to it.

    `power_levels` replaces the default content, in which the creator has 100. `federate` False keeps the room
    to our own users for good (decision 47). `encryption` is the algorithm of its encrypted events, for good as well
    (`linmatrix.protocol.encryption`). Raises `Malformed` for a value that no peer would understand.
    """
    require_local(creator)
    version = version or settings.DEFAULT_ROOM_VERSION
    for value, known in ((version, ROOM_VERSIONS), (join_rule, JOIN_RULES), (history_visibility, HISTORY_VISIBILITIES)):
        if value not in known:
            raise Malformed(f"{value!r} is none of {', '.join(known)}")
    room = Room(room_id=_new_room_id(), version=version, role=Room.Role.HUB, hub_server=settings.SERVER_NAME)
    create_content: dict[str, Any] = {"room_version": version, **({} if federate else {"m.federate": False})}
    if encryption:
        create_content["encryption"] = {"algorithm": require_hostable(encryption)}
    levels = dict(power_levels) if power_levels is not None else {"users": {creator: 100}}
    contents: list[tuple[str, dict[str, Any]]] = [
        ("m.room.power_levels", levels),
        ("m.room.join_rules", {"join_rule": join_rule}),
        ("m.room.history_visibility", {"history_visibility": history_visibility}),
    ]
    contents += [("m.room.name", {"name": name})] if name else []
    contents += [("m.room.topic", {"topic": topic})] if topic else []

    def state(type_: str, content: dict[str, Any]) -> dict[str, Any]:
        return new_event(
            room_id=room.room_id,
            sender=creator,
            type=type_,
            content=content,
            origin_server_ts=milliseconds(now),
            state_key="",
        )

    join = member_event(room_id=room.room_id, sender=creator, user_id=creator, membership="join", now=now)
    with transaction.atomic():
        line = create_line(room, now=now)
        append_own_to(line, [state("m.room.create", create_content), join, *(state(*item) for item in contents)])
        line.write()
    return room


def _new_room_id() -> str:
    alphabet = string.ascii_letters + string.digits
    localpart = "".join(secrets.choice(alphabet) for _ in range(LOCALPART_LENGTH))
    return f"!{localpart}:{settings.SERVER_NAME}"
