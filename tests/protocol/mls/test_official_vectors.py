"""The working group's test vectors, as far as one without secrets can check them (ciphersuite 1).

Left out is what needs a secret: confirmation and membership tags, what path secrets open to, epoch authenticators,
private messages, and commits with proposals that a room cannot have, which must be refused by their own rule instead.
Their credentials are not the draft's, so trees, paths and commits are checked by the parts of the observer that do not
ask whose a leaf is; `test_group` and `test_refusals` have the whole.
"""

import json
from dataclasses import replace

import pytest

from linmatrix.protocol.mls import InvalidMls, Rule, read_commit, read_group_info
from linmatrix.protocol.mls.ciphersuite import check_signature
from linmatrix.protocol.mls.commits import Add, Remove, read_path, signed_content
from linmatrix.protocol.mls.framing import WireFormat, unwrap
from linmatrix.protocol.mls.group_info import GroupContext
from linmatrix.protocol.mls.key_packages import parse_key_package
from linmatrix.protocol.mls.leaves import Source, check_leaf_signature, read_leaf
from linmatrix.protocol.mls.path import merge_path
from linmatrix.protocol.mls.tls import Reader, opaque, u16
from linmatrix.protocol.mls.transcript import confirmed_hash, interim_hash
from linmatrix.protocol.mls.tree import Leaf
from linmatrix.protocol.mls.tree_checks import Names, check_structure
from linmatrix.protocol.mls.tree_reading import read_tree
from linmatrix.stack.server import PROJECT
from tests.support.mls_welcome import open_welcome

VECTORS = PROJECT.parent / "shared" / "vectors" / "mls"
NO_EXTENSIONS = b"\0"
ADD, UPDATE, REMOVE = 1, 2, 3

pytestmark = pytest.mark.skipif(
    not VECTORS.exists(), reason="the official vectors are not beside the project; they are not part of it"
)


class Checks:
    """Counts what was compared, so that a vector that is silently passed over shows."""

    def __init__(self):
        self.count = 0

    def same(self, found, expected):
        assert found == expected
        self.count += 1

    def passes(self, check, *args, **named):
        check(*args, **named)
        self.count += 1

    def refuses(self, rule, check, *args, **named):
        with pytest.raises(InvalidMls) as refusal:
            check(*args, **named)
        self.same(refusal.value.rule, rule)


@pytest.fixture
def checks():
    return Checks()


def vectors(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


unhex = bytes.fromhex


LONGEST_MADE = 2**20
"""Bytes: of longer fields, up to a gigabyte, only the length is read."""


def test_lengths_are_read_in_their_shortest_form(checks):
    for vector in vectors("deserialization"):
        header, length = unhex(vector["vlbytes_header"]), vector["length"]
        if length <= LONGEST_MADE:
            checks.same(Reader(header + bytes(length)).opaque(), bytes(length))
            checks.same(opaque(bytes(length)), header + bytes(length))
        if length:
            with pytest.raises(InvalidMls, match=f"{length} bytes are announced where 0 are left"):
                Reader(header).opaque()
            checks.count += 1
    assert checks.count >= 39


# What each message is refused by when it is given as the kind that it is not, or is one that no room has.
NEVER = {
    "update_proposal": (UPDATE, Rule.UPDATE),
    "pre_shared_key_proposal": (4, Rule.PSK),
    "re_init_proposal": (5, Rule.REINIT),
    "group_context_extensions_proposal": (7, Rule.GROUP_CONTEXT_EXTENSIONS),
}


def commit_of(kind, body):
    """A PublicMessage with one proposal by value, up to where the proposal ends."""
    return opaque(b"g") + bytes(8) + b"\1" + bytes(4) + b"\0\3" + opaque(b"\1" + u16(kind) + body)


def test_messages_are_read_and_written_alike(checks):
    for vector in vectors("messages"):
        message = {name: unhex(text) for name, text in vector.items()}
        info = read_group_info(message["mls_group_info"])
        checks.same(info.signed + opaque(info.signature), message["mls_group_info"][4:])
        checks.same(info.signed[: len(info.context.encode())], info.context.encode())
        checks.same(read_group_info(message["mls_group_info"][4:]), info)
        package = parse_key_package(unwrap(message["mls_key_package"], WireFormat.KEY_PACKAGE))
        checks.same(package.encoded, message["mls_key_package"][4:])
        added = Reader(message["add_proposal"])
        checks.same(parse_key_package(added).encoded, message["add_proposal"])
        checks.same(added.more, False)
        checks.same(read_tree(message["ratchet_tree"]).tree.encode(), message["ratchet_tree"])
        for name, (kind, rule) in NEVER.items():
            checks.refuses(rule, read_commit, commit_of(kind, message[name]))
        checks.refuses(Rule.CONTENT, read_commit, message["public_message_application"])
        checks.refuses(Rule.CONTENT, read_commit, message["public_message_proposal"])
        checks.refuses(Rule.WIRE_FORMAT, read_commit, message["private_message"])
        checks.refuses(Rule.WIRE_FORMAT, read_commit, message["mls_welcome"])
        checks.refuses(Rule.WIRE_FORMAT, read_commit, message["mls_group_info"])
        checks.refuses(Rule.WIRE_FORMAT, read_group_info, message["mls_key_package"])
        # Its first proposal stands there by its reference.
        checks.refuses(Rule.REFERENCE, read_commit, message["public_message_commit"])
    assert checks.count >= 720


def test_the_transcript_goes_on(checks):
    for vector in vectors("transcript-hashes"):
        reader = Reader(unhex(vector["authenticated_content"]))
        checks.same(reader.u16(), int(WireFormat.PUBLIC_MESSAGE))
        content, signature, tag = split(reader)
        confirmed = confirmed_hash(unhex(vector["interim_transcript_hash_before"]), content, signature)
        checks.same(confirmed, unhex(vector["confirmed_transcript_hash_after"]))
        checks.same(interim_hash(confirmed, tag), unhex(vector["interim_transcript_hash_after"]))
    assert checks.count >= 3


SIGNATURE, TAG = 2 + 64, 1 + 32
"""Bytes of a signature and a tag, each with its length."""


def split(reader, tags=1):
    """Content, signature and first tag of what `reader` is at; the vectors' contents are of kinds we do not read."""
    end = len(reader.data) - SIGNATURE - tags * TAG
    content = reader.data[reader.position : end]
    rest = Reader(reader.data, end)
    return content, rest.opaque(), rest.opaque()


def test_a_public_message_is_signed_over_the_group_s_state(checks):
    for vector in vectors("message-protection"):
        context = GroupContext(
            unhex(vector["group_id"]),
            vector["epoch"],
            unhex(vector["tree_hash"]),
            unhex(vector["confirmed_transcript_hash"]),
            NO_EXTENSIONS,
        )
        key = unhex(vector["signature_pub"])
        for name, tags in (("commit", 2), ("proposal", 1)):
            message = unhex(vector[f"{name}_pub"])
            content, signature, _ = split(Reader(message, 4), tags)
            checks.same(content.endswith(unhex(vector[name])), True)
            checks.passes(signed, key, content, context, signature)
            checks.refuses(Rule.SIGNATURE, signed, key, content, replace(context, epoch=1), signature)
        checks.refuses(Rule.PSK, read_commit, unhex(vector["commit_pub"]))
        checks.refuses(Rule.WIRE_FORMAT, read_commit, unhex(vector["commit_priv"]))
    assert checks.count >= 8


def signed(key, content, context, signature):
    covered = signed_content(content, context)
    check_signature(key, "FramedContentTBS", covered, signature, rule=Rule.SIGNATURE, whose="the vector")


def test_proposals_change_the_tree(checks):
    for vector in vectors("tree-operations"):
        tree = read_tree(unhex(vector["tree_before"])).tree
        checks.same(tree.hash(), unhex(vector["tree_hash_before"]))
        proposal, changed = Reader(unhex(vector["proposal"])), tree.copy()
        kind = proposal.u16()
        if kind == ADD:
            changed.add(Leaf.of(parse_key_package(proposal).leaf))
        elif kind == UPDATE:
            changed.blank_path(vector["proposal_sender"])
            changed.set(2 * vector["proposal_sender"], Leaf.of(read_leaf(proposal)))
        else:
            changed.remove(proposal.u32())
            changed.truncate()
        checks.same(proposal.more, False)
        checks.same(changed.encode(), unhex(vector["tree_after"]))
        checks.same(changed.hash(), unhex(vector["tree_hash_after"]))
        checks.same((tree.encode(), tree.hash()), (unhex(vector["tree_before"]), unhex(vector["tree_hash_before"])))
    assert checks.count >= 25


def test_trees_are_valid(checks):
    for vector in vectors("tree-validation"):
        read = read_tree(unhex(vector["tree"]))
        for node, (tree_hash, resolution) in enumerate(zip(vector["tree_hashes"], vector["resolutions"], strict=True)):
            checks.same(read.tree.subtree_hash(node), unhex(tree_hash))
            checks.same(read.tree.resolution(node), resolution)
        checks.same(read.tree.encode(), unhex(vector["tree"]))
        checks.passes(check_structure, read)
        checks.count += check_leaves(read, unhex(vector["group_id"]))
    assert checks.count >= 1097


def check_leaves(read, group_id):
    for index, leaf in read.leaves.items():
        check_leaf_signature(leaf, group_id=group_id, index=index)
    return len(read.leaves)


def test_paths_lead_to_the_tree_that_members_have(checks):
    for vector in vectors("treekem"):
        group_id, read = unhex(vector["group_id"]), read_tree(unhex(vector["ratchet_tree"]))
        checks.passes(check_structure, read)
        for update in vector["update_paths"]:
            reader, tree, sender = Reader(unhex(update["update_path"])), read.tree.copy(), update["sender"]
            path = read_path(reader)
            checks.same(reader.more, False)
            checks.same(path.leaf.source, Source.COMMIT)
            checks.passes(check_leaf_signature, path.leaf, group_id=group_id, index=sender)
            merge_path(tree, sender, path, names=Names.keys_of(tree), added=())
            checks.same(tree.hash(), unhex(update["tree_hash_after"]))
            checks.passes(check_structure, read_tree(tree.encode()))
    assert checks.count >= 321


def joined(vector):
    """The GroupInfo in the vector's welcome, and its tree."""
    package = parse_key_package(unwrap(unhex(vector["key_package"]), WireFormat.KEY_PACKAGE))
    welcome = unhex(vector["welcome"])
    assert welcome[:4] == u16(1) + u16(WireFormat.WELCOME)
    opened = open_welcome(
        welcome[4:],
        reference=package.reference,
        init_private=unhex(vector["init_priv"]),
        external_psks={unhex(psk["psk_id"]): unhex(psk["psk"]) for psk in vector["external_psks"]},
    )
    info = read_group_info(opened)
    return info, read_tree(info.ratchet_tree or unhex(vector["ratchet_tree"]))


def check_joined(checks, info, read):
    checks.same(read.tree.hash(), info.context.tree_hash)
    checks.passes(check_structure, read)
    checks.count += check_leaves(read, info.group_id)
    checks.passes(info.check_signature, read.leaves[info.signer].signature_key)


def test_groups_that_are_joined_by_a_welcome_are_valid(checks):
    for vector in vectors("passive-client-welcome"):
        check_joined(checks, *joined(vector))
    assert checks.count >= 152


def test_commits_after_a_welcome_are_followed_up_to_one_that_no_room_has(checks):
    for vector in vectors("passive-client-handling-commit"):
        info, read = joined(vector)
        check_joined(checks, info, read)
        tree, context = read.tree, info.context
        interim = interim_hash(context.confirmed_transcript_hash, info.confirmation_tag)
        for epoch in vector["epochs"]:
            message = unhex(epoch["commit"])
            key = tree.leaf(sender_of(message)).signature_key
            content, signature, tag = split(Reader(message, 4), tags=2)
            # Whatever it holds, it is signed over the state that was computed from the commits before it.
            checks.passes(signed, key, content, context, signature)
            try:
                commit = read_commit(message)
            except InvalidMls as refused:
                checks.same(refused.rule in (Rule.REFERENCE, Rule.PSK, Rule.GROUP_CONTEXT_EXTENSIONS), True)
                break
            checks.same((commit.content, commit.signature, commit.confirmation_tag), (content, signature, tag))
            tree = after(tree, commit)
            confirmed = confirmed_hash(interim, content, signature)
            interim = interim_hash(confirmed, tag)
            context = replace(
                context,
                epoch=context.epoch + 1,
                tree_hash=tree.hash(),
                confirmed_transcript_hash=confirmed,
            )
    assert checks.count >= 195


def sender_of(message):
    reader = Reader(message, 4)
    reader.opaque()
    reader.u64()
    assert reader.u8() == 1
    return reader.u32()


def after(tree, commit):
    tree, added = tree.copy(), []
    for proposal in commit.proposals:
        if isinstance(proposal, Remove):
            tree.remove(proposal.leaf)
            tree.truncate()
    for proposal in commit.proposals:
        if isinstance(proposal, Add):
            added.append(tree.add(Leaf.of(proposal.key_package.leaf)))
    if commit.path:
        merge_path(tree, commit.sender, commit.path, names=Names.keys_of(tree), added=added)
    return tree
