"""The EDUs of a transaction that came in (draft, "EDUs"; decisions 106, 107, 111 and 114; threats T62 to T65).

All of them are done with before the transaction is answered. None is an error to its sender: what cannot be read, or
is not for us, is dropped, counted and logged, and touches nothing else. Whoever repeats a transaction finds the same
state, whether or not it was processed before.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from federation.edus import inbox
from federation.edus.inbox import Incoming
from keys import devices as device_lists
from keys.devices.storing import devices_of
from linmatrix.metrics import instruments
from linmatrix.protocol.edus import (
    DEVICE_LIST,
    EVERY_DEVICE,
    TO_DEVICE,
    DeviceListUpdate,
    Spoofed,
    ToDevice,
    Unknown,
    read_edu,
)
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import domain_of
from rooms import local_users
from rooms.audience import sharing

logger = logging.getLogger(__name__)

TARGETS_PER_TRANSACTION = 10_000
"""Devices that one transaction's messages reach: as many as Olm messages fit into its body. Empty ones, or where every
device of somebody is addressed again and again, would reach many more. After as many targets no message is read."""

_TYPES = (TO_DEVICE, DEVICE_LIST)
_TOO_MANY = "more devices than one transaction may reach"


def receive_edus(origin: str, edus: Sequence[Any], *, txn_id: str, body: bytes, now: datetime) -> None:
    """Process a transaction's EDUs. `txn_id` and `body` are the transaction's, by which a repetition is known."""
    messages: list[tuple[int, ToDevice]] = []
    updates: list[DeviceListUpdate] = []
    for index, value in enumerate(edus):
        if len(messages) >= TARGETS_PER_TRANSACTION and _type_of(value) == TO_DEVICE:
            _drop(TO_DEVICE, "malformed", origin, _TOO_MANY)
            continue
        try:
            edu = read_edu(value, origin=origin)
        except Malformed as error:
            _drop(_type_of(value), "spoofed" if isinstance(error, Spoofed) else "malformed", origin, error.reason)
            continue
        if isinstance(edu, Unknown):
            instruments.edus.labels("other", "ignored").inc()
        elif isinstance(edu, DeviceListUpdate):
            updates.append(edu)
        else:
            messages += [(index, message) for message in edu]
    _take_updates(origin, updates, now=now)
    if messages:
        _take_messages(origin, messages, txn_id=txn_id, body=body, now=now)


def _type_of(value: Any) -> str:
    """An EDU's type as it is counted: others choose it."""
    type_ = (value.get("type") or value.get("edu_type")) if isinstance(value, dict) else None
    return type_ if type_ in _TYPES else "other"


def _drop(type_: str, outcome: str, origin: str, reason: str, number: int = 1) -> None:
    instruments.edus.labels(type_, outcome).inc(number)
    logger.info("dropped %d %s from %s: %s", number, "EDU" if number == 1 else "EDUs", origin, reason)


def _take_updates(origin: str, updates: Sequence[DeviceListUpdate], *, now: datetime) -> None:
    """Hand updates on about users that share a room with us: nobody could ask for the devices of others."""
    if not updates:
        return
    shared = sharing({(update.user_id, settings.SERVER_NAME) for update in updates})
    for update in updates:
        if (update.user_id, settings.SERVER_NAME) not in shared:
            _drop(DEVICE_LIST, "no_shared_room", origin, f"{update.user_id} is in no room with us")
            continue
        device_lists.receive_update(update.user_id, update.changed, update.removed, now=now)
        instruments.edus.labels(DEVICE_LIST, "accepted").inc()


def _take_messages(
    origin: str, messages: Sequence[tuple[int, ToDevice]], *, txn_id: str, body: bytes, now: datetime
) -> None:
    devices = _devices_of_ours(message.user_id for _, message in messages)
    # The body is part of a transaction's identity, since there are peers that use ids twice (decision 74).
    digest = hashlib.sha256(body).hexdigest()
    incoming: list[Incoming] = []
    unknown = left_out = 0
    for index, message in messages:
        there = devices.get(message.user_id, frozenset[str]())
        every = message.device_id == EVERY_DEVICE
        if not (there if every else message.device_id in there):
            unknown += 1
            continue
        if message.message_id:
            source = inbox.source_of("id", message.sender, message.message_id)
        else:
            source = inbox.source_of("place", origin, txn_id, digest, index)
        reached = sorted(there) if every else [message.device_id]
        room = TARGETS_PER_TRANSACTION - len(incoming)
        left_out += max(len(reached) - room, 0)
        incoming += [Incoming(message._replace(device_id=device_id), source) for device_id in reached[:room]]
    if unknown:
        _drop(TO_DEVICE, "unknown_device", origin, "there are no such devices here", unknown)
    if left_out:
        _drop(TO_DEVICE, "malformed", origin, _TOO_MANY, left_out)
    if incoming:
        with transaction.atomic():
            inbox.store(incoming, origin=origin, txn_id=txn_id, now=now)


def _devices_of_ours(user_ids: Iterable[str]) -> dict[str, frozenset[str]]:
    """The devices of those users that are ours and exist."""
    ours = local_users.existing({user_id for user_id in user_ids if domain_of(user_id) == settings.SERVER_NAME})
    devices: dict[str, set[str]] = {}
    for user_id, device_id in devices_of(ours).values_list("user_id", "device_id"):
        devices.setdefault(user_id, set()).add(device_id)
    return {user_id: frozenset(ids) for user_id, ids in devices.items()}
