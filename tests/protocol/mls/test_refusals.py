"""Commits that are signed as they should be and not allowed: each is refused by its own rule, and changes nothing.

Each has a twin that differs in the one thing, and is accepted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from linmatrix.protocol.mls import InvalidMls, Rule
from linmatrix.protocol.mls.credential import Credential
from linmatrix.protocol.mls.tls import opaque, u16, u32
from tests.protocol.mls.devices import BOB, BOB_AGAIN, BOB_TWO, CAROL, DAVE, ERIN, ZOE
from tests.support.mls_writer import (
    BASIC,
    COMMIT,
    KEY_PACKAGE,
    TAG,
    UPDATE,
    Odd,
    PathNode,
    Written,
    WrittenGroup,
    add,
    by_value,
    capabilities,
    extension,
    external_init,
    remove,
    some_key,
)

Make = Callable[[WrittenGroup], Written]


class Case(NamedTuple):
    """A refused commit, the rule, and its twin."""

    rule: Rule
    refused: Make
    accepted: Make


def by(committer: Any, **how: Any) -> Make:
    """A member's commit."""
    return lambda written: written.commit(committer, **how)


def odd(**how: Any) -> Make:
    """A commit of bob's, who only takes new keys, with something odd about it."""
    return by(BOB, odd=Odd(**how))


def leaf(**how: Any) -> Make:
    """The same, the oddity in bob's new leaf."""
    return odd(leaf=how)


def adding(**how: Any) -> Make:
    """Bob adds zoe, whose key package is odd."""
    return lambda written: written.commit(BOB, adds=[ZOE], packages={ZOE: ZOE.key_package(**how)})


def joining(joiner: Any, **how: Any) -> Make:
    """An external commit."""
    return lambda written: written.external(joiner, **how)


def last_of(change: Callable[[PathNode], PathNode]) -> Callable[[list[PathNode]], list[PathNode]]:
    """A path with its last node changed."""
    return lambda nodes: [*nodes[:-1], change(nodes[-1])]


def identity(user_id: str, device_id: str, key: bytes) -> bytes:
    return BASIC + opaque(Credential(user_id, device_id, key).to_bytes())


def bobs_encryption_key(written: WrittenGroup) -> bytes:
    bobs = written.tree.leaf(written.index(BOB))
    assert bobs is not None
    return bobs.encryption_key


KEYS = by(BOB)
"""New keys for bob, and nothing odd."""
ADD = adding()
JOIN = joining(ZOE)
SAME_KEY = bytes(range(32))

OF_THE_COMMIT = {
    "another group": Case(Rule.GROUP, odd(group_id=b"!other:hub.example.org"), KEYS),
    "an epoch that is over": Case(Rule.EPOCH, odd(epoch=5), odd(epoch=6)),
    "an epoch to come": Case(Rule.EPOCH, odd(epoch=7), odd(epoch=6)),
    "the last epoch that can be written": Case(Rule.EPOCH, odd(epoch=2**64 - 1), odd(epoch=6)),
    "a sender where nobody is": Case(Rule.SENDER, odd(sender=b"\1" + u32(6)), odd(sender=b"\1" + u32(1))),
    "a sender beyond the tree": Case(Rule.SENDER, odd(sender=b"\1" + u32(2**32 - 1)), odd(sender=b"\1" + u32(1))),
    "an external sender": Case(Rule.SENDER, odd(sender=b"\2" + u32(0)), KEYS),
    "a new member who may only propose": Case(Rule.SENDER, odd(sender=b"\3"), KEYS),
    "another member's signature": Case(Rule.SIGNATURE, odd(signed_by=CAROL.key), odd(signed_by=BOB.key)),
    "another member's leaf": Case(Rule.SIGNATURE, odd(sender=b"\1" + u32(2)), KEYS),
    "a joiner's signature with another key": Case(Rule.SIGNATURE, joining(ZOE, odd=Odd(signed_by=BOB.key)), JOIN),
    "a short confirmation tag": Case(Rule.KEY, odd(tag=bytes(31)), odd(tag=bytes(32))),
}

OF_PROPOSALS = {
    "by reference": Case(Rule.REFERENCE, by(BOB, extra=[b"\2" + opaque(some_key())]), by(BOB, extra=[])),
    "an unknown proposal": Case(Rule.PROPOSAL, by(BOB, extra=[by_value(0x0A0A, b"")]), by(BOB, extra=[])),
    "an update by value": Case(Rule.UPDATE, by(BOB, extra=[by_value(2, BOB.leaf(source=UPDATE))]), by(BOB, extra=[])),
    "a pre-shared key": Case(
        Rule.PSK, by(BOB, extra=[by_value(4, b"\1" + opaque(b"id") + opaque(bytes(32)))]), by(BOB, extra=[])
    ),
    "ReInit": Case(
        Rule.REINIT, by(BOB, extra=[by_value(5, opaque(b"new") + u16(1) + u16(1) + b"\0")]), by(BOB, extra=[])
    ),
    "other extensions for the group": Case(
        Rule.GROUP_CONTEXT_EXTENSIONS, by(BOB, extra=[by_value(7, opaque(b""))]), by(BOB, extra=[])
    ),
    "a member's ExternalInit": Case(Rule.EXTERNAL_INIT, by(BOB, extra=[external_init()]), by(BOB, extra=[])),
    "removing a blank leaf": Case(Rule.REMOVE_BLANK, by(BOB, extra=[remove(5)]), by(BOB, removes=[DAVE])),
    "removing a leaf beyond the tree": Case(Rule.REMOVE_BLANK, by(BOB, extra=[remove(2**32 - 1)]), KEYS),
    "removing a leaf twice": Case(
        Rule.REMOVE_BLANK, by(BOB, removes=[DAVE], extra=[remove(3)]), by(BOB, removes=[DAVE, ERIN])
    ),
    "removing oneself": Case(Rule.REMOVE_COMMITTER, by(BOB, extra=[remove(1)]), by(BOB, removes=[DAVE])),
    "a second leaf for a device": Case(
        Rule.DEVICE_PRESENT, by(CAROL, adds=[BOB_AGAIN]), by(CAROL, adds=[BOB_AGAIN], removes=[BOB])
    ),
    "a second leaf for the committer": Case(Rule.DEVICE_PRESENT, by(BOB, adds=[BOB_AGAIN]), by(BOB, adds=[BOB_TWO])),
    "a device twice in one commit": Case(
        Rule.DEVICE_PRESENT,
        by(CAROL, adds=[ZOE], extra=[add(ZOE.key_package())], path=False),
        by(CAROL, adds=[ZOE, BOB_TWO], path=False),
    ),
    "no path where somebody is removed": Case(
        Rule.PATH_MISSING, by(BOB, removes=[DAVE], path=False), by(BOB, removes=[DAVE], path=True)
    ),
    "no path and no proposals": Case(Rule.PATH_MISSING, by(BOB, path=False), by(BOB, path=True)),
    "no path where one is removed and one added": Case(
        Rule.PATH_MISSING, by(BOB, removes=[DAVE], adds=[ZOE], path=False), by(BOB, adds=[ZOE], path=False)
    ),
}

OF_JOINERS = {
    "no path": Case(Rule.PATH_MISSING, joining(ZOE, path=False), JOIN),
    "no ExternalInit": Case(Rule.EXTERNAL_INIT, joining(ZOE, extra=[]), JOIN),
    "two ExternalInits": Case(Rule.EXTERNAL_INIT, joining(ZOE, extra=[external_init(), external_init()]), JOIN),
    "an ExternalInit of the wrong length": Case(Rule.KEY, joining(ZOE, extra=[by_value(6, opaque(bytes(31)))]), JOIN),
    "adding another device": Case(
        Rule.EXTERNAL_PROPOSAL, joining(ZOE, extra=[external_init(), add(BOB_TWO.key_package())]), JOIN
    ),
    "removing somebody else": Case(
        Rule.EXTERNAL_PROPOSAL, joining(ZOE, removes=[BOB]), joining(BOB_AGAIN, removes=[BOB])
    ),
    "removing another device of one's own": Case(
        Rule.EXTERNAL_PROPOSAL, joining(BOB_TWO, removes=[BOB]), joining(BOB_AGAIN, removes=[BOB])
    ),
    "removing a blank leaf": Case(Rule.REMOVE_BLANK, joining(ZOE, extra=[external_init(), remove(5)]), JOIN),
    "removing one's leaf twice": Case(
        Rule.REMOVE_BLANK,
        joining(BOB_AGAIN, removes=[BOB], extra=[external_init(), remove(1)]),
        joining(BOB_AGAIN, removes=[BOB]),
    ),
    "the encryption key that one had": Case(
        Rule.KEY_PRESENT,
        lambda written: joining(
            BOB_AGAIN, removes=[BOB], odd=Odd(leaf={"encryption_key": bobs_encryption_key(written)})
        )(written),
        joining(BOB_AGAIN, removes=[BOB]),
    ),
    "a second leaf for one's device": Case(Rule.DEVICE_PRESENT, joining(BOB_AGAIN), joining(BOB_AGAIN, removes=[BOB])),
}

OF_PATHS = {
    "a node too few": Case(Rule.PATH, odd(path=lambda nodes: nodes[:-1]), KEYS),
    "a node too many": Case(Rule.PATH, odd(path=lambda nodes: [*nodes, PathNode(some_key(), 0)]), KEYS),
    "a secret too few": Case(Rule.PATH, odd(path=last_of(lambda node: node._replace(secrets=node.secrets - 1))), KEYS),
    "a secret too many": Case(Rule.PATH, odd(path=last_of(lambda node: node._replace(secrets=node.secrets + 1))), KEYS),
    "a key of small order": Case(Rule.KEY, odd(path=last_of(lambda node: node._replace(key=bytes(32)))), KEYS),
    "a leaf's key of small order": Case(Rule.KEY, leaf(encryption_key=bytes([1]) + bytes(31)), KEYS),
    "a short key": Case(Rule.KEY, odd(path=last_of(lambda node: node._replace(key=bytes(31)))), KEYS),
    "one key for two nodes": Case(Rule.KEY_PRESENT, odd(path=lambda nodes: [nodes[0]] * len(nodes)), KEYS),
    "a node's present key": Case(
        Rule.KEY_PRESENT,
        lambda written: odd(path=last_of(lambda node: node._replace(key=bobs_encryption_key(written))))(written),
        KEYS,
    ),
    "the leaf's present key": Case(
        Rule.KEY_PRESENT, lambda written: leaf(encryption_key=bobs_encryption_key(written))(written), KEYS
    ),
    "another's signature key": Case(
        Rule.KEY_PRESENT,
        leaf(
            signature_key=CAROL.public_key,
            credential=identity(BOB.user_id, BOB.device_id, CAROL.public_key),
            signed_by=CAROL.key,
        ),
        odd(leaf_of=BOB_AGAIN, info={"signed_by": BOB_AGAIN.key}),
    ),
    "the wrong parent hash": Case(Rule.PARENT_HASH, leaf(parent_hash=bytes(32)), KEYS),
    "no parent hash": Case(Rule.PARENT_HASH, leaf(parent_hash=b""), KEYS),
    "a leaf of an update": Case(Rule.LEAF_SOURCE, leaf(source=UPDATE), leaf(source=COMMIT)),
    "a leaf of a key package": Case(Rule.LEAF_SOURCE, leaf(source=KEY_PACKAGE), leaf(source=COMMIT)),
    "a leaf of no known source": Case(Rule.ENCODING, leaf(source=4), leaf(source=COMMIT)),
    "a leaf for another place": Case(
        Rule.LEAF_SIGNATURE,
        leaf(place=(b"!room:hub.example.org", 2)),
        leaf(place=(b"!room:hub.example.org", 1)),
    ),
    "a leaf for another group": Case(
        Rule.LEAF_SIGNATURE, leaf(place=(b"!other:hub.example.org", 1)), leaf(place=(b"!room:hub.example.org", 1))
    ),
    "a leaf signed by another": Case(Rule.LEAF_SIGNATURE, leaf(signed_by=CAROL.key), leaf(signed_by=BOB.key)),
    "a leaf of another user": Case(
        Rule.DEVICE_CHANGED, odd(leaf_of=ZOE), odd(leaf_of=BOB_AGAIN, info={"signed_by": BOB_AGAIN.key})
    ),
    "a leaf of another device of the user": Case(
        Rule.DEVICE_CHANGED, odd(leaf_of=BOB_TWO), odd(leaf_of=BOB_AGAIN, info={"signed_by": BOB_AGAIN.key})
    ),
    "a leaf of another member": Case(
        Rule.DEVICE_CHANGED, odd(leaf_of=CAROL), odd(leaf_of=BOB_AGAIN, info={"signed_by": BOB_AGAIN.key})
    ),
}

USUAL_IDENTITY = Credential(ZOE.user_id, ZOE.device_id, ZOE.public_key).to_bytes()

OF_KEY_PACKAGES = {
    "another version": Case(Rule.VERSION, adding(version=u16(2)), adding(version=u16(1))),
    "another ciphersuite": Case(Rule.CIPHERSUITE, adding(suite=u16(2)), adding(suite=u16(1))),
    "signed by another": Case(Rule.KEY_PACKAGE_SIGNATURE, adding(signed_by=BOB.key), adding(signed_by=ZOE.key)),
    "a leaf signed by another": Case(
        Rule.LEAF_SIGNATURE, adding(leaf=ZOE.leaf(source=KEY_PACKAGE, signed_by=BOB.key)), ADD
    ),
    "a leaf of a commit": Case(Rule.LEAF_SOURCE, adding(source=COMMIT), adding(source=KEY_PACKAGE)),
    "one key for two uses": Case(
        Rule.INIT_KEY,
        adding(init_key=SAME_KEY, encryption_key=SAME_KEY),
        adding(init_key=SAME_KEY, encryption_key=some_key()),
    ),
    "a short init key": Case(Rule.KEY, adding(init_key=SAME_KEY[1:]), adding(init_key=SAME_KEY)),
    "a long encryption key": Case(Rule.KEY, adding(encryption_key=bytes(33)), adding(encryption_key=SAME_KEY)),
    "an init key of small order": Case(Rule.KEY, adding(init_key=bytes(32)), adding(init_key=SAME_KEY)),
    "a member's encryption key": Case(
        Rule.KEY_PRESENT, lambda written: adding(encryption_key=bobs_encryption_key(written))(written), ADD
    ),
    "a member's signature key": Case(
        Rule.KEY_PRESENT,
        adding(
            leaf=ZOE.leaf(
                source=KEY_PACKAGE,
                signature_key=BOB.public_key,
                credential=identity(ZOE.user_id, ZOE.device_id, BOB.public_key),
                signed_by=BOB.key,
            ),
            signed_by=BOB.key,
        ),
        ADD,
    ),
    "an x509 credential": Case(
        Rule.CREDENTIAL,
        adding(credential=u16(2) + opaque(USUAL_IDENTITY)),
        adding(credential=BASIC + opaque(USUAL_IDENTITY)),
    ),
    "a name for an identity": Case(
        Rule.CREDENTIAL, adding(credential=BASIC + opaque(b"Zoe")), adding(credential=BASIC + opaque(USUAL_IDENTITY))
    ),
    "an identity and more": Case(
        Rule.CREDENTIAL,
        adding(credential=BASIC + opaque(USUAL_IDENTITY + b"\0")),
        adding(credential=BASIC + opaque(USUAL_IDENTITY)),
    ),
    "another key in the credential": Case(
        Rule.CREDENTIAL,
        adding(credential=identity(ZOE.user_id, ZOE.device_id, BOB.public_key)),
        adding(credential=identity(ZOE.user_id, ZOE.device_id, ZOE.public_key)),
    ),
    "no user id": Case(
        Rule.CREDENTIAL,
        adding(credential=identity("zoe", ZOE.device_id, ZOE.public_key)),
        adding(credential=identity("@other:z.example.org", ZOE.device_id, ZOE.public_key)),
    ),
    "no device id": Case(
        Rule.CREDENTIAL,
        adding(credential=identity(ZOE.user_id, "a device", ZOE.public_key)),
        adding(credential=identity(ZOE.user_id, "a_device", ZOE.public_key)),
    ),
    "no support of the version": Case(
        Rule.CAPABILITIES, adding(can=capabilities(versions=[2])), adding(can=capabilities(versions=[2, 1]))
    ),
    "no support of the ciphersuite": Case(
        Rule.CAPABILITIES, adding(can=capabilities(ciphersuites=[2])), adding(can=capabilities(ciphersuites=[2, 1]))
    ),
    "no support of basic credentials": Case(
        Rule.CAPABILITIES, adding(can=capabilities(credentials=[2])), adding(can=capabilities(credentials=[2, 1]))
    ),
    "no support of its own extension": Case(
        Rule.CAPABILITIES,
        adding(leaf=ZOE.leaf(source=KEY_PACKAGE, extensions=extension(0xF001))),
        adding(leaf=ZOE.leaf(source=KEY_PACKAGE, extensions=extension(0xF001), can=capabilities(extensions=[0xF001]))),
    ),
    "an extension twice": Case(
        Rule.EXTENSIONS,
        adding(leaf=ZOE.leaf(source=KEY_PACKAGE, extensions=extension(1) + extension(1, b"a"))),
        adding(leaf=ZOE.leaf(source=KEY_PACKAGE, extensions=extension(1))),
    ),
}

OF_GROUP_INFOS = {
    "another group": Case(Rule.GROUP_INFO_CONTEXT, odd(context={"group_id": b"!other:hub.example.org"}), KEYS),
    "another epoch": Case(Rule.GROUP_INFO_CONTEXT, odd(context={"epoch": 6}), odd(context={"epoch": 7})),
    "another tree hash": Case(Rule.GROUP_INFO_CONTEXT, odd(context={"tree_hash": bytes(32)}), KEYS),
    "another transcript": Case(Rule.GROUP_INFO_CONTEXT, odd(context={"confirmed_transcript_hash": bytes(32)}), KEYS),
    "other extensions": Case(
        Rule.GROUP_INFO_CONTEXT,
        odd(context={"extensions": opaque(extension(5))}),
        odd(context={"extensions": opaque(b"")}),
    ),
    "another confirmation tag": Case(Rule.GROUP_INFO_TAG, odd(info={"tag": bytes(32)}), odd(info={"tag": TAG})),
    "another signer": Case(
        Rule.GROUP_INFO_SIGNER, odd(info={"index": 2, "signed_by": CAROL.key}), odd(info={"index": 1})
    ),
    "a signer where nobody is": Case(Rule.GROUP_INFO_SIGNER, odd(info={"index": 6}), odd(info={"index": 1})),
    "another member's signature": Case(
        Rule.GROUP_INFO_SIGNATURE, odd(info={"signed_by": CAROL.key}), odd(info={"signed_by": BOB.key})
    ),
    "the tree as it was": Case(
        Rule.GROUP_INFO_TREE,
        lambda written: odd(info={"tree": written.tree.encode()})(written),
        odd(info={"with_tree": False}),
    ),
}

GROUPS = (OF_THE_COMMIT, OF_PROPOSALS, OF_JOINERS, OF_PATHS, OF_KEY_PACKAGES, OF_GROUP_INFOS)
TITLES = ("commit", "proposals", "joiner", "path", "key package", "GroupInfo")
CASES = {f"{title}: {name}": case for title, cases in zip(TITLES, GROUPS, strict=True) for name, case in cases.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_commit_is_refused_by_its_own_rule_and_its_twin_is_accepted(name, group, written, apply):
    rule, refused, accepted = CASES[name]
    before, members = group.digest, dict(group.members)
    attempt = refused(written.copy())
    with pytest.raises(InvalidMls) as refusal:
        apply(attempt)
    assert refusal.value.rule == rule
    assert len(refusal.value.reason) < 400
    assert (group.digest, dict(group.members)) == (before, members)
    twin = written.copy()
    assert apply(accepted(twin)).group.tree.hash() == twin.tree.hash()
