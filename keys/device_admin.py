"""What an operator sees of our users' devices: the public objects that they signed, and how many keys are left of each.

Nothing here is a secret; private keys never leave a device. The lever: a device is removed, as when a phone was lost.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from django.contrib import admin
from django.db import models
from django.db.models import Count, Max
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from keys.devices.storing import UnknownDevice, delete_device
from keys.devices.uploading import KeyCounts, key_counts
from keys.models import Device, OneTimeKey
from linmatrix.readonly_admin import pretty_json, seconds_precise
from linmatrix.row_levers import LeverAdmin, NotDone, RowLever

MOST_COUNTED = 10_000
"""Keys of a device that were given away and are counted; of more it is said that they are more."""

FAMILIES = (("m.mls.", "MLS"), ("m.olm.", "Olm"), ("m.megolm.", "Megolm"))
"""Algorithms by how they begin."""


@admin.register(Device)
class DeviceAdmin(LeverAdmin):
    """Devices of local users, by user. One that was removed is listed until every server must have been told."""

    list_display = ("user_id", "device_id", "display_name", "encrypts_by", "state", "changed_at")
    list_display_links = ("user_id", "device_id")
    list_filter = ("deleted",)
    search_fields = ("user_id__exact",)
    search_help_text = "A user's id, in full"
    ordering = ("user_id", "device_id")
    fields = (
        "user_id", "device_id", "display_name", "state", "algorithms", "changed", "stream_id", "keys_left",
        "keys_given", "more", "public_keys", "signed",
    )  # fmt: skip
    readonly_fields = ("state", "algorithms", "changed", "keys_left", "keys_given", "more", "public_keys", "signed")
    lever = RowLever(
        text="Delete device",
        icon="phonelink_erase",
        permission="keys.delete_device",
        lead="The device is removed from its user's list, with all of its keys. Other servers are told.",
        points=(
            "Nobody can begin anything new with it, and messages that wait for it are dropped.",
            "It stays in the MLS groups that it is in until somebody there removes it. Have its user do that from "
            "another device.",
            "What the device itself has read is beyond our reach.",
        ),
        danger=True,
    )

    def useful(self, row: models.Model) -> bool:
        return isinstance(row, Device) and not row.deleted

    def pull(self, row: models.Model, answer: Mapping[str, str]) -> str:
        assert isinstance(row, Device)
        try:
            delete_device(row.user_id, row.device_id, now=timezone.now())
        except UnknownDevice as gone:
            raise NotDone(f"Nothing was done: {gone.reason}.") from None
        return f"Deleted {row}."

    @admin.display(description="state")
    def state(self, device: Device) -> str:
        return "removed" if device.deleted else "in use"

    @admin.display(description="encrypts by")
    def encrypts_by(self, device: Device) -> str:
        """In short: the names of algorithms are too long for a list."""
        algorithms = algorithms_of(device.json)
        families = [word for prefix, word in FAMILIES if any(name.startswith(prefix) for name in algorithms)]
        return ", ".join(families) or "-"

    @admin.display(description="algorithms")
    def algorithms(self, device: Device) -> str:
        return ", ".join(algorithms_of(device.json)) or "-"

    @admin.display(description="changed at (UTC)")
    def changed(self, device: Device) -> str:
        return seconds_precise(device.changed_at)

    @admin.display(description="keys left")
    def keys_left(self, device: Device) -> SafeString | str:
        if device.deleted:
            return "-"
        return _told_keys(key_counts(device.user_id, device.device_id, now=timezone.now()))

    @admin.display(description="keys given away")
    def keys_given(self, device: Device) -> str:
        given = OneTimeKey.objects.filter(
            user_id=device.user_id, device_id=device.device_id, claimed_at__isnull=False
        ).order_by()[: MOST_COUNTED + 1]
        found = given.aggregate(number=Count("pk"), last=Max("claimed_at"))
        if not found["number"]:
            return "none that is remembered"
        number = f"{found['number']:,}" if found["number"] <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"
        return f"{number}, the last at {seconds_precise(found['last'])}"

    @admin.display(description="see")
    def more(self, device: Device) -> SafeString:
        # Known by name: traffic is above keys.
        url = reverse("admin:federation_todeviceinbox_changelist")
        query = urlencode({"user_id": device.user_id, "device_id": device.device_id})
        return format_html('<a href="{}?{}">messages that wait for it</a>', url, query)

    @admin.display(description="public keys")
    def public_keys(self, device: Device) -> SafeString | str:
        rows = sorted(_object(device.json).get("keys", {}).items())
        lines = format_html_join("", '<div>{} <code class="lm-wrap">{}</code></div>', rows)
        return lines or "-"

    @admin.display(description="what it signed")
    def signed(self, device: Device) -> SafeString | str:
        return pretty_json(device.json) if device.json else "-"


def algorithms_of(text: str) -> list[str]:
    """The algorithms of a stored device object; none of one that was removed."""
    return list(_object(text).get("algorithms", []))


def _object(text: str) -> dict[str, Any]:
    return dict(orjson.loads(text)) if text else {}


def _told_keys(counts: KeyCounts) -> SafeString | str:
    """A line for each algorithm of which there is or was one: how many keys are left, and what is there for then."""
    lines = []
    for algorithm in sorted({*counts.one_time, *counts.reusable}):
        then = "one that may be given again and again" if algorithm in counts.reusable else "nothing for when they end"
        lines.append((algorithm, f"{counts.one_time.get(algorithm, 0):,}", then))
    if not lines:
        return "none: nobody can begin to send to this device"
    return format_html_join("", "<div>{}: {} for single use, and {}</div>", lines)
