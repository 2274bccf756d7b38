"""What other servers say of their users' devices, asked for and checked: the requests behind `federation.devices`.

Three endpoints tell of devices, and peers serve any of them (decision 111): `POST user/keys/query` for many users,
`GET user/devices` for one, both Matrix's; and the draft's `GET user/device`, which can only say what became of devices
that are known already. Whatever comes is checked as an upload is; what does not hold is left out and said.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from federation import paths
from federation.client import Answer, BadAnswer, federation_client, one_line
from federation.paths import Paths
from linmatrix.protocol.devices import MAX_DEVICES, check_device
from linmatrix.protocol.errors import ProtocolError

MAX_SAID = 20
"""Lines kept about one server's answer: the first show what is wrong with it."""

USERS_AT_ONCE = 100
"""Asked about in one request: what a server takes (decision 113)."""

SINGLY_SECONDS = 60.0
"""For asking after a user's devices one by one, before that counts as failed: there may be hundreds of them, and a
server that takes its time for each would hold a worker for an hour."""

Devices = dict[str, str]
"""Texts of device objects by id."""


@dataclass(slots=True)
class Found:
    """What one server told: whole lists by user, and what of its answers was left out."""

    lists: dict[str, Devices] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Note what is wrong with an answer, within bounds."""
        if len(self.left_out) < MAX_SAID:
            self.left_out.append(one_line(line))


def ask(server: str, users: Mapping[str, Iterable[str]]) -> Found:
    """The devices of a server's users; those known so far stand beside each.

    No database is used but for the peer's profile. Raises `TransportError` when the server does not answer as it
    should for any user.
    """
    found = Found()
    missing = list(users)
    for start in range(0, len(missing), USERS_AT_ONCE) if len(missing) > 1 else ():
        if not _query(server, missing[start : start + USERS_AT_ONCE], found):
            break
    for user_id in users:
        if user_id not in found.lists and not _list(server, user_id, found):
            _singly(server, user_id, users[user_id], found)
    return found


def call(server: str, method: str, target: Paths, content: dict[str, Any] | None = None) -> Answer:
    """A request about devices or keys, within its limits. Raises `TransportError`."""
    return federation_client().call(
        server,
        method,
        target,
        stable=True,
        content=content,
        timeout=settings.LIMITS.device_query_seconds,
        max_response_bytes=settings.LIMITS.device_answer_bytes,
    )


def _query(server: str, user_ids: list[str], found: Found) -> bool:
    """Ask about many at once; whether the server has the endpoint."""
    content: dict[str, Any] = {"device_keys": {user_id: [] for user_id in user_ids}}
    answer = call(server, "POST", paths.user_keys_query(), content)
    if answer.unrecognized:
        return False
    told = (answer.content or {}).get("device_keys")
    if answer.status != 200 or not isinstance(told, dict):
        raise BadAnswer(f"{server} answered user/keys/query with {answer}")
    for user_id in user_ids:
        devices = told.get(user_id, {})
        if isinstance(devices, dict):
            found.lists[user_id] = _checked(user_id, devices.items(), found)
        else:
            found.say(f"devices of {user_id} are not an object")
    return True


def _list(server: str, user_id: str, found: Found) -> bool:
    """Ask about one user; whether the server has the endpoint."""
    answer = call(server, "GET", paths.user_devices(user_id))
    if answer.unrecognized:
        return False
    if answer.status == 404:  # it has no such user
        found.lists[user_id] = {}
        return True
    devices = (answer.content or {}).get("devices")
    if answer.status != 200 or not isinstance(devices, list):
        raise BadAnswer(f"{server} answered user/devices with {answer}")
    # Devices that do not encrypt have no keys, and are none for us.
    entries = [(item.get("device_id"), item["keys"]) for item in devices if isinstance(item, dict) and "keys" in item]
    found.lists[user_id] = _checked(user_id, entries, found)
    return True


def _singly(server: str, user_id: str, known: Iterable[str], found: Found, *, seconds: float = SINGLY_SECONDS) -> None:
    """Ask after each device that is known: no more can be had of a server with the draft's endpoints alone."""
    told: dict[str, Any] = {}
    ends = time.monotonic() + seconds
    for asked, device_id in enumerate(known):
        if asked and time.monotonic() > ends:
            raise BadAnswer(f"{server} took more than {seconds:.0f} s to tell of {asked} devices of {user_id}")
        answer = call(server, "GET", paths.user_device(user_id, device_id))
        if answer.status == 200:
            told[device_id] = answer.content
        elif answer.status != 404 or answer.unrecognized:
            raise BadAnswer(f"{server} answered user/device with {answer}")
    found.lists[user_id] = _checked(user_id, told.items(), found)


def _checked(user_id: str, entries: Iterable[tuple[Any, Any]], found: Found) -> Devices:
    devices: Devices = {}
    for device_id, value in list(entries)[:MAX_DEVICES]:
        try:
            device = check_device(value, user_id=user_id, device_id=device_id if isinstance(device_id, str) else "")
        except ProtocolError as error:
            found.say(f"{user_id} {device_id}: {error.reason}")
        else:
            devices[device.device_id] = device.json
    return devices
