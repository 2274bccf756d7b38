"""`GET user/device` (draft, "Device Info Publishing"; decision 110), and as extensions Matrix's `GET user/devices` and
`POST user/keys/query`, the only ways to list a user's devices (decision 111).

What is not to be known of is answered like what does not exist: users of others, users and devices that there are not,
users who never had a device, and, where the operator has it so, users who share no room with the asking server (threat
T66).
"""

from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.db.models import Func, IntegerField, Sum
from django.http import HttpResponse
from rest_framework.request import Request

from federation.errors import ApiError
from federation.responses import CONTENT_TYPE, json_response
from federation.views.base import FederationView
from keys.devices.claiming import MAX_CLAIMED_DEVICES
from keys.devices.storing import devices_of, find_device, list_number
from keys.models import Device
from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import domain_of, is_user_id
from rooms import local_users
from rooms.audience import sharing

NO_DEVICE = "Unknown user or device."
"""Said alike of whatever there is not (threat T66)."""


MAX_QUERIED_USERS = 1000
"""Users in one query. Nothing is used up by it, and servers that speak Matrix ask at once about all of ours in a room;
what is answered has a limit in bytes."""


class UserDevice(FederationView):
    """One device."""

    http_method_names = ["get"]

    def get(self, request: Request, user_id: str, device_id: str, *, stable: bool) -> HttpResponse:
        """The object that the device signed, byte for byte."""
        user, device = unquote(user_id), unquote(device_id)
        row = find_device(user, device) if tellable([user], self.origin) else None
        if row is None:
            raise ApiError(404, "M_NOT_FOUND", NO_DEVICE)
        return HttpResponse(row.json, content_type=CONTENT_TYPE)


class UserDevices(FederationView):
    """All devices of a user."""

    http_method_names = ["get"]

    def get(self, request: Request, user_id: str) -> HttpResponse:
        """`devices`, with the number of the last change as `stream_id`."""
        user = unquote(user_id)
        # Read first: a change that comes in between is then told of by an update with a higher number.
        number = list_number(user) if tellable([user], self.origin) else 0
        if not number:
            raise ApiError(404, "M_NOT_FOUND", NO_DEVICE)
        devices = [
            {"device_id": row.device_id, "keys": canonical_json.loads(row.json.encode()), **_named(row)}
            for row in _bounded([user])
        ]
        return json_response({"user_id": user, "stream_id": number, "devices": devices})


class UserKeysQuery(FederationView):
    """Devices of many users."""

    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        """`device_keys` by user and device; an empty list asks for all of a user's."""
        wanted = asked(self.content, "device_keys", list, most_users=MAX_QUERIED_USERS)
        if not all(isinstance(device, str) for devices in wanted.values() for device in devices):
            raise Malformed("device_keys holds something that is no device id")
        told: dict[str, dict[str, Any]] = {}
        for row in _bounded(tellable(wanted, self.origin)):
            if not wanted[row.user_id] or row.device_id in wanted[row.user_id]:
                device = canonical_json.loads(row.json.encode())
                name = _named(row)
                told.setdefault(row.user_id, {})[row.device_id] = {**device, "unsigned": name} if name else device
        return json_response({"device_keys": told})


def asked(content: dict[str, Any], name: str, kind: type, *, most_users: int) -> dict[str, Any]:
    """What a request asks of which users: an object of `kind` by user id, of no more users, and of no more devices than
    decision 113 says.

    Raises `Malformed`.
    """
    users = content.get(name)
    if not isinstance(users, dict) or not all(isinstance(devices, kind) for devices in users.values()):
        raise Malformed(f"{name} is not an object of {'lists' if kind is list else 'objects'} by user id")
    if len(users) > most_users:
        raise Malformed(f"{name} names {len(users)} users; at most {most_users} may be asked about at once")
    devices = sum(map(len, users.values()))
    if devices > MAX_CLAIMED_DEVICES:
        raise Malformed(f"{name} names {devices} devices; at most {MAX_CLAIMED_DEVICES} may be asked about at once")
    return users


def tellable(user_ids: Iterable[str], origin: str) -> list[str]:
    """Those of some users about whose devices `origin` may know: ours, and those that exist."""
    ours = [user_id for user_id in user_ids if is_user_id(user_id) and domain_of(user_id) == settings.SERVER_NAME]
    ours = sorted(local_users.existing(ours))
    if settings.DEVICES_TO_ALL:
        return ours
    return [user_id for user_id, _ in sharing((user_id, origin) for user_id in ours)]


def _bounded(user_ids: Collection[str]) -> Iterable[Device]:
    """The devices of some users. Raises `ApiError` 413 for more bytes than an answer may have."""
    rows = devices_of(user_ids)
    size = rows.aggregate(size=Sum(Func("json", function="octet_length", output_field=IntegerField())))["size"] or 0
    if size > settings.LIMITS.device_answer_bytes:
        raise ApiError(413, "M_TOO_LARGE", f"The devices have {size} bytes together; ask about fewer users.")
    return rows


def _named(row: Device) -> dict[str, str]:
    return {"device_display_name": row.display_name} if row.display_name else {}
