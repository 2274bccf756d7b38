"""What we know of the devices of other servers' users: told by updates, fetched when that is not enough.

Decision 111. An update names what changed; a device in it that does not hold makes the list stale: what was good stays
in use, and the list is fetched again (`federation.devices`). Only the user's own server is believed, which callers see
to. An answer that was asked for before an update came is older than the update: each update counts up the list's
revision, and such an answer leaves it stale.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from keys.models import RemoteDevice, RemoteDeviceList
from linmatrix.protocol.devices import MAX_DEVICES, check_device
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.identifiers import is_device_id

logger = logging.getLogger(__name__)

REFETCH = timedelta(seconds=60)
"""Between two answers about a list that goes stale again and again: its server decides how often it does."""

MAX_ERROR = 300
"""Characters kept of why a list could not be fetched."""


@dataclass(frozen=True, slots=True)
class KnownList:
    """A user's devices as texts of their objects, by id. `fetched_at` is None where the list may not be whole."""

    devices: dict[str, str]
    fetched_at: datetime | None
    stale: bool
    revision: int


NOTHING = KnownList({}, None, False, 0)


def known(user_ids: Iterable[str]) -> dict[str, KnownList]:
    """What is known of these users; those of whom nothing is are left out."""
    lists = RemoteDeviceList.objects.filter(user_id__in=list(user_ids)).prefetch_related("devices")
    return {
        row.user_id: KnownList(
            {device.device_id: device.json for device in row.devices.all()}, row.fetched_at, row.stale, row.revision
        )
        for row in lists
    }


def receive_update(user_id: str, changed: Sequence[object], removed: Sequence[object], *, now: datetime) -> None:
    """Take what a user's server says has changed of their devices. Nothing in it is an error to the sender."""
    devices, spoilt = _checked(user_id, changed[:MAX_DEVICES])
    gone = {device_id for device_id in removed if isinstance(device_id, str) and is_device_id(device_id)}
    with transaction.atomic():
        row = _locked(user_id, now)
        row.revision += 1
        row.changed_at = now
        row.devices.filter(device_id__in=gone).delete()
        _write(row, {device_id: text for device_id, text in devices.items() if device_id not in gone})
        if (spoilt or len(changed) > MAX_DEVICES) and not row.stale:
            row.stale, row.next_attempt = True, max(now, row.fetched_at + REFETCH) if row.fetched_at else now
        row.save()


def _checked(user_id: str, values: Iterable[object]) -> tuple[dict[str, str], bool]:
    """The device objects that hold, by id, and whether there are others."""
    devices: dict[str, str] = {}
    spoilt = False
    for value in values:
        device_id = value.get("device_id") if isinstance(value, dict) else None
        try:
            device = check_device(value, user_id=user_id, device_id=device_id if isinstance(device_id, str) else "")
        except ProtocolError as error:
            logger.info("a device of %s does not hold: %s", user_id, error.reason)
            spoilt = True
        else:
            devices[device.device_id] = device.json
    return devices, spoilt


def store(user_id: str, devices: Mapping[str, str], *, revision: int, now: datetime) -> None:
    """Keep a user's whole list as their server gave it; `revision` is what it was when the server was asked."""
    with transaction.atomic(durable=True):
        row = _locked(user_id, now)
        row.stale = row.revision != revision
        row.next_attempt, row.failures, row.last_error = now if row.stale else None, 0, ""
        if not row.stale:
            row.devices.exclude(device_id__in=devices).delete()
            _write(row, devices)
            row.fetched_at = row.changed_at = now
        row.save()


def put_off(user_id: str, *, until: datetime, error: str = "") -> bool:
    """Do not fetch a stale list before then; with `error`, because that failed. Whether it is stale."""
    with transaction.atomic():
        row = RemoteDeviceList.objects.select_for_update().filter(user_id=user_id, stale=True).first()
        if row is None:
            return False
        row.next_attempt = until
        if error:
            row.failures, row.last_error = row.failures + 1, error[:MAX_ERROR]
        row.save(update_fields=["next_attempt", "failures", "last_error"])
    return True


def _locked(user_id: str, now: datetime) -> RemoteDeviceList:
    """The user's row, locked from the first statement on: housekeeping might delete one that is only there."""
    RemoteDeviceList.objects.bulk_create(
        [RemoteDeviceList(user_id=user_id, changed_at=now)],
        update_conflicts=True,
        unique_fields=["user_id"],
        update_fields=["changed_at"],
    )
    return RemoteDeviceList.objects.get(user_id=user_id)


def _write(row: RemoteDeviceList, devices: Mapping[str, str]) -> None:
    """Add and replace devices, as many as there may be of one user."""
    there = set(row.devices.values_list("device_id", flat=True))
    room = MAX_DEVICES - len(there)
    new = [device_id for device_id in devices if device_id not in there]
    if len(new) > room:
        logger.warning("%s has more than %d devices; the others are left out", row.user_id, MAX_DEVICES)
    left_out = set(new[room:])
    RemoteDevice.objects.bulk_create(
        [
            RemoteDevice(user=row, device_id=device_id, json=text)
            for device_id, text in devices.items()
            if device_id not in left_out
        ],
        update_conflicts=True,
        unique_fields=["user", "device_id"],
        update_fields=["json"],
    )
