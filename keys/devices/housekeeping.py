"""What of devices and keys is forgotten, and when; RuntimeError inside of a transaction (`linmatrix.pruning`)."""

from datetime import datetime, timedelta

from django.conf import settings

from keys.models import Device, OneTimeKey, RemoteDeviceList
from linmatrix.pruning import prune


def prune_keys(now: datetime) -> int:
    """Keys that have expired, and what is remembered of those that were given away long ago."""
    before = now - timedelta(days=settings.LIMITS.claimed_key_days)
    given = prune(OneTimeKey.objects.filter(claimed_at__lt=before), oldest_first="claimed_at")
    expired = OneTimeKey.objects.filter(expires_at__lt=now, claimed_at__isnull=True)
    return given + prune(expired, oldest_first="expires_at")


def prune_devices(now: datetime) -> int:
    """Ids of devices that were removed so long ago that no server is told of it any more."""
    before = now - timedelta(days=settings.LIMITS.removed_device_days)
    return prune(Device.objects.filter(deleted=True, changed_at__lt=before), oldest_first="changed_at")


def prune_remote_devices(now: datetime) -> int:
    """Devices of other servers' users that nobody asked for and nothing was told of for long. Who needs them asks."""
    before = now - timedelta(days=settings.LIMITS.unused_device_days)
    return prune(RemoteDeviceList.objects.filter(changed_at__lt=before), oldest_first="changed_at")
