"""A user's MLS client in a room, as the draft's "MLS Considerations" would have it act, over its own server only."""

import hashlib
from typing import Any

from tests.clients.devices import mls_device, padded, unpadded
from tests.clients.home import Home, Refused
from tests.clients.mls import ALGORITHM, KEY_PACKAGE, WELCOME, Client, Device, Proposed
from tests.clients.mls import Refused as Unreadable

COMMIT = "m.mls.commit"
ENCRYPTED = "m.room.encrypted"

Json = dict[str, Any]


class MlsUser:
    """One device of one user, in one encrypted room at most."""

    def __init__(self, home: Home, client: Client) -> None:
        self.home = home
        self.client = client
        self.device = client.device
        self.read: list[str] = []
        """Messages that it could decrypt, in order, its own not among them."""
        self.unreadable = 0
        """Messages that it could not."""
        self._room_id = ""
        self._commit_id = ""
        """Of the commit that began the epoch in which the client is; empty while it is in no group."""
        self._welcomed_by = ""
        """Of the commit that a welcome belongs to, until the line has it."""
        self._own: set[str] = set()
        self._position = 0
        """In the line: what the client has seen."""

    # What every client does first

    def publish(self, *, key_packages: int) -> None:
        """The device and so many key packages, on its own server."""
        user_id, device_id = self.device
        self.home.call("upload_device", user_id=user_id, device_id=device_id, content=mls_device(self.client))
        made = [self.client.key_package() for _ in range(key_packages)]
        keys = {f"{KEY_PACKAGE}:{hashlib.sha256(one).hexdigest()[:16]}": unpadded(one) for one in made}
        self.home.call("upload_keys", user_id=user_id, device_id=device_id, keys=keys)

    def enter(self, room_id: str, *, via: str = "") -> None:
        """The user joins the room, which is not yet its group."""
        self.home.call("join", room_id=room_id, user_id=self.device.user_id, via=via)
        self.watch(room_id)

    def watch(self, room_id: str) -> None:
        """Look at this room's line from now on; of the user's membership nothing changes."""
        self._room_id = room_id

    def leave(self) -> None:
        """The user leaves the room."""
        self.home.call("leave", room_id=self._room_id, user_id=self.device.user_id)

    def in_group(self) -> bool:
        """Whether the client takes part in the room's group."""
        return bool(self._commit_id)

    # Commits

    def create_group(self, room_id: str) -> str:
        """The creator's first commit; its event id."""
        self._room_id = room_id
        self.client.create(room_id.encode())
        return self._send_commit(self.client.commit())

    def claim(self, *devices: Device) -> list[bytes]:
        """A key package of each, from their servers."""
        wanted: dict[str, dict[str, str]] = {}
        for user_id, device_id in devices:
            wanted.setdefault(user_id, {})[device_id] = KEY_PACKAGE
        claimed = self.home.call("claim", wanted=wanted)
        return [padded(claimed[user_id][device_id][KEY_PACKAGE]) for user_id, device_id in devices]

    def add(self, *devices: Device) -> str:
        """Claim, commit, and welcome once the commit is in the line; the commit's event id. Raises `Refused`."""
        proposed = self.client.commit(add=self.claim(*devices))
        event_id = self._send_commit(proposed)
        assert proposed.welcome is not None
        content = {"algorithm": WELCOME, "ciphertext": unpadded(proposed.welcome), "commit_event_id": event_id}
        self.home.send_to_device(self.device.user_id, [(*device, "m.room.encrypted", content) for device in devices])
        return event_id

    def remove(self, *devices: Device) -> str:
        """The commit's event id. Raises `Refused`."""
        return self._send_commit(self.client.commit(remove=devices))

    def renew(self) -> str:
        """New keys for this device; the commit's event id. Raises `Refused`."""
        return self._send_commit(self.client.commit())

    def join_external(self) -> str:
        """Let oneself in by the public state after the latest commit in the line. Raises `Refused`."""
        latest = [event for event in self._events() if event["type"] == COMMIT][-1]
        proposed = self.client.join_external(padded(latest["content"]["public_group_state"]))
        event_id = self._send_commit(proposed, after=latest["event_id"])
        self._position = latest["position"]
        return event_id

    def _send_commit(self, proposed: Proposed, *, after: str = "") -> str:
        content = {"message": unpadded(proposed.commit), "public_group_state": unpadded(proposed.group_info)}
        if previous := after or self._commit_id:
            content["prev_commit_event_id"] = previous
        try:
            event_id = self.home.send(self._room_id, self.device.user_id, COMMIT, content)
        except Refused:
            self.client.discard()
            raise
        self.client.accept()
        self._commit_id = event_id
        self._own.add(event_id)
        return event_id

    # Messages

    def say(self, text: str) -> str:
        """The event's id."""
        content = {
            "algorithm": ALGORITHM,
            "ciphertext": unpadded(self.client.encrypt(text.encode())),
            "commit_event_id": self._commit_id,
        }
        event_id = self.home.send(self._room_id, self.device.user_id, ENCRYPTED, content)
        self._own.add(event_id)
        return event_id

    def ciphertext(self, event_id: str) -> bytes:
        """What a message's event carries."""
        (found,) = (one["content"]["ciphertext"] for one in self._events() if one["event_id"] == event_id)
        return padded(found)

    def sync(self) -> None:
        """Take what has come: a welcome by which the group is joined, commits and messages of the line."""
        user_id, device_id = self.device
        for message in self.home.call("read_inbox", user_id=user_id, device_id=device_id):
            content = message["content"]
            if message["type"] == ENCRYPTED and content.get("algorithm") == WELCOME and not self._commit_id:
                self.client.join(padded(content["ciphertext"]))
                self._commit_id = self._welcomed_by = content["commit_event_id"]
        if self._commit_id:
            for event in self._line():
                self._take(event)

    def _line(self) -> list[Json]:
        """What follows in the line; after a welcome, what follows its commit as soon as that is there."""
        line = self._events(after=self._position)
        if self._welcomed_by:
            ids = [event["event_id"] for event in line]
            if self._welcomed_by not in ids:
                return []
            commit = ids.index(self._welcomed_by)
            self._position, self._welcomed_by = line[commit]["position"], ""
            line = line[commit + 1 :]
        return line

    def _events(self, *, after: int = 0) -> list[Json]:
        events: list[Json] = self.home.call("line", room_id=self._room_id, after=after)
        return events

    def _take(self, event: Json) -> None:
        self._position = event["position"]
        if event["event_id"] in self._own:
            return
        if event["type"] == COMMIT:
            self.client.process(padded(event["content"]["message"]))
            self._commit_id = event["event_id"]
        elif event["type"] == ENCRYPTED:
            try:
                self.read.append(self.client.decrypt(padded(event["content"]["ciphertext"])).decode())
            except Unreadable:
                self.unreadable += 1
