"""A local user's devices: adding one, renaming it, removing it, and reading them.

All changes of one user's devices are made one after the other, under the lock of the user's `DeviceList`, and each has
the next number, which stands on the device. So the rows above a number are what a server has to be told that knew the
list as of then: objects of devices that are new or changed, ids of those that were removed (decision 111).
"""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from keys.models import Device, DeviceList, OneTimeKey
from keys.signals import device_list_changed
from linmatrix.protocol import canonical_json
from linmatrix.protocol.devices import MAX_DEVICES, CheckedDevice, check_device
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import is_device_id, is_user_id
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, SIGNED_CURVE25519

MAX_DISPLAY_NAME = 100
"""Characters of a device's name: it is for people, and stands in every answer about the device."""


class UnknownDevice(Malformed):
    """The user has no such device."""


def devices_of(user_ids: Iterable[str]) -> "QuerySet[Device]":
    """The devices that local users have now, by user and id."""
    return Device.objects.filter(user_id__in=list(user_ids), deleted=False).order_by("user_id", "device_id")


def has_device(user_id: str, device_id: str) -> bool:
    """Whether a local user has this device now; any text may be asked about."""
    return find_device(user_id, device_id) is not None


def find_device(user_id: str, device_id: str) -> Device | None:
    """A local user's device; any text may be asked for."""
    if not (is_user_id(user_id) and is_device_id(device_id)):
        return None
    return Device.objects.filter(user_id=user_id, device_id=device_id, deleted=False).first()


def list_number(user_id: str) -> int:
    """The number of the last change of a local user's devices; 0 before the first."""
    return DeviceList.objects.filter(user_id=user_id).values_list("stream_id", flat=True).first() or 0


@transaction.atomic
def upload_device(
    value: object, *, user_id: str, device_id: str, now: datetime, display_name: str | None = None
) -> CheckedDevice:
    """Take a local user's device, new or changed, and its name if one is given. What is there already changes nothing.

    A device that changes a key loses the one-time keys that only the former key vouches for. Raises as `check_device`,
    and `Malformed` for one device more than anybody keeps of a user.
    """
    device = check_device(value, user_id=user_id, device_id=device_id)
    user = _locked(user_id)
    # Locked, as uploads of keys lock it, and as its name may be changed without the list's lock.
    row = Device.objects.select_for_update().filter(user_id=user_id, device_id=device_id).first()
    if row is None or row.deleted:
        if devices_of([user_id]).count() >= MAX_DEVICES:
            raise Malformed(f"{user_id} has {MAX_DEVICES} devices already; remove one of them")
        row = row or Device(user_id=user_id, device_id=device_id)
    elif row.json == device.json:
        if display_name is not None:
            rename(user_id, device_id, display_name)
        return device
    else:
        _drop_orphans(row, device)
    row.json, row.deleted = device.json, False
    if display_name is not None:
        row.display_name = _checked_name(display_name)
    _save(row, user, now)
    return device


@transaction.atomic
def delete_device(user_id: str, device_id: str, *, now: datetime) -> None:
    """Remove a local user's device, and its keys. Raises `UnknownDevice`.

    What is known of keys that were given away stays, should a device of the same id come with the same keys.
    """
    user = _locked(user_id)
    row = device_row(user_id, device_id, locked=True)  # an upload of keys that is under way comes first
    OneTimeKey.objects.filter(user_id=user_id, device_id=device_id, claimed_at__isnull=True).delete()
    row.json, row.display_name, row.deleted = "", "", True
    _save(row, user, now)


def rename(user_id: str, device_id: str, display_name: str) -> None:
    """Give a device a name for people; empty for none. No server is told, those that ask see it. Raises
    `UnknownDevice`, and `Malformed` for a name that is too long."""
    name = _checked_name(display_name)
    if not devices_of([user_id]).filter(device_id=device_id).update(display_name=name):
        raise _unknown(user_id, device_id)


def device_row(user_id: str, device_id: str, *, locked: bool = False) -> Device:
    """A local user's device; `locked` to the end of the transaction. Raises `UnknownDevice`."""
    rows = Device.objects.select_for_update() if locked else Device.objects.all()
    row = rows.filter(user_id=user_id, device_id=device_id, deleted=False).first()
    if row is None:
        raise _unknown(user_id, device_id)
    return row


def stored(row: Device) -> CheckedDevice:
    """A device of ours as it was when it came."""
    return check_device(canonical_json.loads(row.json.encode()), user_id=row.user_id, device_id=row.device_id)


def _unknown(user_id: str, device_id: str) -> UnknownDevice:
    return UnknownDevice(f"{user_id} has no device {device_id}")


def _locked(user_id: str) -> DeviceList:
    DeviceList.objects.bulk_create([DeviceList(user_id=user_id)], ignore_conflicts=True)
    return DeviceList.objects.select_for_update().get(user_id=user_id)


def _save(row: Device, user: DeviceList, now: datetime) -> None:
    """Write a change under the next number, and tell who listens."""
    user.stream_id += 1
    user.save(update_fields=["stream_id"])
    row.stream_id, row.changed_at = user.stream_id, now
    row.save()
    device_list_changed.send(sender=Device, user_id=user.user_id, stream_id=user.stream_id)


def _drop_orphans(row: Device, device: CheckedDevice) -> None:
    """Forget keys that nobody could check any more. The caller holds the device's row."""
    before = stored(row)
    changed = [
        algorithm
        for algorithm, old, new in (
            (KEY_PACKAGE, before.credential, device.credential),
            (SIGNED_CURVE25519, before.ed25519_key, device.ed25519_key),
        )
        if old != new
    ]
    unclaimed = OneTimeKey.objects.filter(user_id=row.user_id, device_id=row.device_id, claimed_at__isnull=True)
    unclaimed.filter(algorithm__in=changed).delete()


def _checked_name(name: str) -> str:
    if len(name) > MAX_DISPLAY_NAME or not name.isprintable():
        raise Malformed(f"a device's name has at most {MAX_DISPLAY_NAME} characters, all of which can be shown")
    return name
