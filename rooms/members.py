"""A room's members as people look at them: a page at a time, with power levels, and those of our own server.

Never all at once: a room may have a hundred thousand. Pages go by user id, through the index of the current state.
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import orjson
from django.conf import settings
from django.db.models import Q, QuerySet

from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.power_levels import user_level
from linmatrix.protocol.state import CREATE, POWER_LEVELS, State
from rooms.models import StateEntry
from rooms.state import current_state
from rooms.visibility import memberships_of

_COLUMNS = ("state_key", "event__json", "event_id")

PRESENT = ("join", "invite", "knock", "ban")
"""Memberships that are shown: all but those who have left."""


class Member(NamedTuple):
    """A user that the room's state names; `level` is the power level."""

    user_id: str
    membership: str
    level: int
    display_name: str
    event_id: str


def levels_of(room_id: str) -> State:
    """What of the state says who may do what."""
    return current_state(room_id, [CREATE, POWER_LEVELS])


def page_of_members(
    room_id: str, *, after: str = "", contains: str = "", memberships: Collection[str] = PRESENT, limit: int
) -> list[Member]:
    """The next members by user id after `after`, at most `limit`.

    The database looks for the memberships in the events' text, which finds all that have one of them, and perhaps
    others: content may name a membership in another place, too. Those are left out here.
    """
    entries = _current(room_id)
    if contains:
        entries = entries.filter(state_key__icontains=contains)
    return _first(entries, levels_of(room_id), after=after, memberships=memberships, limit=limit)


def _first(
    entries: QuerySet[StateEntry], state: State, *, after: str = "", memberships: Collection[str], limit: int
) -> list[Member]:
    named = Q()
    for value in memberships:
        named |= Q(event__json__contains=f'"membership":"{value}"')
    entries, found = entries.filter(named).order_by("state_key"), list[Member]()
    while len(found) < limit:
        rows = list(entries.filter(state_key__gt=after).values_list(*_COLUMNS)[:limit])
        found += [member for member in _members(rows, state) if member.membership in memberships]
        if len(rows) < limit:
            break
        after = rows[-1][0]
    return found[:limit]


def member_of(room_id: str, user_id: str) -> str:
    """A user's membership now; `leave` where the state does not name them."""
    text = _current(room_id).filter(state_key=user_id).values_list("event__json", flat=True).first()
    return _membership(orjson.loads(text)["content"]) if text else "leave"


def joined_among(room_id: str, user_ids: Collection[str]) -> set[str]:
    """Those of these users who are joined now."""
    rows = _current(room_id).filter(state_key__in=list(user_ids)).values_list("state_key", "event__json")
    return {user_id for user_id, text in rows if _membership(orjson.loads(text)["content"]) == "join"}


def local_members(room_id: str, *, limit: int, memberships: Collection[str] = ("join",)) -> list[Member]:
    """Our own users in the room, those with the most power first; at most `limit`, and none with power left out for
    one without."""
    state = levels_of(room_id)
    levels = state[POWER_LEVELS].content.get("users") if POWER_LEVELS in state else None
    named = [user for user in levels if domain_of(user) == settings.SERVER_NAME] if isinstance(levels, dict) else []
    named = sorted(named, key=lambda user: -user_level(state, user))[:limit]
    if CREATE in state and domain_of(state[CREATE].sender) == settings.SERVER_NAME:
        named.append(state[CREATE].sender)
    ours = memberships_of(_current(room_id), settings.SERVER_NAME)
    mighty = _members(_current(room_id).filter(state_key__in=named).values_list(*_COLUMNS), state)
    members = {member.user_id: member for member in mighty if member.membership in memberships}
    # Who has left stands in the state as well, and is not to be counted.
    members |= {member.user_id: member for member in _first(ours, state, memberships=memberships, limit=limit)}
    return sorted(members.values(), key=lambda member: (-member.level, member.user_id))[:limit]


def _current(room_id: str) -> QuerySet[StateEntry]:
    return StateEntry.objects.filter(room_id=room_id, type="m.room.member", replaced_at__isnull=True)


def _members(rows: Iterable[tuple[str, str, str]], state: State) -> Iterable[Member]:
    for user_id, text, event_id in rows:
        content = orjson.loads(text)["content"]
        name = content.get("displayname")
        yield Member(
            user_id,
            _membership(content),
            user_level(state, user_id),
            name if isinstance(name, str) else "",
            event_id,
        )


def _membership(content: dict[str, Any]) -> str:
    value = content.get("membership")
    return value if isinstance(value, str) else "leave"
