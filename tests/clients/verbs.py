"""What a user's client may ask of its own server, run inside of that server's Django (`tests.clients.home`).

It stands for a client API, of which there is none yet: each function is one call of the verb that such an API would
call. What the server or the room's hub refuses comes back as a value with the reason, and everything else is JSON.
"""

import json
from typing import Any

from django.utils import timezone

from federation import acting_in_rooms, devices
from federation.edus import inbox, to_device
from federation.sending import Sent, send_event
from keys.devices import storing, uploading
from rooms.creation import create_room as make_room
from rooms.members import member_of
from rooms.models import Event, Finding, MlsGroup

ECHO_SECONDS = 60.0

Json = dict[str, Any]


def create_room(creator: str, encryption: str) -> str:
    """A public room's id."""
    return make_room(creator=creator, now=timezone.now(), join_rule="public", encryption=encryption).room_id


def join(room_id: str, user_id: str, via: str) -> Json:
    """Once it is in the room's line."""
    return _result(room_id, acting_in_rooms.join, user_id=user_id, via=via)


def leave(room_id: str, user_id: str) -> Json:
    """Once it is in the room's line."""
    return _result(room_id, acting_in_rooms.leave, user_id=user_id)


def send(room_id: str, sender: str, type: str, content: Json) -> Json:
    """Once it is in the room's line, or refused."""
    return _result(room_id, send_event, sender=sender, type=type, content=content)


def _result(room_id: str, act: Any, **given: Any) -> Json:
    try:
        sent: Sent = act(room_id=room_id, **given)
    except acting_in_rooms.REFUSALS as refusal:
        return {"refused": acting_in_rooms.reason_of(refusal)}
    if sent.event_id or sent.taken:
        return {"event_id": sent.event_id}
    outcome = acting_in_rooms.wait_for_echo(room_id, sent.lpdu_id, seconds=ECHO_SECONDS)
    assert outcome.settled, f"{sent.lpdu_id} has no echo after {ECHO_SECONDS:.0f} s"
    return {"refused": outcome.refused} if outcome.refused else {"event_id": outcome.event_id}


def is_joined(room_id: str, user_id: str) -> bool:
    """Whether a user is in a room, as this server has it."""
    return member_of(room_id, user_id) == "join"


def group(room_id: str) -> Json:
    """A room's MLS group as the server keeps it, and the number of things that it holds against the hub."""
    kept = MlsGroup.objects.get(room_id=room_id)
    findings = Finding.objects.filter(room_id=room_id).count()
    return {"epoch": kept.epoch, "devices": kept.devices, "standing": kept.standing, "findings": findings}


def line(room_id: str, after: int) -> list[Json]:
    """The accepted events with a position above `after`, in order."""
    found = Event.objects.filter(room_id=room_id, position__gt=after, verdict="accepted").order_by("position")
    return [{"position": event.position, "event_id": event.event_id, **json.loads(event.json)} for event in found]


def upload_device(user_id: str, device_id: str, content: Json) -> None:
    """Publish a device, or change it."""
    storing.upload_device(content, user_id=user_id, device_id=device_id, now=timezone.now())


def upload_keys(user_id: str, device_id: str, keys: Json) -> Json:
    """One-time keys and key packages by name; how many others may claim now."""
    counts = uploading.upload_keys(user_id, device_id, one_time_keys=keys, now=timezone.now())
    return dict(counts.one_time)


def query(user_ids: list[str]) -> Json:
    """The devices of some users, wherever they are: objects by user id and device id."""
    found = devices.query(user_ids, now=timezone.now())
    assert not found.failures, found.failures
    return {user: {device: json.loads(text) for device, text in of.items()} for user, of in found.devices.items()}


def claim(wanted: Json) -> Json:
    """One key of each device: algorithms by user id and device id."""
    claimed = devices.claim(wanted, now=timezone.now())
    assert not claimed.failures, claimed.failures
    assert not claimed.left_out, claimed.left_out
    return claimed.keys


def send_to_device(sender: str, messages: list[list[Any]]) -> None:
    """Each to a user, a device, with a type and a content."""
    to_device.send(sender=sender, messages=[(user, device, type, content) for user, device, type, content in messages])


def read_inbox(user_id: str, device_id: str) -> list[Json]:
    """What has come for a device, taken out of the inbox."""
    found = inbox.read(user_id, device_id)
    if found:
        inbox.acknowledge(user_id, device_id, found[-1].position, now=timezone.now())
    return [{"sender": one.sender, "type": one.type, "content": one.content} for one in found]
