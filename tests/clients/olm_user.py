"""A user's client of Olm and Megolm in a room, as Matrix has it, over its own server only."""

from typing import Any

from tests.clients.home import Home
from tests.clients.mls import Device
from tests.clients.olm import MEGOLM, OLM, ONE_TIME_KEY, Client, verify

ENCRYPTED = "m.room.encrypted"
ROOM_KEY = "m.room_key"

Json = dict[str, Any]


class OlmUser:
    """One device of one user, in one encrypted room at most."""

    def __init__(self, home: Home, client: Client) -> None:
        self.home = home
        self.client = client
        self.device = client.device
        self.read: list[str] = []
        """Messages that it could decrypt, in order, its own not among them."""
        self.room_id = ""
        self._position = 0
        self._own: set[str] = set()

    def publish(self, *, one_time_keys: int) -> None:
        """The device and so many one-time keys, on its own server."""
        user_id, device_id = self.device
        self.home.call("upload_device", user_id=user_id, device_id=device_id, content=self.client.device_keys())
        keys = self.client.one_time_keys(one_time_keys)
        self.home.call("upload_keys", user_id=user_id, device_id=device_id, keys=keys)

    def enter(self, room_id: str, *, via: str = "") -> None:
        """The user joins the room."""
        if via:
            self.home.call("join", room_id=room_id, user_id=self.device.user_id, via=via)
        self.room_id = room_id

    def leave(self) -> None:
        """The user leaves the room."""
        self.home.call("leave", room_id=self.room_id, user_id=self.device.user_id)

    def devices_of(self, *user_ids: str) -> dict[Device, Json]:
        """The devices of users as this user's server gives them, each signed by itself."""
        found = {}
        for user_id, devices in self.home.call("query", user_ids=list(user_ids)).items():
            for device_id, content in devices.items():
                verify(content, content)
                assert (content["user_id"], content["device_id"]) == (user_id, device_id)
                found[Device(user_id, device_id)] = content
        return found

    def claim(self, *devices: Device) -> dict[Device, Json]:
        """A one-time key of each, from their servers."""
        wanted: dict[str, dict[str, str]] = {}
        for user_id, device_id in devices:
            wanted.setdefault(user_id, {})[device_id] = ONE_TIME_KEY
        claimed = self.home.call("claim", wanted=wanted)
        keys = {}
        for user_id, device_id in devices:
            ((name, key),) = claimed[user_id][device_id].items()
            assert name.startswith(f"{ONE_TIME_KEY}:")
            keys[Device(user_id, device_id)] = key
        return keys

    def share_room_key(self, *user_ids: str) -> None:
        """Begin a Megolm session, and give its key to every device of these users by an Olm session with each."""
        content = self.client.room_key(self.room_id)
        devices = self.devices_of(*user_ids)
        new = [device for device, theirs in devices.items() if not self.client.has_session(theirs)]
        for device, key in self.claim(*new).items() if new else ():
            self.client.begin(devices[device], key)
        sealed = [
            (*device, ENCRYPTED, self.client.seal(theirs, ROOM_KEY, content)) for device, theirs in devices.items()
        ]
        self.home.send_to_device(self.device.user_id, sealed)

    def say(self, text: str) -> str:
        """The event's id."""
        content = self.client.encrypt(self.room_id, "m.room.message", {"msgtype": "m.text", "body": text})
        event_id = self.home.send(self.room_id, self.device.user_id, ENCRYPTED, content)
        self._own.add(event_id)
        return event_id

    def has_event(self, event_id: str) -> bool:
        """Whether an event has arrived at the user's server."""
        line = self.home.call("line", room_id=self.room_id, after=0)
        return any(event["event_id"] == event_id for event in line)

    def sync(self) -> None:
        """Take what has come: room keys, and the line's messages as far as their keys are there."""
        user_id, device_id = self.device
        for message in self.home.call("read_inbox", user_id=user_id, device_id=device_id):
            assert (message["type"], message["content"]["algorithm"]) == (ENCRYPTED, OLM)
            payload = self.client.unseal(message["content"], sender=message["sender"])
            assert payload["type"] == ROOM_KEY
            self.client.take_room_key(payload["content"])
        for event in self.home.call("line", room_id=self.room_id, after=self._position):
            if event["type"] == ENCRYPTED and event["event_id"] not in self._own:
                assert event["content"]["algorithm"] == MEGOLM
                if not self.client.has_room_key(event["content"]):
                    return  # it comes by another way, and may come later
                payload = self.client.decrypt(event["content"])
                assert payload["room_id"] == self.room_id
                self.read.append(payload["content"]["body"])
            self._position = event["position"]
