"""What commits do to a group: who comes in and goes out, and that an observer stays with the members."""

import random
from dataclasses import replace

import pytest

from linmatrix.protocol.mls import DeviceName, Group, InvalidMls, Rule, first_group, read_commit, read_group_info
from linmatrix.protocol.mls.tree_math import direct_path
from tests.protocol.mls.devices import ALICE, BOB, BOB_AGAIN, CAROL, DAVE, ERIN, GROUP_ID, ZOE
from tests.support.mls_writer import (
    KEY_PACKAGE,
    MlsDevice,
    Odd,
    WrittenGroup,
    as_leaf,
    capabilities,
    extension,
    required_capabilities,
)


def name(device):
    return DeviceName(device.user_id, device.device_id)


def observed(written, device):
    """The group as it is now, from a GroupInfo of the device's."""
    return first_group(read_group_info(written.group_info(device)), group_id=written.group_id)


def test_a_group_of_one_is_a_group():
    group = observed(WrittenGroup.create(GROUP_ID, ALICE), ALICE)
    assert (group.epoch, dict(group.members)) == (0, {0: name(ALICE)})


def test_devices_are_added_at_the_first_free_leaves(written, apply):
    written.commit(BOB, removes=[CAROL])
    group = observed(written, BOB)
    commit = written.commit(DAVE, adds=[ZOE, CAROL])
    change = group.apply(read_commit(commit.message), read_group_info(commit.group_info))
    assert change[:5] == (name(DAVE), False, (name(ZOE), name(CAROL)), (), ())
    assert change.group.members[2] == name(ZOE)
    assert change.group.members[5] == name(CAROL)


def test_the_tree_doubles_when_it_is_full_and_halves_when_its_right_half_is_empty(written, apply, group):
    others = [MlsDevice(f"@u{number}:x.example.org", "D") for number in range(4)]
    assert group.tree.width == 8
    commit = written.commit(ALICE, adds=others)
    wide = apply(commit).group
    assert wide.tree.width == 16
    commit = written.commit(ALICE, removes=[ERIN, *others])
    narrow = wide.apply(read_commit(commit.message), read_group_info(commit.group_info))
    assert narrow.group.tree.width == 4
    assert narrow.removed == (name(ERIN), *map(name, others))


def test_new_keys_change_nobody(written, apply, group):
    change = apply(written.commit(CAROL))
    assert change[:5] == (name(CAROL), False, (), (), (name(CAROL),))
    assert change.group.members == group.members


def test_a_device_may_take_a_new_signature_key(written, apply):
    odd = Odd(leaf_of=BOB_AGAIN, info={"signed_by": BOB_AGAIN.key})
    change = apply(written.commit(BOB, odd=odd))
    assert change.updated == (name(BOB),)
    leaf = change.group.tree.leaf(1)
    assert leaf.signature_key == BOB_AGAIN.public_key


def test_who_joins_by_itself_is_added_and_its_old_leaf_removed(written, apply):
    assert apply(written.copy().external(ZOE))[:5] == (name(ZOE), True, (name(ZOE),), (), ())
    change = apply(written.external(BOB_AGAIN, removes=[BOB]))
    assert change[:5] == (name(BOB), True, (name(BOB),), (name(BOB),), ())
    assert change.group.members[1] == name(BOB)


def test_a_commit_may_replace_a_device_and_may_do_all_at_once(written, apply):
    change = apply(written.commit(CAROL, adds=[BOB_AGAIN, ZOE], removes=[BOB, ERIN]))
    assert change[:5] == (
        name(CAROL),
        False,
        (name(BOB), name(ZOE)),
        (name(BOB), name(ERIN)),
        (name(CAROL),),
    )


def test_a_group_does_not_change_when_a_commit_is_applied(written, apply, group):
    stored, digest = group.to_bytes(), group.digest
    following = apply(written.commit(BOB, adds=[ZOE], removes=[DAVE])).group
    assert (group.to_bytes(), group.digest, group.epoch) == (stored, digest, 6)
    assert following.digest != digest


def test_a_digest_names_the_state_with_its_history(written, apply):
    one, same = written.copy(), written.copy()
    commit = one.commit(BOB, adds=[ZOE])
    assert apply(commit).group.digest == apply(commit).group.digest
    # The same devices in the same epoch, by other commits.
    assert apply(same.commit(BOB, adds=[ZOE])).group.digest != apply(commit).group.digest


def test_a_digest_names_the_confirmation_too(written, apply):
    """Two commits that differ in nothing but their tag lead to one GroupContext and go on differently."""
    packages = {ZOE: ZOE.key_package()}
    one, other = (
        apply(written.copy().commit(BOB, adds=[ZOE], packages=packages, odd=Odd(tag=tag))).group
        for tag in (bytes(32), bytes([1]) * 32)
    )
    assert one.context == other.context
    assert one.digest != other.digest


def test_a_commit_to_another_history_is_refused_though_epoch_and_members_are_the_same(written, apply):
    one, other = written.copy(), written.copy()
    group, _ = apply(one.commit(BOB)).group, apply(other.commit(BOB)).group
    commit = other.commit(CAROL)
    with pytest.raises(InvalidMls) as refusal:
        group.apply(read_commit(commit.message), read_group_info(commit.group_info))
    assert refusal.value.rule == Rule.SIGNATURE


REQUIRED = required_capabilities(extensions=[0xF001], proposals=[0xF002])


@pytest.mark.parametrize(
    ("can", "accepted"),
    [
        (capabilities(extensions=[0xF001], proposals=[0xF002]), True),
        (capabilities(extensions=[0xF001]), False),
        (capabilities(proposals=[0xF002]), False),
    ],
)
def test_what_a_group_requires_every_new_leaf_must_support(can, accepted):
    able = capabilities(extensions=[0xF001], proposals=[0xF002])
    written = WrittenGroup.create(GROUP_ID, ALICE, extensions=REQUIRED, can=able)
    group = observed(written, ALICE)
    commits = [
        written.copy().commit(ALICE, adds=[BOB], packages={BOB: BOB.key_package(can=can)}),
        written.copy().commit(ALICE, odd=Odd(leaf={"can": can})),
        written.copy().external(BOB, odd=Odd(leaf={"can": can})),
    ]
    for commit in commits:
        message, info = read_commit(commit.message), read_group_info(commit.group_info)
        if accepted:
            assert group.apply(message, info).group.epoch == 1
            continue
        with pytest.raises(InvalidMls) as refusal:
            group.apply(message, info)
        assert refusal.value.rule == Rule.CAPABILITIES


def test_a_group_s_own_extensions_must_be_supported_by_all():
    written = WrittenGroup.create(GROUP_ID, ALICE, extensions=extension(0xF001), can=capabilities(extensions=[0xF001]))
    assert observed(written, ALICE).epoch == 0
    unable = WrittenGroup.create(GROUP_ID, ALICE, extensions=extension(0xF001))
    with pytest.raises(InvalidMls) as refusal:
        observed(unable, ALICE)
    assert refusal.value.rule == Rule.CAPABILITIES


@pytest.mark.parametrize("seed", range(12))
def test_random_histories_lead_an_observer_to_what_a_newcomer_checks_as_a_whole(seed):
    """Every GroupInfo is also checked by itself: its parent hashes, which commits only compute, must then hold."""
    draw = random.Random(seed)
    strangers = [MlsDevice(f"@u{number}:x.example.org", "D") for number in range(40)]
    written = WrittenGroup.of(GROUP_ID, *strangers[: draw.randint(2, 9)])
    group = observed(written, strangers[0])
    for _ in range(15):
        inside = list(written.devices.values())
        outside = [device for device in strangers if device not in inside]
        by = draw.choice(inside)
        others = [device for device in inside if device != by]
        kind = draw.randrange(6)
        if kind == 0:
            commit = written.external(draw.choice(outside))
        elif kind == 1:
            commit = written.external(by, removes=[by])
        else:
            commit = written.commit(
                by,
                adds=draw.sample(outside, draw.randint(0, 3)),
                removes=draw.sample(others, draw.randint(0, min(2, len(others)))),
                path=draw.choice([True, True, None]),
            )
        group = group.apply(read_commit(commit.message), read_group_info(commit.group_info)).group
        alone = first_group(read_group_info(commit.group_info), group_id=GROUP_ID)
        again = Group.from_bytes(group.to_bytes())
        assert alone.digest == group.digest == again.digest
        assert alone.members == group.members == again.members
        assert alone.to_bytes() == group.to_bytes() == again.to_bytes()


def test_a_commit_into_a_thousand_devices_is_hashed_in_a_few_steps():
    members = [MlsDevice(f"@u{number}:x.example.org", "D") for number in range(1000)]
    written = WrittenGroup.create(GROUP_ID, ALICE)
    for device in members:
        written.devices[written.tree.add(as_leaf(device.leaf(source=KEY_PACKAGE)))] = device
    written.context = replace(written.context, epoch=1, tree_hash=written.tree.hash())
    info = written.group_info(ALICE)
    group = first_group(read_group_info(info, max_bytes=10**6), group_id=GROUP_ID)
    tree = group.tree.copy()
    tree.remove(500)
    unknown = [place for place in range(2 * tree.width - 1) if not tree.knows_hash(place)]
    assert sorted(unknown) == sorted([1000, *direct_path(500, tree.width)])
    assert group.tree.knows_hash(1000)


def test_a_group_stored_in_another_form_is_not_read_as_this_one(group):
    assert Group.from_bytes(group.to_bytes()).digest == group.digest
    with pytest.raises(ValueError, match="another form"):
        Group.from_bytes(b"\2" + group.to_bytes()[1:])


def test_an_added_device_s_secret_is_sealed_in_the_welcome_and_not_in_the_path(written, apply):
    assert apply(written.copy().commit(BOB, adds=[ZOE], path=True)).updated == (name(BOB),)
    with_one_more = Odd(path=lambda nodes: [*nodes[:-1], nodes[-1]._replace(secrets=nodes[-1].secrets + 1)])
    with pytest.raises(InvalidMls) as refusal:
        apply(written.commit(BOB, adds=[ZOE], path=True, odd=with_one_more))
    assert refusal.value.rule == Rule.PATH
