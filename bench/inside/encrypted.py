"""On the hub: encrypted rooms with groups of any size, and commits to them that are ready to be sent.

Groups are written, not played by clients: an observer cannot tell them apart, and a thousand clients take minutes.
"""

from django.conf import settings
from django.utils import timezone

from bench.inside.hosting import append, creator
from bench.participants import Participant, SignedRequest, now_ms
from linmatrix.protocol.completion import new_event
from linmatrix.protocol.devices import MLS_ALGORITHM
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.encryption import COMMIT
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.identifiers import domain_of
from rooms.creation import create_room
from rooms.hub import append_own
from tests.support.mls_writer import MlsDevice, Odd, WrittenGroup

ADDED_AT_ONCE = 40
"""Devices in one commit while a group grows."""

RENEWING = 8
"""One of so many new devices then commits by itself, as clients do. Else there would be no keys above the leaves of the
tree, and the next commit would have to be sealed to each device: in a large group it would not fit into an event."""

TREE_FITS = 100
"""Devices of a group whose GroupInfo holds the tree."""


class _Room:
    """A room whose group has its creator's device and one of each of these users."""

    def __init__(self, users: list[str]) -> None:
        room = create_room(creator=creator(), now=timezone.now(), join_rule="public", encryption=MLS_ALGORITHM)
        self.room_id = room.room_id
        joins = [
            _server(user).join(self.room_id, hub=settings.SERVER_NAME, localpart=_localpart(user)) for user in users
        ]
        append(self.room_id, joins)
        self.devices = [MlsDevice(user, "DEVICE") for user in users]
        self._founder = MlsDevice(creator(), "FOUNDER")
        self._group = WrittenGroup.create(self.room_id.encode(), self._founder)
        self._found([])
        for first in range(0, len(users), ADDED_AT_ONCE):
            new = self.devices[first : first + ADDED_AT_ONCE]
            self._found(new)
            for device in new[::RENEWING]:
                append(self.room_id, [self.commit(device)])

    def commit(self, device: MlsDevice) -> Lpdu:
        """New keys for a device."""
        return _server(device.user_id).event(
            self.room_id,
            hub=settings.SERVER_NAME,
            sender=device.user_id,
            type=COMMIT,
            content=self._content(device, []),
        )

    def _found(self, adds: list[MlsDevice]) -> None:
        event = new_event(
            room_id=self.room_id,
            sender=creator(),
            type=COMMIT,
            content=self._content(self._founder, adds),
            origin_server_ts=now_ms(),
        )
        append_own(self.room_id, [event], now=timezone.now())

    def _content(self, device: MlsDevice, adds: list[MlsDevice]) -> dict[str, str]:
        info = {"with_tree": len(self._group.devices) + len(adds) <= TREE_FITS}
        written = self._group.commit(device, adds=adds, odd=Odd(info=info))
        return {"message": encode_base64(written.message), "public_group_state": encode_base64(written.group_info)}


def commits(name: str, devices: int, count: int) -> list[dict[str, str]]:
    """So many transactions of one commit each, of users of this server, to a room whose group has so many devices.

    Each commit brings new keys for its device, so that the hub checks a whole path. Fields of `SignedRequest`.
    """
    participant = Participant(name)
    room = _Room([participant.user(f"user{number}") for number in range(devices - 1)])
    requests = []
    for number in range(count):
        lpdu = room.commit(room.devices[number * RENEWING % len(room.devices)])
        requests.append(participant.transaction(f"{room.room_id}-{number}", [lpdu], settings.SERVER_NAME))
    return [_as_json(request) for request in requests]


def _as_json(request: SignedRequest) -> dict[str, str]:
    return {"target": request.target, "authorization": request.authorization, "body": request.body.decode()}


def _server(user_id: str) -> Participant:
    return Participant(domain_of(user_id))


def _localpart(user_id: str) -> str:
    return user_id[1:].partition(":")[0]
