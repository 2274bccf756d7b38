"""MLS clients on mls-rs, by its UniFFI binding.

The binding makes commits but no GroupInfo. What one is made of can be had all the same: the group's context from
the state that mls-rs hands to its storage, the tree from `export_tree`, the confirmation tag from the commit. The
client signs that with its own key. No `external_pub` is in it, so nobody can join by an external commit after it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import nacl.signing
from mls_rs_uniffi import (
    CipherSuite,
    ClientConfig,
    EpochRecord,
    Error,
    Group,
    GroupStateStorage,
    Message,
    ReceivedMessage,
    SignatureKeypair,
    SignaturePublicKey,
    SigningIdentity,
    generate_signature_keypair,
)
from mls_rs_uniffi import Client as Library

from tests.clients.encoded import context_of, epoch_of, group_of, identities
from tests.clients.mls import Device, Proposed, Refused, credential, read_credential, vector

MLS10 = (1).to_bytes(2)
GROUP_INFO = (4).to_bytes(2)
RATCHET_TREE = (2).to_bytes(2)
TAG = 32
"""Bytes of a confirmation or membership tag (SHA-256), each after one byte of length."""


class Kept(NamedTuple):
    """What mls-rs stores of a group: its state, and the keys of earlier epochs."""

    state: bytes
    epochs: Mapping[int, bytes]


class Storage(GroupStateStorage):
    """Keeps one group in memory."""

    def __init__(self) -> None:
        self.kept = Kept(b"", {})

    def state(self, group_id: bytes) -> bytes | None:
        """Nothing before the first `write`."""
        return self.kept.state or None

    def epoch(self, group_id: bytes, epoch_id: int) -> bytes | None:
        """The keys of an earlier epoch."""
        return self.kept.epochs.get(epoch_id)

    def write(
        self, group_id: bytes, group_state: bytes, epoch_inserts: list[EpochRecord], epoch_updates: list[EpochRecord]
    ) -> None:
        """All of it at once."""
        changed = {record.id: record.data for record in (*epoch_inserts, *epoch_updates)}
        self.kept = Kept(group_state, {**self.kept.epochs, **changed})

    def max_epoch_id(self, group_id: bytes) -> int | None:
        """The latest of the earlier epochs."""
        return max(self.kept.epochs, default=None)


class Client:
    """See `tests.clients.mls.Client`."""

    def __init__(self, user_id: str, device_id: str) -> None:
        self.device = Device(user_id, device_id)
        self._keys = generate_signature_keypair(CipherSuite.CURVE25519_AES128)
        self._signing_key = nacl.signing.SigningKey(self._keys.secret_key.bytes[:32])
        self.signature_key = self._keys.public_key.bytes
        self._credential = credential(self.device, self.signature_key)
        self._storage = Storage()
        config = ClientConfig(group_state_storage=self._storage, use_ratchet_tree_extension=True)
        self._library = Library(self._credential, self._keys, config)
        self._group: Group
        self._committed: Message | None = None

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature by the device's key."""
        return self._signing_key.sign(message).signature

    def key_package(self) -> bytes:
        """A new one, for as long as mls-rs makes them."""
        return self._library.generate_key_package_message().to_bytes()

    def create(self, group_id: bytes) -> None:
        """Begin a group with nobody else in it, at epoch 0."""
        self._group_id = group_id
        self._group = self._library.create_group(group_id)

    def commit(self, *, add: Sequence[bytes] = (), remove: Sequence[Device] = ()) -> Proposed:
        """Key packages to add or members to remove, which the binding cannot do at once; or new keys."""
        assert not (add and remove)
        self._before = self._stored(self._group)
        with _refusing():
            if add:
                made = self._group.add_members([Message.from_bytes(one) for one in add])
            elif remove:
                made = self._group.remove_members([self._identity(one) for one in remove])
            else:
                made = self._group.commit()
        self._committed = made.commit_message
        welcome = made.welcome_message
        return Proposed(
            made.commit_message.to_bytes(),
            self._group_info(made.commit_message),
            welcome.to_bytes() if welcome else None,
        )

    def join_external(self, group_info: bytes) -> Proposed:
        """Raises `Refused`."""
        raise Refused("the binding of mls-rs makes no external commits")

    def accept(self) -> None:
        """The hub has taken the commit: mls-rs's own way to it is to process it."""
        assert self._committed is not None
        self.process(self._committed.to_bytes())

    def discard(self) -> None:
        """The hub has refused it."""
        self._storage.kept = self._before
        self._group = self._library.load_group(self._group_id)
        self._committed = None

    def process(self, commit: bytes) -> None:
        """Somebody else's commit."""
        self._receive(commit)
        self._committed = None

    def join(self, welcome: bytes) -> None:
        """Take part in a group, from the epoch of the welcome on."""
        with _refusing():
            self._group = self._library.join_group(None, Message.from_bytes(welcome)).group
        self._group_id = group_of(self._context(self._group))

    def encrypt(self, plaintext: bytes) -> bytes:
        """A PrivateMessage."""
        with _refusing():
            return self._group.encrypt_application_message(plaintext).to_bytes()

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises `Refused` for what this device has no keys for."""
        received = self._receive(ciphertext)
        assert isinstance(received, ReceivedMessage.APPLICATION_MESSAGE)
        return received.data

    def epoch(self) -> int:
        """Of the group."""
        return epoch_of(self._context(self._group))

    def members(self) -> Mapping[int, Device]:
        """By leaf index."""
        return {leaf: read_credential(one) for leaf, one in identities(self._group.export_tree().bytes).items()}

    def _receive(self, message: bytes) -> ReceivedMessage:
        with _refusing():
            return self._group.process_incoming_message(Message.from_bytes(message))

    def _stored(self, group: Group) -> Kept:
        group.write_to_storage()
        return self._storage.kept

    def _context(self, group: Group) -> bytes:
        return context_of(self._stored(group).state)

    def _group_info(self, committed: Message) -> bytes:
        """Of the epoch that the commit begins, which a copy of the group shows; what is stored stays as it was."""
        committing = self._stored(self._group)
        after = self._library.load_group(self._group_id)
        after.process_incoming_message(committed)
        context, tree = self._context(after), after.export_tree().bytes
        self._storage.kept = committing
        tag = committed.to_bytes()[-2 * (1 + TAG) : -(1 + TAG)]
        signer = next(leaf for leaf, one in identities(tree).items() if one == self._credential).to_bytes(4)
        signed = context + vector(RATCHET_TREE + vector(tree)) + tag + signer
        return MLS10 + GROUP_INFO + signed + vector(self.sign(labelled("GroupInfoTBS", signed)))

    def _identity(self, device: Device) -> SigningIdentity:
        """A member as the binding wants it named. Only a client has an identity there, so one is made with its key."""
        tree = self._group.export_tree().bytes
        identity = next(one for one in identities(tree).values() if read_credential(one) == device)
        keys = SignatureKeypair(
            cipher_suite=self._keys.cipher_suite,
            public_key=SignaturePublicKey(bytes=identity[-32:]),
            secret_key=self._keys.secret_key,
        )
        config = ClientConfig(group_state_storage=Storage(), use_ratchet_tree_extension=True)
        return Library(identity, keys, config).signing_identity()


def labelled(label: str, content: bytes) -> bytes:
    """What SignWithLabel signs (RFC 9420 section 5.1.2)."""
    return vector(b"MLS 1.0 " + label.encode()) + vector(content)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Error as error:
        raise Refused(repr(error)) from error
