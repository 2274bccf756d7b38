"""A writer of MLS: devices, key packages, and groups whose commits are signed as they should be, legal or not.

It has the public side only. Keys of HPKE are any bytes, sealed secrets and confirmation tags too, since no observer
can tell; whoever needs messages that clients read has the real ones in `tests.clients`. What should not be there is
asked for by name (`WrittenGroup.commit`), and is then signed over like the rest.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from nacl.signing import SigningKey

from linmatrix.protocol.mls.ciphersuite import digest
from linmatrix.protocol.mls.credential import Credential
from linmatrix.protocol.mls.errors import InvalidMls
from linmatrix.protocol.mls.group_info import GroupContext
from linmatrix.protocol.mls.leaves import read_leaf
from linmatrix.protocol.mls.tls import Reader, opaque, u16, u32, u64
from linmatrix.protocol.mls.tree import Leaf, Parent, RatchetTree, parent_hash

VERSION, SUITE, BASIC = u16(1), u16(1), u16(1)
KEY_PACKAGE, UPDATE, COMMIT = 1, 2, 3
"""Sources of leaves."""

PUBLIC_MESSAGE, GROUP_INFO, KEY_PACKAGE_MESSAGE = 1, 4, 5
"""Wire formats."""

NOT_BEFORE, NOT_AFTER = 1_700_000_000, 2_000_000_000
"""Seconds: the lifetime of key packages, unless another is asked for."""

TAG = bytes(range(32))

_numbers = itertools.count()


def some_key() -> bytes:
    """32 bytes that nobody else has."""
    return digest(b"key" + u64(next(_numbers)))


def sign(key: SigningKey, label: str, content: bytes) -> bytes:
    """`SignWithLabel` (RFC 9420 section 5.1.2)."""
    return key.sign(opaque(b"MLS 1.0 " + label.encode()) + opaque(content)).signature


def wrapped(wire_format: int, message: bytes) -> bytes:
    """The message within an MLSMessage."""
    return VERSION + u16(wire_format) + message


def extension(kind: int, data: bytes = b"") -> bytes:
    """One extension."""
    return u16(kind) + opaque(data)


def capabilities(**lists: Sequence[int]) -> bytes:
    """What a client supports: version 1, suite 1, basic credentials, and what is asked for instead."""
    names = ("versions", "ciphersuites", "extensions", "proposals", "credentials")
    usual: dict[str, Sequence[int]] = {"versions": [1], "ciphersuites": [1], "credentials": [1]}
    return b"".join(opaque(b"".join(map(u16, {**usual, **lists}.get(name, ())))) for name in names)


def required_capabilities(*, extensions: Sequence[int] = (), proposals: Sequence[int] = ()) -> bytes:
    """A group's extension that asks this of its leaves."""
    return extension(3, b"".join(opaque(b"".join(map(u16, numbers))) for numbers in (extensions, proposals, [1])))


@dataclass(frozen=True)
class MlsDevice:
    """A device; its signature key follows from its name and `generation`."""

    user_id: str
    device_id: str
    generation: int = 0

    @cached_property
    def key(self) -> SigningKey:
        """What it signs with."""
        return SigningKey(digest(f"{self.user_id} {self.device_id} {self.generation}".encode()))

    @cached_property
    def public_key(self) -> bytes:
        """What others verify with."""
        return bytes(self.key.verify_key)

    @cached_property
    def identity(self) -> bytes:
        """The identity of its credential (draft, "Device Credentials")."""
        return Credential(self.user_id, self.device_id, self.public_key).to_bytes()

    def leaf(
        self,
        *,
        source: int,
        encryption_key: bytes = b"",
        signature_key: bytes = b"",
        credential: bytes = b"",
        can: bytes = b"",
        lifetime: tuple[int, int] = (NOT_BEFORE, NOT_AFTER),
        parent_hash: bytes = b"",
        extensions: bytes = b"",
        place: tuple[bytes, int] = (b"", 0),
        signed_by: SigningKey | None = None,
    ) -> bytes:
        """A leaf node, signed; of a commit, for `place`, the group's id and the leaf's index."""
        about = {
            KEY_PACKAGE: u64(lifetime[0]) + u64(lifetime[1]),
            COMMIT: opaque(parent_hash),
        }.get(source, b"")
        content = b"".join(
            (
                opaque(encryption_key or some_key()),
                opaque(signature_key or self.public_key),
                credential or BASIC + opaque(self.identity),
                can or capabilities(),
                bytes([source]),
                about,
                opaque(extensions),
            )
        )
        where = b"" if source == KEY_PACKAGE else opaque(place[0]) + u32(place[1])
        return content + opaque(sign(signed_by or self.key, "LeafNodeTBS", content + where))

    def key_package(
        self,
        *,
        init_key: bytes = b"",
        version: bytes = VERSION,
        suite: bytes = SUITE,
        extensions: bytes = b"",
        signed_by: SigningKey | None = None,
        leaf: bytes = b"",
        **of_leaf: Any,
    ) -> bytes:
        """A key package, bare (`wrapped` makes an MLSMessage of it)."""
        leaf = leaf or self.leaf(**{"source": KEY_PACKAGE, **of_leaf})
        content = version + suite + opaque(init_key or some_key()) + leaf + opaque(extensions)
        return content + opaque(sign(signed_by or self.key, "KeyPackageTBS", content))


LAST_RESORT = extension(10)
"""On a key package that may be used more than once; its leaf has `can=capabilities(extensions=[10])`."""


def by_value(kind: int, body: bytes) -> bytes:
    """A proposal in a commit."""
    return b"\1" + u16(kind) + body


def add(package: bytes) -> bytes:
    """An Add."""
    return by_value(1, package)


def remove(index: int) -> bytes:
    """A Remove."""
    return by_value(3, u32(index))


def external_init() -> bytes:
    """An ExternalInit."""
    return by_value(6, opaque(some_key()))


class Written(NamedTuple):
    """A commit and the GroupInfo of the group after it, each within an MLSMessage."""

    message: bytes
    group_info: bytes


class PathNode(NamedTuple):
    """A node of a path: its key, and how often its secret is sealed."""

    key: bytes
    secrets: int

    def encode(self) -> bytes:
        """An UpdatePathNode."""
        return opaque(self.key) + opaque((opaque(some_key()) + opaque(bytes(48))) * self.secrets)


@dataclass(frozen=True)
class Odd:
    """What of a commit, and of its GroupInfo, is to be another way than it should."""

    group_id: bytes | None = None
    epoch: int | None = None
    sender: bytes | None = None
    """The encoded Sender."""
    signed_by: SigningKey | None = None
    tag: bytes = TAG
    leaf: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `MlsDevice.leaf`."""
    leaf_of: MlsDevice | None = None
    path: Callable[[list[PathNode]], list[PathNode]] = list
    context: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the GroupInfo's GroupContext."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `WrittenGroup.group_info`."""


USUAL = Odd()


@dataclass
class WrittenGroup:
    """A group as the one who writes for all its devices knows it; each commit takes it one epoch further."""

    context: GroupContext
    interim: bytes
    tree: RatchetTree
    devices: dict[int, MlsDevice]
    """By leaf."""

    @classmethod
    def create(cls, group_id: bytes, creator: MlsDevice, *, extensions: bytes = b"", **of_leaf: Any) -> "WrittenGroup":
        """A group of one, in epoch 0."""
        tree = RatchetTree([as_leaf(creator.leaf(**{"source": KEY_PACKAGE, **of_leaf}))])
        context = GroupContext(group_id, 0, tree.hash(), b"", opaque(extensions))
        return cls(context, digest(opaque(TAG)), tree, {0: creator})

    @classmethod
    def of(cls, group_id: bytes, *devices: MlsDevice) -> "WrittenGroup":
        """A group of these, of which the first created it and then added the others with one commit."""
        group = cls.create(group_id, devices[0])
        group.commit(devices[0], adds=devices[1:])
        return group

    @property
    def group_id(self) -> bytes:
        """The group's id."""
        return self.context.group_id

    @property
    def epoch(self) -> int:
        """The epoch it is in."""
        return self.context.epoch

    def index(self, device: MlsDevice) -> int:
        """The device's leaf."""
        return next(index for index, other in self.devices.items() if other == device)

    def copy(self) -> "WrittenGroup":
        """Another that goes its own way from here: an attempt that is refused is made with a copy."""
        return replace(self, tree=self.tree.copy(), devices=dict(self.devices))

    def commit(
        self,
        committer: MlsDevice,
        *,
        adds: Sequence[MlsDevice] = (),
        removes: Sequence[MlsDevice] = (),
        path: bool | None = None,
        extra: Sequence[bytes] = (),
        packages: Mapping[MlsDevice, bytes] | None = None,
        odd: Odd = USUAL,
    ) -> Written:
        """A member's commit. `path` is as RFC 9420 section 12.4 wants it, unless said; `extra` are encoded proposals
        that stand after the others and do nothing to the tree; `packages` are key packages in place of new ones."""
        sender = self.index(committer)
        indexes = [self.index(device) for device in removes]
        added = {device: (packages or {}).get(device) or device.key_package() for device in adds}
        proposals = [*map(remove, indexes), *map(add, added.values()), *extra]
        tree, devices = self.tree.copy(), dict(self.devices)
        self._remove(tree, devices, indexes)
        places = [self._add(tree, devices, device, package) for device, package in added.items()]
        encoded_path = b"\0"
        if path if path is not None else (not added or bool(removes)):
            encoded_path = self._path(tree, sender, committer, newcomers=places, odd=odd)
        content = self._content(odd, b"\1" + u32(sender), proposals, encoded_path)
        return self._finish(committer, content, tree, devices, odd=odd, member=True)

    def external(
        self,
        joiner: MlsDevice,
        *,
        removes: Sequence[MlsDevice] = (),
        extra: Sequence[bytes] | None = None,
        path: bool = True,
        odd: Odd = USUAL,
    ) -> Written:
        """A commit by which a device comes in; `extra` are its proposals, a right ExternalInit unless said."""
        indexes = [self.index(device) for device in removes]
        proposals = [*map(remove, indexes), *([external_init()] if extra is None else extra)]
        tree, devices = self.tree.copy(), dict(self.devices)
        self._remove(tree, devices, indexes)
        index = self._add(tree, devices, joiner, joiner.key_package())
        encoded_path = self._path(tree, index, joiner, newcomers=(), odd=odd) if path else b"\0"
        content = self._content(odd, b"\4", proposals, encoded_path)
        return self._finish(joiner, content, tree, devices, odd=odd, member=False)

    def group_info(
        self,
        signer: MlsDevice,
        *,
        tag: bytes = TAG,
        with_tree: bool = True,
        tree: bytes | None = None,
        extensions: bytes = b"",
        index: int | None = None,
        signed_by: SigningKey | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The group's GroupInfo in its present epoch, within an MLSMessage."""
        if with_tree:
            extensions = extension(2, self.tree.encode() if tree is None else tree) + extensions
        about = replace(self.context, **(context or {}))
        place = self.index(signer) if index is None else index
        content = about.encode() + opaque(extensions) + opaque(tag) + u32(place)
        signature = sign(signed_by or signer.key, "GroupInfoTBS", content)
        return wrapped(GROUP_INFO, content + opaque(signature))

    @staticmethod
    def _remove(tree: RatchetTree, devices: dict[int, MlsDevice], indexes: Sequence[int]) -> None:
        for index in indexes:
            tree.remove(index)
            del devices[index]
        if indexes:
            tree.truncate()

    @staticmethod
    def _add(tree: RatchetTree, devices: dict[int, MlsDevice], device: MlsDevice, package: bytes) -> int:
        reader = Reader(package)
        reader.u32()  # version and ciphersuite
        reader.opaque()
        index = tree.add(as_leaf(package[reader.position :]))
        devices[index] = device
        return index

    def _path(self, tree: RatchetTree, index: int, device: MlsDevice, *, newcomers: Sequence[int], odd: Odd) -> bytes:
        steps = tree.filtered_path(index)
        new = {2 * leaf for leaf in newcomers}
        nodes = [PathNode(some_key(), len(set(step.resolution) - new)) for step in steps]
        above = b""
        tree.blank_path(index)
        for step, node in zip(reversed(steps), reversed(nodes), strict=True):
            tree.set(step.place, Parent(node.key, above, ()))
            above = parent_hash(node.key, above, tree.subtree_hash(step.beside))
        fields = {"source": COMMIT, "parent_hash": above, "place": (self.group_id, index), **odd.leaf}
        leaf = (odd.leaf_of or device).leaf(**fields)
        tree.set(2 * index, as_leaf(leaf))
        return b"\1" + leaf + opaque(b"".join(node.encode() for node in odd.path(nodes)))

    def _content(self, odd: Odd, sender: bytes, proposals: Sequence[bytes], path: bytes) -> bytes:
        return b"".join(
            (
                opaque(self.group_id if odd.group_id is None else odd.group_id),
                u64(self.epoch if odd.epoch is None else odd.epoch),
                sender if odd.sender is None else odd.sender,
                opaque(b""),
                b"\3",
                opaque(b"".join(proposals)),
                path,
            )
        )

    def _finish(
        self,
        committer: MlsDevice,
        content: bytes,
        tree: RatchetTree,
        devices: dict[int, MlsDevice],
        *,
        odd: Odd,
        member: bool,
    ) -> Written:
        wire_format = u16(PUBLIC_MESSAGE)
        signed = VERSION + wire_format + content + self.context.encode()
        signature = opaque(sign(odd.signed_by or committer.key, "FramedContentTBS", signed))
        confirmed = digest(self.interim + wire_format + content + signature)
        self.context = replace(
            self.context, epoch=self.epoch + 1, tree_hash=tree.hash(), confirmed_transcript_hash=confirmed
        )
        self.interim = digest(confirmed + opaque(odd.tag))
        self.tree, self.devices = tree, devices
        message = content + signature + opaque(odd.tag) + (opaque(bytes(32)) if member else b"")
        info = self.group_info(committer, **{"tag": odd.tag, "context": odd.context, **odd.info})
        return Written(wrapped(PUBLIC_MESSAGE, message), info)


def as_leaf(encoded: bytes) -> Leaf:
    """What a tree keeps of the leaf node that the bytes begin with; of one that cannot be read, only the bytes."""
    try:
        return Leaf.of(read_leaf(Reader(encoded)))
    except InvalidMls:
        return Leaf(encoded, some_key(), some_key(), b"")
