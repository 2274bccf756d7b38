"""Devices of local users with keys to claim, and messages to devices."""

import time
from typing import Any

from django.conf import settings
from django.utils import timezone

from federation.edus.to_device import send as send_to_device
from federation.models import ToDeviceMessage
from keys.devices.storing import upload_device
from keys.devices.uploading import upload_keys
from linmatrix.protocol.one_time_keys import SIGNED_CURVE25519
from tests.support.devices import DeviceMaker

DEVICE = "DEVICE"
TEXT = "x" * 400
"""What a message carries: sealed, a room key has some 400 characters."""

ARRIVAL_SECONDS = 300.0
POLL_SECONDS = 0.005


def publish(users: int, keys: int) -> list[dict[str, Any]]:
    """So many users with a device and so many one-time keys each; what a claim of each one's next key wants."""
    now, wanted = timezone.now(), []
    for number in range(users):
        device = DeviceMaker(_user(number), DEVICE, mls=False)
        upload_device(device.object(), user_id=device.user_id, device_id=DEVICE, now=now)
        one_time_keys = device.olm_keys([f"KEY{key}" for key in range(keys)])
        upload_keys(device.user_id, DEVICE, one_time_keys=one_time_keys, now=now)
        wanted.append({device.user_id: {DEVICE: SIGNED_CURVE25519}})
    return wanted


def send(server: str, devices: int, rounds: int) -> float:
    """Send a message to each device of another server, round after round; when the first was sent, by the clock."""
    targets = [f"@user{number}:{server}" for number in range(devices)]
    begun = time.monotonic()
    for number in range(rounds):
        content = {"number": number, "text": TEXT}
        messages = [(target, DEVICE, "org.example.message", content) for target in targets]
        send_to_device(sender=_user(0), messages=messages)
    return begun


def arrived(number: int) -> float:
    """Wait until so many messages are in inboxes here; when that was, by the clock of the machine."""
    begun = time.monotonic()
    while ToDeviceMessage.objects.count() < number:
        if time.monotonic() - begun > ARRIVAL_SECONDS:
            raise RuntimeError(f"{number} messages did not arrive within {ARRIVAL_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


def _user(number: int) -> str:
    return f"@user{number}:{settings.SERVER_NAME}"
