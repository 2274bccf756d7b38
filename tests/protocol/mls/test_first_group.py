"""A GroupInfo with its tree, which nothing vouches for but itself: whatever is wrong in it is found."""

from dataclasses import replace

import pytest

from linmatrix.protocol.mls import MAX_GROUP_INFO_BYTES, InvalidMls, Rule, first_group, read_group_info
from linmatrix.protocol.mls.tls import Reader, opaque
from linmatrix.protocol.mls.tree import MAX_LEAVES, Parent, RatchetTree
from tests.protocol.mls.devices import ALICE, BOB, BOB_AGAIN, CAROL, DAVE, ERIN, GROUP_ID, ZOE
from tests.support.mls_writer import COMMIT, KEY_PACKAGE, UPDATE, WrittenGroup, as_leaf, extension, some_key

ROOT, LOW = 7, 1
"""Places of the top of the tree of five, and of the parent of alice and bob."""


def observed(info, group_id=GROUP_ID):
    return first_group(read_group_info(info, max_bytes=MAX_GROUP_INFO_BYTES), group_id=group_id)


def refusal(info, **named):
    with pytest.raises(InvalidMls) as refused:
        observed(info, **named)
    return refused.value.rule


def with_tree(written, tree, **how):
    """A GroupInfo of alice's, rightly signed, with another tree and its hash."""
    return written.group_info(ALICE, tree=tree.encode(), context={"tree_hash": tree.hash()}, **how)


def changed(written, *changes):
    """The tree with other nodes, by their place."""
    nodes = written.tree.nodes.copy()
    for place, change in changes:
        nodes[place] = change(nodes[place]) if callable(change) else change
    return RatchetTree(nodes)


def of_alice(**how):
    """A leaf of alice's for her place, made at a commit."""
    return as_leaf(ALICE.leaf(**{"source": COMMIT, "place": (GROUP_ID, 0), **how}))


def test_the_tree_as_it_is_is_accepted(written, group):
    assert observed(with_tree(written, written.tree)).digest == group.digest


def test_another_group_s_is_refused(written):
    assert refusal(written.group_info(ALICE), group_id=b"!other:hub.example.org") == Rule.GROUP


def test_an_epoch_that_nobody_counted_to_is_refused(written):
    assert refusal(written.group_info(ALICE, context={"epoch": 2**53})) == Rule.EPOCH
    assert observed(written.group_info(ALICE, context={"epoch": 2**53 - 1})).epoch == 2**53 - 1


def test_a_tree_has_to_be_there(written):
    assert refusal(written.group_info(ALICE, with_tree=False)) == Rule.GROUP_INFO_TREE


def test_its_signer_is_in_the_group_and_signed_it(written):
    assert observed(written.group_info(CAROL)).epoch == written.epoch
    assert refusal(written.group_info(ALICE, index=5)) == Rule.GROUP_INFO_SIGNER
    assert refusal(written.group_info(ALICE, index=2**32 - 1)) == Rule.GROUP_INFO_SIGNER
    assert refusal(written.group_info(ALICE, index=1)) == Rule.GROUP_INFO_SIGNATURE
    assert refusal(written.group_info(ALICE, signed_by=BOB.key)) == Rule.GROUP_INFO_SIGNATURE


def test_the_tree_has_the_hash_that_the_members_know(written):
    older = written.tree.hash()
    written.commit(BOB)
    assert refusal(written.group_info(ALICE, context={"tree_hash": older})) == Rule.TREE_HASH


def test_a_leaf_is_checked_as_one_that_comes_in(written):
    """Alice's leaf below a root that is not there: with no parents above, what it says is all there is to it."""
    parents = [(place, None) for place, _ in written.tree.parents()]

    def leaf(**how):
        return with_tree(written, changed(written, *parents, (0, of_alice(**how))))

    assert observed(leaf()).members[0].user_id == ALICE.user_id
    assert observed(leaf(source=KEY_PACKAGE)).members[0].user_id == ALICE.user_id
    assert observed(leaf(source=UPDATE)).members[0].user_id == ALICE.user_id
    assert refusal(leaf(place=(GROUP_ID, 1))) == Rule.LEAF_SIGNATURE
    assert refusal(leaf(place=(b"!other:hub.example.org", 0))) == Rule.LEAF_SIGNATURE
    assert refusal(leaf(extensions=extension(0xF001))) == Rule.CAPABILITIES
    assert refusal(leaf(encryption_key=written.tree.leaf(1).encryption_key)) == Rule.KEY_PRESENT


def test_a_device_has_one_leaf(written):
    again = as_leaf(BOB_AGAIN.leaf(source=KEY_PACKAGE))
    parents = [(place, None) for place, _ in written.tree.parents()]
    assert refusal(with_tree(written, changed(written, *parents, (10, again)))) == Rule.DEVICE_PRESENT
    other = as_leaf(ZOE.leaf(source=KEY_PACKAGE))
    assert len(observed(with_tree(written, changed(written, *parents, (10, other)))).members) == 6


def test_a_key_stands_once(written):
    lower = written.tree.nodes[LOW].encryption_key
    tree = changed(written, (ROOT, lambda node: node._replace(encryption_key=lower)))
    assert refusal(with_tree(written, tree)) == Rule.KEY_PRESENT


@pytest.mark.parametrize("place", [LOW, 3, ROOT])
def test_a_parent_that_nobody_below_made_is_refused(written, place):
    assert isinstance(written.tree.nodes[place], Parent)
    for field, value in (("encryption_key", some_key()), ("parent_hash", bytes(32))):
        tree = changed(written, (place, lambda node, new={field: value}: node._replace(**new)))
        assert refusal(with_tree(written, tree)) == Rule.PARENT_HASH


def test_a_parent_without_those_below_it_is_refused(written):
    """As when somebody leaves out whom they do not want: the parent was made with leaves that are not there now."""
    assert refusal(with_tree(written, changed(written, (2, None), (4, None)))) == Rule.PARENT_HASH


def test_new_leaves_are_unmerged_where_they_came_in_and_the_parents_hold(written):
    written.commit(BOB, removes=[CAROL])
    for device in (BOB, DAVE, ERIN, ALICE):
        written.commit(device)
    written.commit(ERIN, adds=[ZOE, CAROL])
    unmerged = {place: node.unmerged for place, node in written.tree.parents() if node.unmerged}
    assert (2,) in unmerged.values()
    assert len(observed(written.group_info(ALICE)).members) == 6
    # Not to say so would be to let them in on secrets that they have not.
    for place in unmerged:
        tree = changed(written, (place, lambda node: node._replace(unmerged=())))
        assert refusal(with_tree(written, tree)) in (Rule.PARENT_HASH, Rule.TREE)


@pytest.mark.parametrize(
    ("unmerged", "rule"),
    [
        ((1, 0), Rule.TREE),
        ((1, 1), Rule.TREE),
        ((5,), Rule.TREE),
        ((2**32 - 1,), Rule.TREE),
        ((3,), Rule.TREE),
        ((0, 1), Rule.PARENT_HASH),
    ],
    ids=["out of order", "twice", "not below, and blank", "beyond the tree", "not below", "all"],
)
def test_unmerged_leaves_are_leaves_below_in_order(written, unmerged, rule):
    tree = changed(written, (LOW, lambda node: node._replace(unmerged=unmerged)))
    assert refusal(with_tree(written, tree)) == rule


def test_an_unmerged_leaf_is_not_blank(written):
    tree = changed(written, (ROOT, lambda node: node._replace(unmerged=(5,))))
    assert refusal(with_tree(written, tree)) == Rule.TREE


def test_an_unmerged_leaf_is_below_its_parent_though_nothing_else_is_above_it(written):
    others = [(place, None) for place, _ in written.tree.parents() if place != LOW]
    tree = changed(written, *others, (LOW, lambda node: node._replace(unmerged=(4,))))
    assert refusal(with_tree(written, tree)) == Rule.TREE


def test_a_newcomer_cannot_pass_for_one_who_knows_the_secret_above_it():
    """Alice and carol have leaves 0 and 2; alice makes the root. Zoe, who comes to leaf 1, is not merged there."""
    written = WrittenGroup.of(GROUP_ID, ALICE, BOB, CAROL)
    written.commit(CAROL, removes=[BOB])
    written.commit(ALICE)
    written.commit(CAROL, adds=[ZOE])
    root = written.tree.nodes[3]
    assert root.unmerged == (1,)
    assert len(observed(with_tree(written, written.tree)).members) == 3
    assert refusal(with_tree(written, changed(written, (3, root._replace(unmerged=()))))) == Rule.PARENT_HASH


def test_an_unmerged_leaf_is_unmerged_in_every_parent_between(written):
    tree = changed(written, (ROOT, lambda node: node._replace(unmerged=(1,))))
    assert refusal(with_tree(written, tree)) == Rule.TREE


def encoded(*nodes):
    """A tree's bytes, whatever they are."""
    return opaque(b"".join(nodes))


def test_a_tree_has_leaves_and_parents_in_turn_and_does_not_end_with_a_blank(written):
    leaf = b"\1\1" + written.tree.leaf(0).encoded
    parent = b"\1\2" + Parent(some_key(), b"", ()).encode()
    other = b"\1\1" + BOB.leaf(source=KEY_PACKAGE)
    for tree in (encoded(), encoded(leaf, b"\0"), encoded(parent), encoded(leaf, leaf), encoded(b"\0", parent)):
        assert refusal(written.group_info(ALICE, tree=tree)) == Rule.TREE
    assert refusal(written.group_info(ALICE, tree=encoded(b"\2"))) == Rule.ENCODING
    assert refusal(written.group_info(ALICE, tree=encoded(leaf) + b"\0")) == Rule.ENCODING
    assert refusal(written.group_info(ALICE, tree=encoded(b"\1\3" + leaf[2:]))) == Rule.TREE
    assert refusal(written.group_info(ALICE, tree=encoded(leaf, parent))) == Rule.TREE
    assert refusal(written.group_info(ALICE, tree=encoded(leaf, b"\0", b"\0", parent))) == Rule.TREE
    assert refusal(written.group_info(ALICE, tree=encoded(leaf, b"\0", other))) == Rule.TREE_HASH


def test_a_tree_is_written_without_the_blanks_at_its_end(written):
    """Five leaves have nine nodes; the rest of the fifteen are blank, and one who writes them names the same tree."""
    nodes = Reader(written.tree.encode()).opaque()
    assert observed(written.group_info(ALICE, tree=opaque(nodes))).epoch == written.epoch
    assert refusal(written.group_info(ALICE, tree=opaque(nodes + b"\0"))) == Rule.TREE


def test_a_tree_with_more_leaves_than_are_kept_is_not_looked_at(written):
    leaf = b"\1\1" + ZOE.leaf(source=KEY_PACKAGE)
    blanks = b"\0" * (2 * MAX_LEAVES - 2)
    assert refusal(written.group_info(ALICE, tree=opaque(blanks + b"\0\0" + leaf))) == Rule.SIZE
    own = WrittenGroup.create(GROUP_ID, ALICE)
    tree = RatchetTree([own.tree.leaf(0), *[None] * (2 * MAX_LEAVES - 3), as_leaf(leaf[2:])])
    own.context = replace(own.context, tree_hash=tree.hash())
    group = observed(own.group_info(ALICE, tree=tree.encode()))
    assert sorted(group.members) == [0, MAX_LEAVES - 1]


def test_a_group_does_not_grow_beyond_what_is_kept():
    written = WrittenGroup.create(GROUP_ID, ALICE)
    tree = RatchetTree([written.tree.leaf(0)] * (2 * MAX_LEAVES - 1))
    with pytest.raises(InvalidMls) as refused:
        tree.add(written.tree.leaf(0))
    assert refused.value.rule == Rule.SIZE
