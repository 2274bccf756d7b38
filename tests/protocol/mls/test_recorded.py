"""Groups recorded from real clients are followed commit by commit: who comes in, who goes out, who is in.

tests/vectors/mls/README.md says how they were recorded.
"""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from linmatrix.protocol.mls import DeviceName, Group, first_group, read_commit, read_group_info, read_key_package

FOLDER = Path(__file__).parent.parent.parent / "vectors" / "mls"
FILES = ("mls-rs", "ts-mls", "both")


def recorded(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def names(devices):
    return sorted(DeviceName(*device) for device in devices)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("wrapping", [0, 4], ids=["within an MLSMessage", "bare"])
def test_a_recorded_group_is_followed_to_its_end(name, wrapping):
    story, group = recorded(name), None
    steps = [
        (step, *(b64decode(step[part])[wrapping:] for part in ("commit", "group_info"))) for step in story["steps"]
    ]
    for step, message, group_info in steps:
        commit, info = read_commit(message), read_group_info(group_info)
        assert (commit.epoch, commit.sender is None) == (step["epoch"], step["external"])
        if group is None:
            group = first_group(info, group_id=story["group_id"].encode())
        else:
            change = group.apply(commit, info)
            assert change.committer == DeviceName(*step["committer"])
            assert change.external is step["external"]
            assert (sorted(change.added), sorted(change.removed)) == (names(step["added"]), names(step["removed"]))
            group = Group.from_bytes(change.group.to_bytes())
            assert (group.digest, group.members) == (change.group.digest, change.group.members)
        assert group.epoch == step["epoch"] + 1
        assert group.members == {int(index): DeviceName(*device) for index, device in step["members"].items()}
    assert len(steps) >= 13
    assert any(step["external"] for step, *_ in steps) or name == "mls-rs"


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_group_info_with_its_tree_is_valid_by_itself_and_gives_the_same_group(name):
    story, group, whole = recorded(name), None, 0
    group_id = story["group_id"].encode()
    for step in story["steps"]:
        commit, info = read_commit(b64decode(step["commit"])), read_group_info(b64decode(step["group_info"]))
        group = group.apply(commit, info).group if group else first_group(info, group_id=group_id)
        if info.ratchet_tree is not None:
            assert first_group(info, group_id=group_id).digest == group.digest
            whole += 1
    assert whole >= len(story["steps"]) - 1


@pytest.mark.parametrize("name", FILES)
def test_recorded_key_packages_are_read(name):
    packages = recorded(name)["key_packages"]
    for entry in packages:
        data = b64decode(entry["key_package"])
        package = read_key_package(data)
        assert package == read_key_package(data[4:])
        assert package.device == DeviceName(*entry["device"])
        assert package.not_before < package.not_after
        assert package.last_resort is entry.get("last_resort", False)
    assert packages
