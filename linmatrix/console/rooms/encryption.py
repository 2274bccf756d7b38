"""How a room is encrypted; for MLS its group as the server follows it, against who is joined, and the last commits.

Only names are compared here. A group's state is read as a check of a commit reads it, from the process's memory where
it is; how many users and commits a page names is bounded, and numbers are of all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from linmatrix.console.rooms.frame import algorithm_of, asked, room_page, show, url
from linmatrix.console.rooms.links import buttons
from linmatrix.protocol.encryption import can_check, is_mls
from linmatrix.protocol.mls_membership import is_world_readable
from linmatrix.protocol.state import HISTORY_VISIBILITY
from linmatrix.readonly_admin import seconds_precise
from rooms.members import joined_among, page_of_members
from rooms.mls import stored
from rooms.models import Event, MlsCommit, MlsGroup, Room
from rooms.overview import members_of
from rooms.state import current_state
from rooms.wording import shown

MAX_COMPARED = 5_000
"""Devices of a group that are looked at: some 0.1 s. Of a larger one the page says so."""

PAGE = 100
"""Users with devices in the group on a page."""

MAX_SHOWN = 50
"""Users without a device, or whose devices are to go, and commits."""

MAX_LOOKED_AT = 1_000
"""Members among whom those without a device are looked for."""

MAX_DEVICES = 20
"""Devices of a user that are named."""

VERDICTS = {
    MlsCommit.Verdict.ACCEPTED.value: "success",
    MlsCommit.Verdict.REFUSED.value: "danger",
    MlsCommit.Verdict.NOT_CHECKED.value: "warning",
}

Devices = dict[str, list[str]]
"""Ids of the devices in a group, by user."""


@room_page("rooms.view_mlsgroup")
def encryption(request: HttpRequest, room: Room) -> HttpResponse:
    """The page."""
    algorithm = algorithm_of(room)
    context: dict[str, Any] = {"rows": [("Algorithm", shown(algorithm) or "none: the room is not encrypted")]}
    if algorithm and not is_mls(algorithm):
        context["note"] = "Its clients see to everything. This server carries what they send, and has nothing to check."
    elif is_mls(algorithm) and not can_check(algorithm):
        context["note"] = "This server cannot check commits with this ciphersuite."
    elif algorithm:
        context |= _mls(request, room)
    here = buttons(request, room, "encryption")
    return show(request, room, "encryption", tab="encryption", buttons=here, **context)


def _mls(request: HttpRequest, room: Room) -> dict[str, Any]:
    row = MlsGroup.objects.filter(room=room).defer("state").first()
    commits = list(MlsCommit.objects.filter(room=room).order_by("-id")[:MAX_SHOWN])
    named = [*(commit.event_id for commit in commits), *([row.event_id] if row else [])]
    known = set(Event.objects.filter(room=room, event_id__in=named).values_list("event_id", flat=True))
    return {
        "mls": True,
        "rows": [("Algorithm", shown(algorithm_of(room))), *_described(room, row, known)],
        "commits": [_commit(room, commit, known) for commit in commits],
        **(_compared(request, room, row) if row else {}),
    }


def _described(room: Room, row: MlsGroup | None, known: set[str]) -> list[tuple[str, object]]:
    if row is None:
        return [("Group", "none yet: it begins with the first commit of the room's creator")]
    how = MlsGroup.Standing(row.standing).label
    return [
        ("Group", how),
        ("Epoch", row.epoch if row.standing != MlsGroup.Standing.LOST else f"{row.epoch} when it was last known"),
        ("Devices", f"{row.devices:,}"),
        ("Last commit", _event(room, row.event_id, known)),
        ("Changed at (UTC)", seconds_precise(row.changed_at)),
    ]


def _compared(request: HttpRequest, room: Room, row: MlsGroup) -> dict[str, Any]:
    """The group's members against the room's."""
    if row.devices > MAX_COMPARED:
        return {
            "uncompared": f"The group has {row.devices:,} devices: too many to be compared with who is joined here."
        }
    group = stored.load(room.room_id, bytes(row.digest))
    if group is None:
        return {"uncompared": "The group's members are not known."}
    devices: Devices = defaultdict(list)
    for device in group.members.values():
        devices[device.user_id].append(device.device_id)
    joined = joined_among(room.room_id, devices)
    gone = sorted(devices.keys() - joined)
    after = asked(request, "after")
    users = sorted(user for user in devices if user > after)
    without = max(members_of(room) - len(joined), 0)
    here = url("encryption", room.room_id)
    return {
        "users": [_user(user, devices[user], joined) for user in users[:PAGE]],
        "users_number": len(devices),
        "following": f"{here}?{urlencode({'after': users[PAGE - 1]})}" if len(users) > PAGE else "",
        "first": here if after else "",
        "gone": [_user(user, devices[user], joined) for user in gone[:MAX_SHOWN]],
        "gone_number": len(gone),
        "what_next": _what_next(room),
        "without": _without(room, devices) if without else [],
        "without_number": without,
    }


def _what_next(room: Room) -> str:
    """What becomes of devices whose users are not joined (docs/decisions/0011)."""
    if is_world_readable(current_state(room.room_id, [HISTORY_VISIBILITY])):
        return "Everybody may read this room, joined or not: they may stay in the group."
    read_on = "They can read on until the group's next commit."
    if room.role == Room.Role.HUB:
        return f"{read_on} A member's next commit must remove them. This server refuses one that does not."
    return f"{read_on} Whether a commit that does not remove them is refused, is for {shown(room.hub_server)} to say."


def _without(room: Room, devices: Mapping[str, Sequence[str]]) -> list[str]:
    members = page_of_members(room.room_id, memberships=("join",), limit=MAX_LOOKED_AT)
    return [shown(member.user_id) for member in members if member.user_id not in devices][:MAX_SHOWN]


def _user(user_id: str, devices: Sequence[str], joined: set[str]) -> dict[str, Any]:
    return {
        "user_id": shown(user_id),
        "devices": _some(map(shown, sorted(devices)[:MAX_DEVICES]), len(devices) - MAX_DEVICES),
        "joined": user_id in joined,
    }


def _commit(room: Room, commit: MlsCommit, known: set[str]) -> dict[str, Any]:
    changes = [
        f"{word} {_some(map(shown, names[:MAX_DEVICES]), len(names) - MAX_DEVICES)}"
        for word, names in (("added", commit.added), ("removed", commit.removed))
        if names
    ]
    return {
        "sender": shown(commit.sender),
        "epoch": "an epoch that cannot be read" if commit.epoch is None else f"epoch {commit.epoch}",
        "url": url("event", room.room_id, commit.event_id) if commit.event_id in known else "",
        "changes": "; ".join(changes),
        "verdict": MlsCommit.Verdict(commit.verdict).label,
        "label": VERDICTS[commit.verdict],
        "reason": shown(commit.reason, limit=500),
        "time": seconds_precise(commit.at),
    }


def _event(room: Room, event_id: str, known: set[str]) -> object:
    if event_id not in known:
        return shown(event_id)
    return format_html('<a class="lm-link" href="{}">{}</a>', url("event", room.room_id, event_id), shown(event_id))


def _some(names: Iterable[str], more: int) -> str:
    text = ", ".join(names)
    return f"{text} and {more:,} more" if more > 0 else text
