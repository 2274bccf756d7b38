"""The clients among themselves, with no server between them: what they cannot do alone is no server's fault."""

import json
from importlib import import_module

import pytest

from tests.clients.mls import Refused
from tests.clients.ts_mls.program import HERE

pytest.importorskip("mls_rs_uniffi", reason="there is no wheel of mls-rs for this machine")
mls_rs = import_module("tests.clients.mls_rs")


def test_clients_of_two_libraries_are_in_one_group_and_read_each_other(node):
    alice, bob = mls_rs.Client("@alice:a.example", "A"), node.new("@bob:b.example", "B")
    carol = node.new("@carol:c.example", "C")
    alice.create(b"!room:a.example")
    made = alice.commit(add=[bob.key_package()])
    alice.accept()
    bob.join(made.welcome)
    made = bob.commit()
    bob.accept()
    alice.process(made.commit)
    made = carol.join_external(made.group_info)
    carol.accept()
    for client in (alice, bob):
        client.process(made.commit)
    assert alice.members() == bob.members() == carol.members() == {0: alice.device, 1: bob.device, 2: carol.device}
    sealed = carol.encrypt(b"hello")
    assert alice.decrypt(sealed) == bob.decrypt(sealed) == b"hello"


@pytest.mark.parametrize("library", ["ts-mls", "mls-rs"])
def test_a_commit_that_was_discarded_leaves_its_maker_where_it_was(library, node):
    alice = mls_rs.Client("@alice:a.example", "A") if library == "mls-rs" else node.new("@alice:a.example", "A")
    bob = node.new("@bob:b.example", "B")
    alice.create(b"!room:a.example")
    made = alice.commit(add=[bob.key_package()])
    alice.accept()
    bob.join(made.welcome)
    alice.commit(remove=[bob.device])
    alice.discard()
    assert bob.decrypt(alice.encrypt(b"still with you")) == b"still with you"
    made = bob.commit()
    bob.accept()
    alice.process(made.commit)
    assert alice.epoch() == bob.epoch() == 2


def test_who_was_removed_reads_no_more(node):
    alice, bob = node.new("@alice:a.example", "A"), node.new("@bob:b.example", "B")
    alice.create(b"!room:a.example")
    made = alice.commit(add=[bob.key_package()])
    alice.accept()
    bob.join(made.welcome)
    alice.commit(remove=[bob.device])
    alice.accept()
    with pytest.raises(Refused):
        bob.decrypt(alice.encrypt(b"without you"))


def test_the_lock_of_the_node_program_pins_contents_and_names_no_registry():
    lock = json.loads((HERE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package
