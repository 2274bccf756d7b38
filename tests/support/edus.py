"""EDUs as peers send them, and devices of ours to receive them."""

from django.utils import timezone

from keys.devices.storing import upload_device
from tests.support.devices import DeviceMaker
from tests.support.hosted import CREATOR
from tests.support.peers import FEDERATION

US = "hub.example.org"


def make_device(user_id=CREATOR, device_id="PHONE", *, generation=0):
    """A device of a local user, or a new version of it; its object."""
    value = DeviceMaker(user_id, device_id, mls=False, generation=generation).object()
    upload_device(value, user_id=user_id, device_id=device_id, now=timezone.now())
    return value


def send_edus(peer, *edus, txn_id="txn", pdus=()):
    """A transaction with these EDUs."""
    target = f"{FEDERATION}/v2/send/{txn_id}"
    return peer.request("PUT", target, {"pdus": list(pdus), "edus": list(edus)})


def to_device(peer, text, *, user_id=CREATOR, device_id="PHONE", **changes):
    """A to-device message in the draft's shape."""
    content = {"target": user_id, "target_device": device_id, "message_type": "m.test", "message": {"text": text}}
    return {"type": "m.direct_to_device", "sender": peer.user("user"), "content": {**content, **changes}}


def matrix_to_device(peer, text, *, message_id, user_id=CREATOR, device_id="PHONE"):
    """The same in Matrix's."""
    content = {
        "sender": peer.user("user"),
        "type": "m.test",
        "message_id": message_id,
        "messages": {user_id: {device_id: {"text": text}}},
    }
    return {"edu_type": "m.direct_to_device", "content": content}
