"""Encrypted rooms for tests: hosted ones with members of two servers, and what commits come to them."""

from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from linmatrix.protocol.devices import MLS_ALGORITHM
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.encryption import COMMIT
from linmatrix.protocol.events import Lpdu
from rooms.creation import create_room
from rooms.hub import Outcome, append_lpdus, append_own
from rooms.mls.preparing import Key
from rooms.models import MlsGroup, Room
from tests.support.hosted import CREATOR
from tests.support.mls_writer import MlsDevice, Written, WrittenGroup
from tests.support.peers import Peer

PEER = Peer("part.example.org")
OTHER = Peer("other.example.org")

ALICE = MlsDevice(CREATOR, "LAPTOP")
"""The creator's, who is a user of ours."""

BOB, PHONE = MlsDevice(PEER.user("bob"), "BOB"), MlsDevice(PEER.user("bob"), "PHONE")
CAROL = MlsDevice(OTHER.user("carol"), "CAROL")

SERVERS = {PEER.name: PEER, OTHER.name: OTHER}


def content(written: Written) -> dict[str, Any]:
    """What an `m.mls.commit` has in it."""
    return {"message": encode_base64(written.message), "public_group_state": encode_base64(written.group_info)}


def own_event(room_id: str, type: str, content: dict[str, Any], *, sender: str = CREATOR, **fields) -> dict[str, Any]:
    """An event of a user of ours, not appended yet."""
    now_ms = int(timezone.now().timestamp() * 1000)
    event = {"room_id": room_id, "type": type, "sender": sender, "origin_server_ts": now_ms, "content": content}
    return {**event, **fields}


def key_of(sender: str, written: Written) -> Key:
    """What the check of a commit goes by."""
    return Key.of({"sender": sender, "content": content(written)})


class EncryptedRoom:
    """A room that we host. `group` is its MLS group as all of its devices know it."""

    def __init__(self, *joined: MlsDevice, **fields: Any) -> None:
        """Alice's room, to which the users of these devices are joined; there is no commit yet."""
        fields = {"encryption": MLS_ALGORITHM, "join_rule": "public", **fields}
        self.room_id = create_room(creator=CREATOR, now=timezone.now(), **fields).room_id
        self.group = WrittenGroup.create(self.room_id.encode(), ALICE)
        for device in joined:
            self.member(device.user_id, "join")

    @property
    def room(self) -> Room:
        """The room's row."""
        return Room.objects.get(room_id=self.room_id)

    @property
    def stored(self) -> MlsGroup:
        """What is stored of its group."""
        return MlsGroup.objects.get(room_id=self.room_id)

    def begin(self, *devices: MlsDevice) -> "EncryptedRoom":
        """Have Alice make the first commit, which adds these devices."""
        self.accept(ALICE, self.group.commit(ALICE, adds=devices))
        return self

    def lpdu(self, user_id: str, type: str, content: dict[str, Any], **fields: Any) -> Lpdu:
        """An LPDU of a user of another server."""
        localpart, _, server = user_id[1:].partition(":")
        return SERVERS[server].lpdu(self.room_id, localpart=localpart, type=type, content=content, **fields)

    def member(self, user_id: str, membership: str) -> None:
        """A user of another server changes the own membership."""
        (outcome,) = self.append(self.member_lpdu(user_id, membership))
        assert outcome.pdu is not None, outcome.refusal

    def member_lpdu(self, user_id: str, membership: str) -> Lpdu:
        """The same, not sent yet."""
        return self.lpdu(user_id, "m.room.member", {"membership": membership}, state_key=user_id)

    def append(self, *lpdus: Lpdu) -> Sequence[Outcome]:
        """What becomes of LPDUs that come together."""
        return append_lpdus(self.room_id, lpdus, now=timezone.now())

    def send(self, sender: str, written: Written, **fields: Any) -> Outcome:
        """What becomes of a commit that a user of another server sends."""
        (outcome,) = self.append(self.commit_lpdu(sender, written, **fields))
        return outcome

    def commit_lpdu(self, sender: str, written: Written, **fields: Any) -> Lpdu:
        """The LPDU of a commit."""
        return self.lpdu(sender, COMMIT, content(written), **fields)

    def accept(self, device: MlsDevice, written: Written) -> None:
        """Send a commit as the device's user and see it accepted."""
        if device.user_id == CREATOR:
            append_own(self.room_id, [self.own_commit(written)], now=timezone.now())
        else:
            outcome = self.send(device.user_id, written)
            assert outcome.pdu is not None, outcome.refusal

    def own_commit(self, written: Written) -> dict[str, Any]:
        """The event of a commit of Alice's."""
        return own_event(self.room_id, COMMIT, content(written))
