"""Devices and one-time keys of anybody: our own users' from our tables, others' from their servers.

Draft sections "Device Info Publishing" and "One Time Key Claiming"; decisions 107, 111 and 113. Requests go straight to
each user's server, to all of them at once. Lists are kept (`keys.devices.remote`) and fetched again when an update
could not be taken, or when they are old, since a user who shares no room with us tells us of no change. A server that
is down leaves what we have in use. Claims are never repeated: each would cost a key.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection, connections
from django.db.models import Value, Window
from django.db.models.functions import RowNumber, StrIndex, Substr

from federation import backoff, paths
from federation.client import one_line
from federation.device_answers import USERS_AT_ONCE, ask, call
from federation.places import MOST_PER_SERVER
from keys.devices import claiming, remote
from keys.devices.storing import devices_of
from keys.models import RemoteDeviceList
from linmatrix.protocol import canonical_json
from linmatrix.protocol.devices import CheckedDevice, check_device
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.identifiers import domain_of, is_user_id
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, check_value
from linmatrix.transport.errors import TransportError
from rooms import local_users

SERVERS_AT_ONCE = 16
"""Asked at the same time for one caller; more wait for their turn."""

LEASE = timedelta(minutes=2)
"""How long one worker's attempt to fetch a stale list keeps others from it."""

MAX_DUE = 50
"""Stale lists that one sweep wakes."""

Asked = TypeVar("Asked")
Result = TypeVar("Result")


@dataclass(slots=True)
class Queried:
    """Device objects as texts by user and device; why servers could not be asked, by their names, in which case what
    is known of their users stands all the same; and what was left out of answers, in lines for people."""

    devices: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ClaimedKeys:
    """Keys by user, device and name; otherwise as `Queried`."""

    keys: claiming.Claimed = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def query(user_ids: Collection[str], *, now: datetime, fresh: bool = False) -> Queried:
    """The devices of these users; `fresh` to ask their servers whatever is known. Users that there are not have none.

    RuntimeError inside of a transaction: other servers are waited for.
    """
    result = Queried()
    valid = [user_id for user_id in dict.fromkeys(user_ids) if is_user_id(user_id)]
    ours = [user for user in valid if domain_of(user) == settings.SERVER_NAME]
    for row in devices_of(local_users.existing(ours)):
        result.devices.setdefault(row.user_id, {})[row.device_id] = row.json
    others = [user for user in valid if domain_of(user) != settings.SERVER_NAME]
    known = remote.known(others)
    usable_since = now - timedelta(hours=settings.LIMITS.device_list_hours)
    due: dict[str, dict[str, Iterable[str]]] = defaultdict(dict)
    for user_id in others:
        entry = known.get(user_id, remote.NOTHING)
        result.devices[user_id] = entry.devices
        if fresh or entry.stale or entry.fetched_at is None or entry.fetched_at < usable_since:
            due[domain_of(user_id)][user_id] = entry.devices.keys()
    answers = _at_once(ask, due, result.failures)
    for found in answers.values():
        result.left_out += found.left_out
        for user_id, devices in found.lists.items():
            remote.store(user_id, devices, revision=known.get(user_id, remote.NOTHING).revision, now=now)
            result.devices[user_id] = devices
    return result


def claim(wanted: claiming.Wanted, *, now: datetime) -> ClaimedKeys:
    """A one-time key for each device, of the algorithm that stands beside it.

    Keys of others are checked against the devices that signed them. RuntimeError inside of a transaction.
    """
    asked = query(list(wanted), now=now)
    result = ClaimedKeys(failures=asked.failures, left_out=asked.left_out)
    ours: dict[str, Mapping[str, str]] = {}
    by_server: dict[str, dict[str, Mapping[str, str]]] = defaultdict(dict)
    for user_id, devices in wanted.items():
        known = {device: algorithm for device, algorithm in devices.items() if device in asked.devices.get(user_id, {})}
        if known and domain_of(user_id) == settings.SERVER_NAME:
            ours[user_id] = known
        elif known:
            by_server[domain_of(user_id)][user_id] = known
        result.left_out += [f"{user_id} has no device {device}" for device in devices if device not in known]
    result.keys = claiming.claim(settings.SERVER_NAME, ours, now=now)
    for server, (keys, failure) in _at_once(_claim_of, by_server, result.failures).items():
        if failure:
            result.failures[server] = failure
        for user_id in keys:
            for device_id, algorithm in by_server[server][user_id].items():
                text = asked.devices[user_id][device_id]
                device = check_device(canonical_json.loads(text.encode()), user_id=user_id, device_id=device_id)
                _take(result, device, algorithm, _at(keys, user_id, device_id), now)
    return result


def refetch(user_id: str, *, now: datetime, chance: Callable[[], float] = random.random) -> None:
    """Fetch a stale list; a failure puts off the next attempt, the longer the more there were."""
    if not remote.put_off(user_id, until=now + LEASE):
        return
    failures = query([user_id], now=now, fresh=True).failures
    if failures:
        before = RemoteDeviceList.objects.filter(user_id=user_id).values_list("failures", flat=True).first() or 0
        wait = timedelta(seconds=backoff.seconds_to_wait(before + 1, chance=chance()))
        remote.put_off(user_id, until=now + wait, error="; ".join(failures.values()))


def due_lists(*, now: datetime) -> list[str]:
    """Users whose stale lists may be fetched now: of each server the few that have waited longest, since one whose
    many lists are fetched in vain must not keep out the others. Servers are drawn by lot where there are more."""
    server = Substr("user_id", StrIndex("user_id", Value(":")) + 1)
    turn = Window(RowNumber(), partition_by=server, order_by="next_attempt")
    due = RemoteDeviceList.objects.filter(backoff.is_due(now), stale=True).annotate(turn=turn)
    due = due.filter(turn__lte=MOST_PER_SERVER).order_by("?")
    return list(due.values_list("user_id", flat=True)[:MAX_DUE])


def _at_once(
    request: Callable[[str, Asked], Result], servers: Mapping[str, Asked], failures: dict[str, str]
) -> dict[str, Result]:
    """Make a request to each of these servers, at the same time; what fails is said by server."""
    if not servers:
        return {}
    if connection.in_atomic_block:
        raise RuntimeError("other servers must not be waited for inside of a transaction")

    def run(server: str) -> Result:
        try:
            return request(server, servers[server])
        finally:
            connections.close_all()  # the thread's own, for the peer's profile

    answers: dict[str, Result] = {}
    with ThreadPoolExecutor(max_workers=min(len(servers), SERVERS_AT_ONCE)) as pool:
        running = {server: pool.submit(run, server) for server in servers}
        for server, future in running.items():
            try:
                answers[server] = future.result()
            except TransportError as error:
                failures[server] = one_line(error.reason)
    return answers


def _claim_of(server: str, wanted: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, Any], str]:
    """What a server answers to claims, by user, and why it is not asked about the others; '' if it is asked about all.
    What it has given is spent, so a failure after that does not take it away."""
    claimed: dict[str, Any] = {}
    for part in _parts(wanted):
        try:
            answer = call(server, "POST", paths.user_keys_claim(), {"one_time_keys": part})
        except TransportError as error:
            return claimed, one_line(error.reason)
        keys = (answer.content or {}).get("one_time_keys")
        if answer.status != 200 or not isinstance(keys, dict):
            return claimed, one_line(f"{server} answered user/keys/claim with {answer}")
        claimed |= {user_id: keys.get(user_id) for user_id in part}
    return claimed, ""


def _parts(wanted: Mapping[str, Mapping[str, str]]) -> list[dict[str, Mapping[str, str]]]:
    """Requests of no more users and devices than a server takes; a user's devices stay together."""
    parts: list[dict[str, Mapping[str, str]]] = [{}]
    for user_id, devices in wanted.items():
        number = sum(map(len, parts[-1].values())) + len(devices)
        if len(parts[-1]) == USERS_AT_ONCE or (parts[-1] and number > claiming.MAX_CLAIMED_DEVICES):
            parts.append({})
        parts[-1][user_id] = devices
    return parts


def _at(keys: Mapping[str, Any], user_id: str, device_id: str) -> dict[str, Any]:
    """What an answer holds for a device; nothing where it is of another form."""
    devices = keys.get(user_id)
    named = devices.get(device_id) if isinstance(devices, dict) else None
    return named if isinstance(named, dict) else {}


def _take(result: ClaimedKeys, device: CheckedDevice, algorithm: str, named: Mapping[str, Any], now: datetime) -> None:
    """Take the one key that a server gave for a device, if it holds."""
    for name, value in named.items():
        of_algorithm, _, key_id = name.partition(":")
        if of_algorithm != algorithm or (algorithm != KEY_PACKAGE and not key_id):
            continue
        try:
            check_value(algorithm, key_id, value, device=device, now=now.timestamp())
        except ProtocolError as error:
            result.left_out.append(one_line(f"{device.user_id} {device.device_id}: {error.reason}"))
            return
        result.keys.setdefault(device.user_id, {})[device.device_id] = {name: value}
        return
    result.left_out.append(f"{device.user_id} {device.device_id}: its server has no key of {algorithm}")
