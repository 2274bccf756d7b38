"""EDUs: what servers tell each other outside of rooms, read in every shape that peers send.

Draft sections "EDUs", "Device Info Publishing" and "To-Device Messaging"; decisions 106, 107, 111 and 114; threat T64.
The draft itself names the sender in two ways, and existing peers send Matrix's EDUs: `edu_type` for the type, the
sender inside of the content, a map of many devices, one device's change at a time. All become the same few values here.

An EDU that cannot be read says so for itself alone: its transaction, and the EDUs beside it, go on.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import MAX_ID_LENGTH, domain_of, is_device_id, is_user_id

TO_DEVICE = "m.direct_to_device"
DEVICE_LIST = "m.device_list_update"

EVERY_DEVICE = "*"
"""Of a user, in Matrix's shape only (decision 114)."""

MAX_MESSAGE_BYTES = 64 * 1024
"""Canonical bytes of a to-device message's content, and of an EDU of ours (decision 114, threat T63)."""

MAX_TARGETS = 10_000
"""Devices that one EDU addresses: as many Olm messages as a transaction's body holds."""

MAX_TYPE_LENGTH = 255
"""Characters of a message's type, as of an event's."""

MAX_LISTED = 1_000
"""Devices that one update names: twice as many as a user may have, since some are gone."""


class Spoofed(Malformed):
    """The sender is a user of another server than the one that sent the EDU, or two members name two senders."""


class ToDevice(NamedTuple):
    """A message for one device, or with `EVERY_DEVICE` for all that the user has. `json` is its content's canonical
    text; `message_id` is Matrix's, empty in the draft's shape."""

    sender: str
    user_id: str
    device_id: str
    type: str
    json: str
    message_id: str = ""


class DeviceListUpdate(NamedTuple):
    """Devices of a user that are new or other than before, as objects that nobody has checked, and ids of those that
    are gone."""

    user_id: str
    changed: list[Any]
    removed: list[str]


class Unknown(NamedTuple):
    """An EDU of a type that this server has no use for (decision 107)."""

    type: str


Edu = list[ToDevice] | DeviceListUpdate | Unknown


def read_edu(value: object, *, origin: str) -> Edu:
    """What an EDU from `origin` says.

    Raises `Malformed` for what is none of the shapes, `Spoofed` where its sender is not a user of `origin`.
    """
    if not isinstance(value, dict):
        raise Malformed("an EDU is not a JSON object")
    type_ = _agreed(value, ("type", "edu_type"), "type")
    if not isinstance(type_, str):
        raise Malformed("an EDU has no type")
    if type_ not in (TO_DEVICE, DEVICE_LIST):
        return Unknown(type_)
    content = value.get("content")
    if not isinstance(content, dict):
        raise Malformed(f"an EDU {type_} has no content")
    named = [value[name] for name in ("sender", "sender_id") if name in value]
    if type_ == TO_DEVICE:
        return _to_device(content, named, origin)
    return _device_list(content, named, origin)


def _agreed(value: Mapping[str, Any], names: Iterable[str], what: str) -> Any:
    """The value of whichever of these members there are, None for none. Raises `Malformed` where they differ."""
    given = [value[name] for name in names if name in value]
    if any(other != given[0] for other in given[1:]):
        raise Malformed(f"an EDU names its {what} twice, and differently")
    return given[0] if given else None


def _sender(named: list[Any], origin: str) -> str:
    """The one user of `origin` that all of these name."""
    if not named or not all(is_user_id(name) for name in named):
        raise Malformed("an EDU names no sender")
    if any(name != named[0] for name in named):
        raise Spoofed("an EDU names two senders")
    if domain_of(named[0]) != origin:
        raise Spoofed(f"{origin} cannot speak for {named[0]}")
    return str(named[0])


def _to_device(content: Mapping[str, Any], named: list[Any], origin: str) -> list[ToDevice]:
    if "messages" in content:
        return _messages(content, named, origin)
    sender = _sender(named, origin)
    user_id, device_id = content.get("target"), content.get("target_device")
    if not is_user_id(user_id) or not is_device_id(device_id):
        raise Malformed("a to-device message names no device")
    type_ = _message_type(content.get("message_type"))
    return [ToDevice(sender, str(user_id), str(device_id), type_, _text(content.get("message")))]


def _messages(content: Mapping[str, Any], named: list[Any], origin: str) -> list[ToDevice]:
    """Matrix's shape: one type, a map of users to devices to contents. What is no such entry is left out alone."""
    sender = _sender([*named, *([content["sender"]] if "sender" in content else [])], origin)
    type_, message_id = _message_type(content.get("type")), content.get("message_id", "")
    by_user = content["messages"]
    if not isinstance(message_id, str) or len(message_id) > MAX_ID_LENGTH:
        raise Malformed("a to-device message has an id that is none")
    if not isinstance(by_user, dict):
        raise Malformed("messages is not an object")
    found: list[ToDevice] = []
    for user_id, by_device in by_user.items():
        if not is_user_id(user_id) or not isinstance(by_device, dict):
            continue
        for device_id, message in by_device.items():
            if device_id != EVERY_DEVICE and not is_device_id(device_id):
                continue
            if len(found) == MAX_TARGETS:
                raise Malformed(f"an EDU addresses more than {MAX_TARGETS} devices")
            try:
                found.append(ToDevice(sender, user_id, device_id, type_, _text(message), message_id))
            except Malformed:
                continue
    return found


def _message_type(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TYPE_LENGTH or "\0" in value:
        raise Malformed("a to-device message has no type")
    return value


def _text(message: object) -> str:
    if not isinstance(message, dict):
        raise Malformed("a to-device message has no content")
    encoded = canonical_json.dumps(message)
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise Malformed(f"a to-device message has {len(encoded)} bytes; at most {MAX_MESSAGE_BYTES} are taken")
    return encoded.decode()


def _device_list(content: Mapping[str, Any], named: list[Any], origin: str) -> DeviceListUpdate:
    if "user_id" in content:
        return _device_change(content, named, origin)
    user_id = _sender([*named, *([content["sender_id"]] if "sender_id" in content else [])], origin)
    changed, removed = content.get("changed", []), content.get("removed", [])
    if not isinstance(changed, list) or not isinstance(removed, list):
        raise Malformed("changed and removed must be lists")
    if len(changed) + len(removed) > MAX_LISTED:
        raise Malformed(f"an update names more than {MAX_LISTED} devices")
    return DeviceListUpdate(user_id, changed, [name for name in removed if is_device_id(name)])


def _device_change(content: Mapping[str, Any], named: list[Any], origin: str) -> DeviceListUpdate:
    """Matrix's shape, of one device. Its stream ids are of no use without Matrix's way to ask for what was missed: an
    update is never missed here, since transactions are sent until they are taken."""
    user_id, device_id = _sender([*named, content["user_id"]], origin), content.get("device_id")
    if not is_device_id(device_id):
        raise Malformed("an update names no device")
    if content.get("deleted") is True:
        return DeviceListUpdate(user_id, [], [str(device_id)])
    # Without keys it may have been withdrawn, or be asked for: whoever keeps the list finds out by the bare ids.
    return DeviceListUpdate(user_id, [content.get("keys", {"user_id": user_id, "device_id": device_id})], [])


def to_device(message: ToDevice) -> bytes:
    """The canonical bytes of a to-device EDU in the draft's shape."""
    head, tail = (
        canonical_json.dumps(part)
        for part in (
            {"message_type": message.type, "target": message.user_id, "target_device": message.device_id},
            {"sender": message.sender, "type": TO_DEVICE},
        )
    )
    # Spliced, as "message" and "content" sort before what follows them: the content's text is canonical already.
    return b'{"content":{"message":' + message.json.encode() + b"," + head[1:] + b"," + tail[1:]


def device_list(user_id: str, *, changed: Iterable[str], removed: Iterable[str]) -> bytes:
    """The canonical bytes of a device list update; `changed` are device objects as canonical texts. It names its user
    twice, since the draft does both (decision 106)."""
    tail = canonical_json.dumps({"sender": user_id, "sender_id": user_id, "type": DEVICE_LIST})
    gone = canonical_json.dumps(list(removed))
    return b'{"content":{"changed":[' + ",".join(changed).encode() + b'],"removed":' + gone + b"}," + tail[1:]
