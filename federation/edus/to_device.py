"""To-device messages of our users: into the inboxes of our own, and queued for the servers of others.

Draft section "To-Device Messaging"; decision 114. All messages of one call are sent or none is. A message for a device
of ours that there is not is dropped, as another server would drop it.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from federation.blocking import check_not_blocked
from federation.edus import inbox
from federation.edus.inbox import Incoming
from federation.models import OutboundEdu
from federation.outbound import QueueFull, mark_pending
from keys.devices.storing import devices_of
from linmatrix.protocol import canonical_json
from linmatrix.protocol.devices import plain
from linmatrix.protocol.edus import MAX_MESSAGE_BYTES, MAX_TYPE_LENGTH, ToDevice, to_device
from linmatrix.protocol.errors import Malformed, TooLarge
from linmatrix.protocol.identifiers import domain_of, is_device_id, is_user_id
from rooms import local_users


class Sent(NamedTuple):
    """How many messages are in inboxes here, queued for other servers, and dropped since there is no such device."""

    delivered: int
    queued: int
    dropped: int


def send(*, sender: str, messages: Iterable[tuple[str, str, str, dict[str, Any]]]) -> Sent:
    """Send messages of a local user, given as user id, device id, type and content, in this order.

    What is sent is durable when this returns. Raises `Malformed` and `TooLarge` for what no server would take,
    `QueueFull` when one has not taken `queued_edus` before (decision 99), `ApiError` 403 for one that is blocked.
    """
    local_users.require_local(sender)
    checked = [_checked(sender, *message) for message in messages]
    ours = [message for message in checked if domain_of(message.user_id) == settings.SERVER_NAME]
    theirs: dict[str, list[OutboundEdu]] = defaultdict(list)
    for message in checked:
        server = domain_of(message.user_id)
        if server != settings.SERVER_NAME:
            edu = OutboundEdu(destination_id=server, sender=sender, json=to_device(message).decode())
            theirs[server].append(edu)
    for server in theirs:
        check_not_blocked(server)
    with transaction.atomic():
        _queue(theirs)  # first, as destinations are locked before inboxes
        delivered = _deliver(ours)
    return Sent(delivered, sum(map(len, theirs.values())), len(ours) - delivered)


def _checked(sender: str, user_id: str, device_id: str, type_: str, content: dict[str, Any]) -> ToDevice:
    if not is_user_id(user_id) or not is_device_id(device_id):
        raise Malformed(f"{device_id!r} of {user_id!r} is not a device")
    if not 0 < len(type_) <= MAX_TYPE_LENGTH or "\0" in type_:
        raise Malformed(f"a message's type has 1 to {MAX_TYPE_LENGTH} characters")
    value = plain(content)
    if not isinstance(value, dict):
        raise Malformed("a message's content is not a JSON object")
    message = ToDevice(sender, user_id, device_id, type_, canonical_json.dumps(value).decode())
    if (size := len(to_device(message))) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a message has {size} bytes as an EDU; at most {MAX_MESSAGE_BYTES} are taken")
    return message


def _deliver(messages: list[ToDevice]) -> int:
    """Put messages into inboxes here; how many of them had one."""
    users = local_users.existing({message.user_id for message in messages})
    there = set(devices_of(users).values_list("user_id", "device_id"))
    found = [message for message in messages if (message.user_id, message.device_id) in there]
    if found:
        incoming = [Incoming(message, secrets.token_bytes(32)) for message in found]
        inbox.store(incoming, origin=settings.SERVER_NAME, txn_id="", now=timezone.now())
    return len(found)


def _queue(by_server: dict[str, list[OutboundEdu]]) -> None:
    """Queue EDUs for other servers, in order."""
    if not by_server:
        return
    most = settings.LIMITS.queued_edus
    mark_pending(by_server)
    for server, edus in sorted(by_server.items()):
        room = most - len(edus)
        waiting = OutboundEdu.objects.filter(destination_id=server).order_by("id")
        if room < 0 or waiting[room : room + 1].exists():
            raise QueueFull(f"{most} messages wait for {server} already, or would with these")
    OutboundEdu.objects.bulk_create([edu for edus in by_server.values() for edu in edus])
