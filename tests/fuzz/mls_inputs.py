"""MLS messages as a peer may make them: right ones with something changed, most of them signed again afterwards.

A message that is only changed fails at its signature at the latest. So the one who changes it here has the keys of all
members, as somebody in the group has their own, and gets behind the signatures. Besides there are trees and commits
that are as large as an event, made to be expensive.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from nacl.signing import SigningKey

from linmatrix.protocol.mls import (
    MAX_MESSAGE_BYTES,
    Group,
    first_group,
    read_commit,
    read_group_info,
    read_key_package,
)
from linmatrix.protocol.mls.commits import signed_content
from linmatrix.protocol.mls.tls import opaque, u32, u64
from tests.support.mls_writer import (
    KEY_PACKAGE,
    MlsDevice,
    WrittenGroup,
    add,
    by_value,
    external_init,
    remove,
    sign,
    some_key,
    wrapped,
)

GROUP_ID = b"!fuzzed:hub.example.org"
CREATOR = MlsDevice("@creator:hub.example.org", "D")
SIGNATURE_AND_TAG = 66 + 33
"""Bytes of a signature and of a tag, each with its length."""

TELLING = bytes((0x00, 0x01, 0x02, 0x03, 0x04, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0xBF, 0xC0, 0xFF))
"""Bytes that are lengths, choices or their ends."""


class Attempt(NamedTuple):
    """One input: what kind it is, its size, and what is done with it, which returns or raises `InvalidMls`."""

    kind: str
    size: int
    run: Callable[[], None]


class Inputs:
    """Attempts without end, those of a seed always the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._written = _grown(self._random)
        info = self._written.group_info(CREATOR)
        self._group = first_group(read_group_info(info), group_id=GROUP_ID)
        self._members = list(self._written.devices.values())
        self._kinds = (self._commit, self._commit, self._group_info, self._group_info, self._key_package)

    def attempt(self) -> Attempt:
        """The next."""
        if self._random.randrange(100) == 0:
            return self._random.choice((self._large_tree, self._large_commit))()
        return self._random.choice(self._kinds)()

    def _commit(self) -> Attempt:
        """A commit with its GroupInfo, one of them changed."""
        draw, written = self._random, self._written.copy()
        by = draw.choice(self._members)
        choice = draw.randrange(5)
        if choice == 0:
            made = written.external(_stranger(draw))
        elif choice == 1:
            made = written.external(by, removes=[by])
        else:
            others = [device for device in self._members if device != by]
            removes = draw.sample(others, draw.randrange(3))
            made = written.commit(by, adds=[_stranger(draw)] if choice == 2 else [], removes=removes)
        message, info = made.message[4:], made.group_info[4:]
        if draw.randrange(3):
            message = self._changed_commit(message, by if choice else None)
        else:
            info = self._signed_again(info, by.key)
        return Attempt("commit", len(message), lambda: apply(self._group, message, info))

    def _changed_commit(self, message: bytes, by: MlsDevice | None) -> bytes:
        tags = SIGNATURE_AND_TAG if message[len(opaque(GROUP_ID)) + 8] == 4 else SIGNATURE_AND_TAG + 33
        if by is None or self._random.randrange(4) == 0:
            return self._changed(message)
        content = self._changed(message[:-tags])
        signature = sign(by.key, "FramedContentTBS", signed_content(content, self._group.context))
        return content + opaque(signature) + message[66 - tags :]

    def _group_info(self) -> Attempt:
        """A GroupInfo with its tree, which nothing vouches for but itself."""
        draw = self._random
        signer = draw.choice(self._members)
        info = self._written.group_info(signer)[4:]
        info = self._signed_again(info, signer.key) if draw.randrange(4) else self._changed(info)
        return Attempt("GroupInfo", len(info), lambda: begin(info))

    def _signed_again(self, info: bytes, key: SigningKey) -> bytes:
        content = self._changed(info[:-66])
        return content + opaque(sign(key, "GroupInfoTBS", content))

    def _key_package(self) -> Attempt:
        device = _stranger(self._random)
        package = device.key_package()
        if self._random.randrange(4):
            content = self._changed(package[:-66])
            package = content + opaque(sign(device.key, "KeyPackageTBS", content))
        else:
            package = self._changed(package)
        if self._random.randrange(2):
            package = wrapped(5, package)
        return Attempt("key package", len(package), lambda: read_package(package))

    def _large_tree(self) -> Attempt:
        """A tree with as many nodes as an event has room for, or as nobody can have: blank, or with long lists."""
        draw = self._random
        info = WrittenGroup.create(GROUP_ID, CREATOR)
        own = b"\1\1" + info.tree.nodes[0].encoded  # type: ignore[union-attr]
        nodes, size = [own], len(own)
        blanks = draw.choice((0.0, 0.5, 0.9, 0.999))
        limit = draw.randrange(1000, MAX_MESSAGE_BYTES - 600)
        while size < limit:
            node = b"\0"
            if draw.random() >= blanks:
                node = self._large_parent(len(nodes)) if len(nodes) % 2 else b"\1\1" + _leaf(draw)
            nodes.append(node)
            size += len(node)
        nodes.append(b"\0" if len(nodes) % 2 else b"")
        tree = opaque(b"".join(nodes) + b"\1\1" + _leaf(draw))
        message = info.group_info(CREATOR, tree=tree)
        return Attempt("large tree", len(message), lambda: begin(message))

    def _large_parent(self, place: int) -> bytes:
        draw = self._random
        count = draw.choice((0, 0, 1, 10, 100, min(2000, place)))
        first = draw.randrange(place + 1) // 2
        unmerged = b"".join(map(u32, range(first, first + count)))
        return b"\1\2" + opaque(some_key()) + opaque(some_key()) + opaque(unmerged)

    def _large_commit(self) -> Attempt:
        """Tens of thousands of bytes of proposals, signed."""
        draw, written = self._random, self._written.copy()
        make = draw.choice(
            (
                lambda: remove(draw.randrange(12)),
                lambda: remove(draw.randrange(2**32)),
                external_init,
                lambda: by_value(draw.randrange(9), b""),
                lambda: add(_stranger(draw).key_package()),
            )
        )
        extra: list[bytes] = []
        size, limit = 0, draw.randrange(1000, MAX_MESSAGE_BYTES - 4000)
        while size < limit:
            extra.append(make())
            size += len(extra[-1])
        by = draw.choice(self._members)
        made = written.commit(by, path=draw.random() < 0.5, extra=extra)
        return Attempt("large commit", len(made.message), lambda: apply(self._group, made.message, made.group_info))

    def _changed(self, data: bytes) -> bytes:
        """The bytes with one to four changes; most keep the length, so that what follows is still read."""
        changed, draw = bytearray(data), self._random
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            at = draw.randrange(len(changed))
            choice = draw.randrange(8)
            if choice < 2:
                changed[at] ^= 1 << draw.randrange(8)
            elif choice < 4:
                changed[at] = draw.choice(TELLING)
            elif choice == 4:
                changed[at : at + 4] = draw.choice((bytes(4), b"\xff" * 4, u32(draw.randrange(16))))
            elif choice == 5:
                source = draw.randrange(len(changed))
                length = draw.choice((1, 2, 32, 33, 64))
                changed[at : at + length] = changed[source : source + length]
            elif choice == 6:
                changed[at:at] = draw.choice((b"\0", b"\1", u64(0), changed[at : at + 40]))
            else:
                del changed[at : at + draw.choice((1, 4, 33, 2000))]
            if not changed:
                return b""
        return bytes(changed)


def apply(group: Group, message: bytes, info: bytes) -> None:
    """A commit reaches a group; what is accepted is a group again."""
    change = group.apply(read_commit(message), read_group_info(info))
    check_group(change.group)
    assert change.group.epoch == group.epoch + 1
    assert set(change.group.members.values()) == (set(group.members.values()) - set(change.removed) | set(change.added))


def begin(info: bytes) -> None:
    """A group is taken from a GroupInfo."""
    check_group(first_group(read_group_info(info), group_id=GROUP_ID))


def read_package(data: bytes) -> None:
    """A key package is uploaded."""
    package = read_key_package(data)
    assert package.device.user_id
    assert len(package.reference) == 32


def check_group(group: Group) -> None:
    """What holds of every group."""
    again = Group.from_bytes(group.to_bytes())
    assert (again.digest, again.members) == (group.digest, group.members)
    assert len(set(group.members.values())) == len(group.members) >= 1
    assert group.tree.width < 2 * max(group.members) + 2 or group.tree.width == 1


def _grown(draw: random.Random) -> WrittenGroup:
    """A group of a dozen with keys, blanks and unmerged leaves in its tree."""
    members = [MlsDevice(f"@member{number}:hub.example.org", "D") for number in range(11)]
    written = WrittenGroup.of(GROUP_ID, CREATOR, *members)
    for device in draw.sample(members, 6):
        written.commit(device)
    written.commit(members[0], removes=members[3:5])
    written.commit(members[1], adds=[_stranger(draw), members[3]])
    return written


def _stranger(draw: random.Random) -> MlsDevice:
    return MlsDevice(f"@stranger{draw.randrange(2**32)}:hub.example.org", "D")


def _leaf(draw: random.Random) -> bytes:
    return _stranger(draw).leaf(source=KEY_PACKAGE)
