"""Clients of Olm and Megolm on vodozemac, in the shapes of the Matrix specification ("End-to-End Encryption")."""

import json
from typing import Any

from vodozemac import (
    Account,
    AnyOlmMessage,
    Curve25519PublicKey,
    Ed25519PublicKey,
    Ed25519Signature,
    GroupSession,
    InboundGroupSession,
    MegolmMessage,
    PreKeyMessage,
    Session,
    SessionKey,
)

from tests.clients.devices import canonical, device_object, padded, signed, unpadded
from tests.clients.mls import Device

OLM = "m.olm.v1.curve25519-aes-sha2"
MEGOLM = "m.megolm.v1.aes-sha2"
ONE_TIME_KEY = "signed_curve25519"
PRE_KEY = 0
"""The type of an Olm message that begins a session."""

Json = dict[str, Any]


class Client:
    """One device."""

    def __init__(self, user_id: str, device_id: str) -> None:
        self.device = Device(user_id, device_id)
        self._account = Account()
        self._ed25519 = self._account.ed25519_key.to_base64()
        self._curve25519 = self._account.curve25519_key.to_base64()
        self._sessions: dict[str, Session] = {}
        self._outbound: dict[str, GroupSession] = {}
        self._inbound: dict[str, InboundGroupSession] = {}

    def device_keys(self) -> Json:
        """The device object, signed by the device's Ed25519 key."""
        keys = {"curve25519": self._curve25519, "ed25519": self._ed25519}
        return device_object(self.device, algorithms=[OLM, MEGOLM], keys=keys, signing="ed25519", sign=self._sign)

    def one_time_keys(self, count: int) -> dict[str, Json]:
        """New ones by key id, signed; they count as published."""
        self._account.generate_one_time_keys(count)
        made = {
            f"{ONE_TIME_KEY}:{unpadded(padded(key_id))}": self._signed({"key": key.to_base64()})
            for key_id, key in self._account.one_time_keys.items()
        }
        self._account.mark_keys_as_published()
        return made

    def begin(self, their_device: Json, one_time_key: Json) -> None:
        """Begin an Olm session with a device, by a key claimed of it. Both must be signed by the device."""
        verify(their_device, their_device)
        verify(one_time_key, their_device)
        theirs = _key(their_device, "curve25519")
        self._sessions[theirs] = self._account.create_outbound_session(
            Curve25519PublicKey.from_base64(theirs), Curve25519PublicKey.from_base64(one_time_key["key"])
        )

    def has_session(self, their_device: Json) -> bool:
        """Whether there is an Olm session with a device."""
        return _key(their_device, "curve25519") in self._sessions

    def seal(self, their_device: Json, type: str, content: Json) -> Json:
        """An `m.room.encrypted` message for one device, by the session with it."""
        payload = {
            "type": type,
            "content": content,
            "sender": self.device.user_id,
            "keys": {"ed25519": self._ed25519},
            "recipient": their_device["user_id"],
            "recipient_keys": {"ed25519": _key(their_device, "ed25519")},
        }
        theirs = _key(their_device, "curve25519")
        number, body = self._sessions[theirs].encrypt(json.dumps(payload).encode()).to_parts()
        return {
            "algorithm": OLM,
            "sender_key": self._curve25519,
            "ciphertext": {theirs: {"type": number, "body": unpadded(body)}},
        }

    def unseal(self, sealed: Json, *, sender: str) -> Json:
        """What another device has sealed for this one. Asserts that it is meant for it and from who is said."""
        theirs, ours = sealed["sender_key"], sealed["ciphertext"][self._curve25519]
        body = padded(ours["body"])
        if ours["type"] == PRE_KEY and theirs not in self._sessions:
            beginning = PreKeyMessage.from_base64(unpadded(body))
            key = Curve25519PublicKey.from_base64(theirs)
            self._sessions[theirs], plaintext = self._account.create_inbound_session(key, beginning)
        else:
            plaintext = self._sessions[theirs].decrypt(AnyOlmMessage.from_parts(ours["type"], body))
        payload: Json = json.loads(plaintext)
        assert payload["sender"] == sender
        assert payload["recipient"] == self.device.user_id
        assert payload["recipient_keys"] == {"ed25519": self._ed25519}
        return payload

    def room_key(self, room_id: str) -> Json:
        """A new Megolm session's `m.room_key`, which this device encrypts to from now on in the room."""
        session = self._outbound[room_id] = GroupSession()
        key = session.session_key.to_base64()
        self._inbound[session.session_id] = InboundGroupSession(SessionKey(key))
        return {"algorithm": MEGOLM, "room_id": room_id, "session_id": session.session_id, "session_key": key}

    def take_room_key(self, content: Json) -> None:
        """Somebody's `m.room_key`."""
        self._inbound[content["session_id"]] = InboundGroupSession(SessionKey(content["session_key"]))

    def has_room_key(self, content: Json) -> bool:
        """Whether an `m.room.encrypted` event's content can be decrypted."""
        return content["session_id"] in self._inbound

    def encrypt(self, room_id: str, type: str, content: Json) -> Json:
        """The content of an `m.room.encrypted` event."""
        session = self._outbound[room_id]
        plaintext = json.dumps({"type": type, "content": content, "room_id": room_id}).encode()
        return {
            "algorithm": MEGOLM,
            "sender_key": self._curve25519,
            "device_id": self.device.device_id,
            "session_id": session.session_id,
            "ciphertext": session.encrypt(plaintext).to_base64(),
        }

    def decrypt(self, content: Json) -> Json:
        """Raises KeyError without the session's key, and vodozemac's own error for what it does not open."""
        message = MegolmMessage.from_base64(content["ciphertext"])
        payload: Json = json.loads(self._inbound[content["session_id"]].decrypt(message).plaintext)
        return payload

    def _sign(self, message: bytes) -> bytes:
        return padded(self._account.sign(message).to_base64())

    def _signed(self, content: Json) -> Json:
        return signed(content, self.device, signing="ed25519", sign=self._sign)


def verify(content: Json, device: Json) -> None:
    """Raise vodozemac's own error if a device has not signed an object."""
    user_id, device_id = device["user_id"], device["device_id"]
    signature = content["signatures"][user_id][f"ed25519:{device_id}"]
    bare = {name: value for name, value in content.items() if name not in ("signatures", "unsigned")}
    key = Ed25519PublicKey.from_base64(_key(device, "ed25519"))
    key.verify_signature(canonical(bare), Ed25519Signature.from_base64(signature))


def _key(device: Json, algorithm: str) -> str:
    key: str = device["keys"][f"{algorithm}:{device['device_id']}"]
    return key
