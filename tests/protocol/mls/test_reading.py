"""What is read as a message at all, and in one writing only. Refusals are beside what is accepted instead."""

import pytest
from nacl.bindings import crypto_scalarmult

from linmatrix.protocol.mls import (
    MAX_GROUP_INFO_BYTES,
    MAX_MESSAGE_BYTES,
    InvalidMls,
    Rule,
    read_commit,
    read_group_info,
    read_key_package,
)
from linmatrix.protocol.mls.ciphersuite import read_encryption_key
from linmatrix.protocol.mls.commits import read_path
from linmatrix.protocol.mls.leaves import MAX_LEAF_BYTES, read_leaf
from linmatrix.protocol.mls.tls import Reader, opaque, u16, u64
from linmatrix.protocol.mls.tree_reading import read_tree
from tests.protocol.mls.devices import ALICE, BOB
from tests.support.mls_writer import (
    KEY_PACKAGE,
    KEY_PACKAGE_MESSAGE,
    LAST_RESORT,
    capabilities,
    extension,
    wrapped,
)

PUBLIC_MESSAGE, PRIVATE_MESSAGE, WELCOME = 1, 2, 3


def refused(read, data, **named):
    with pytest.raises(InvalidMls) as refusal:
        read(data, **named)
    return refusal.value.rule


@pytest.fixture
def commit(written):
    return written.commit(BOB).message[4:]


@pytest.fixture
def info(written):
    return written.group_info(ALICE)[4:]


PACKAGE = ALICE.key_package()


def test_messages_may_be_wrapped_or_bare(commit, info):
    assert read_commit(wrapped(1, commit)) == read_commit(commit)
    assert read_group_info(wrapped(4, info)) == read_group_info(info)
    assert read_key_package(wrapped(5, PACKAGE)) == read_key_package(PACKAGE)


def test_a_wrapped_message_is_of_the_kind_that_belongs_there(commit, info):
    for read, message, own in ((read_commit, commit, 1), (read_group_info, info, 4), (read_key_package, PACKAGE, 5)):
        for wire_format in {0, 1, 2, 3, 4, 5, 6, 0xFFFF} - {own}:
            # A public message begins as a bare GroupInfo or key package does, and is refused as one.
            expected = {Rule.ENCODING, Rule.KEY} if wire_format == 1 else {Rule.WIRE_FORMAT}
            assert refused(read, wrapped(wire_format, message)) in expected
        assert refused(read, u16(2) + u16(own) + message) == Rule.VERSION


def test_nothing_may_follow_and_nothing_may_be_missing(commit, info):
    for read, message, own in ((read_commit, commit, 1), (read_group_info, info, 4), (read_key_package, PACKAGE, 5)):
        assert refused(read, message + b"\0") == Rule.ENCODING
        for length in range(len(message)):
            with pytest.raises(InvalidMls):
                read(message[:length])
            with pytest.raises(InvalidMls):
                read(wrapped(own, message)[:length])


@pytest.mark.parametrize("read", [read_commit, read_group_info, read_key_package])
def test_empty_input_is_refused(read):
    assert refused(read, b"") == Rule.ENCODING


def test_another_ciphersuite_is_refused(info):
    assert refused(read_group_info, wrapped(4, u16(1) + u16(2) + info[4:])) == Rule.CIPHERSUITE
    assert refused(read_key_package, wrapped(5, u16(1) + u16(2) + PACKAGE[4:])) == Rule.CIPHERSUITE
    assert refused(read_key_package, ALICE.key_package(suite=u16(3))) == Rule.WIRE_FORMAT


def test_only_commits_are_read(commit):
    content = commit[: len(opaque(b"!room:hub.example.org")) + 8 + 5 + 1]
    assert commit.startswith(content + b"\3")
    assert refused(read_commit, content + b"\1" + opaque(b"said")) == Rule.CONTENT
    assert refused(read_commit, content + b"\2" + b"\0\3\0\0\0\0") == Rule.CONTENT


def framed(sender=b"\1\0\0\0\0", proposals=b"", path=b"\0"):
    """A PublicMessage up to its signature."""
    return opaque(b"g") + u64(0) + sender + opaque(b"") + b"\3" + opaque(proposals) + path


@pytest.mark.parametrize(
    ("odd", "rule"),
    [
        ({"sender": b"\0\0\0\0\0"}, Rule.ENCODING),
        ({"sender": b"\5\0\0\0\0"}, Rule.ENCODING),
        ({"proposals": b"\0\0\3\0\0\0\1"}, Rule.ENCODING),
        ({"proposals": b"\3\0\3\0\0\0\1"}, Rule.ENCODING),
        ({"proposals": b"\1\0\3\0\0\0"}, Rule.ENCODING),
        ({"path": b"\2"}, Rule.ENCODING),
    ],
)
def test_choices_that_there_are_not_are_refused(odd, rule):
    rest = opaque(bytes(64)) + opaque(bytes(32)) + opaque(bytes(32))
    assert read_commit(framed(proposals=b"\1\0\3\0\0\0\1") + rest).epoch == 0
    assert refused(read_commit, framed(**odd) + rest) == rule


def test_tags_have_the_length_of_a_mac():
    head, tag = framed() + opaque(bytes(64)), opaque(bytes(32))
    assert read_commit(head + tag + tag).confirmation_tag == bytes(32)
    for odd in (opaque(bytes(31)), opaque(bytes(33)), opaque(b"")):
        assert refused(read_commit, head + odd + tag) == Rule.KEY
        assert refused(read_commit, head + tag + odd) == Rule.KEY
    # Who joins has no membership tag, and a member has one.
    joiner = framed(sender=b"\4") + opaque(bytes(64))
    assert read_commit(joiner + tag).sender is None
    assert refused(read_commit, joiner + tag + tag) == Rule.ENCODING
    assert refused(read_commit, head + tag) == Rule.ENCODING


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x00", b""),
        (b"\x01a", b"a"),
        (b"\x3f" + bytes(63), bytes(63)),
        (b"\x40\x40" + bytes(64), bytes(64)),
        (b"\x80\x00\x40\x00" + bytes(2**14), bytes(2**14)),
        (b"\x40\x00", None),
        (b"\x40\x01a", None),
        (b"\x40\x3f" + bytes(63), None),
        (b"\x80\x00\x00\x01a", None),
        (b"\x80\x00\x3f\xff" + bytes(2**14 - 1), None),
        (b"\xc0\x00\x00\x00\x00\x00\x00\x01a", None),
        (b"\xc0", None),
        (b"\x40", None),
        (b"\x80\x00\x40", None),
        (b"\x02a", None),
        (b"", None),
    ],
)
def test_a_length_has_one_writing(data, expected):
    if expected is None:
        assert refused(lambda read: Reader(read).opaque(), data) == Rule.ENCODING
        assert refused(lambda read: Reader(read).vector(), data) == Rule.ENCODING
    else:
        assert Reader(data).opaque() == expected
        assert opaque(expected) == data


def test_a_vector_s_elements_end_where_it_ends():
    reader = Reader(b"\x02\x00\x01\x00\x02")
    assert refused(lambda inner: inner.u32(), reader.vector()) == Rule.ENCODING
    assert reader.u16() == 2
    assert refused(lambda data: Reader(data).u16s(), b"\x03\x00\x01\x00") == Rule.ENCODING
    assert refused(lambda data: Reader(data).u32s(), b"\x03\x00\x01\x00") == Rule.ENCODING


def test_messages_of_more_than_an_event_are_not_read(written):
    larger = MAX_MESSAGE_BYTES + 1
    assert MAX_MESSAGE_BYTES == 65_536
    for read in (read_commit, read_group_info, read_key_package):
        assert refused(read, bytes(larger)) == Rule.SIZE
        assert refused(read, bytes(larger - 1)) != Rule.SIZE
    padding = extension(0xF001, bytes(MAX_MESSAGE_BYTES))
    info = written.group_info(ALICE, extensions=padding)
    assert refused(read_group_info, info) == Rule.SIZE
    assert read_group_info(info, max_bytes=MAX_GROUP_INFO_BYTES).epoch == written.epoch


def test_a_leaf_of_more_than_is_kept_is_not_read():
    """Of a key package, of a commit's path and of a tree alike."""

    def leaf(more):
        padding = extension(0xF001, bytes(MAX_LEAF_BYTES // 2 + more))
        return BOB.leaf(source=KEY_PACKAGE, can=capabilities(extensions=[0xF001]), extensions=padding)

    room = MAX_LEAF_BYTES - len(leaf(0))
    largest, larger = leaf(room), leaf(room + 1)
    assert (len(largest), len(larger)) == (MAX_LEAF_BYTES, MAX_LEAF_BYTES + 1)
    assert read_leaf(Reader(largest)).encoded == largest
    assert refused(lambda data: read_leaf(Reader(data)), larger) == Rule.SIZE
    assert read_key_package(BOB.key_package(leaf=largest)).leaf.encoded == largest
    assert refused(read_key_package, BOB.key_package(leaf=larger)) == Rule.SIZE
    assert refused(read_tree, opaque(b"\1\1" + larger)) == Rule.SIZE
    assert refused(lambda data: read_path(Reader(data)), larger + opaque(b"")) == Rule.SIZE


def test_a_key_package_says_what_its_device_s_server_needs():
    package = read_key_package(
        ALICE.key_package(lifetime=(7, 9), extensions=LAST_RESORT, can=capabilities(extensions=[10]))
    )
    assert package.device == (ALICE.user_id, ALICE.device_id)
    assert (package.signature_key, package.ciphersuite) == (ALICE.public_key, 1)
    assert (package.not_before, package.not_after, package.last_resort) == (7, 9, True)
    assert not read_key_package(PACKAGE).last_resort
    assert len(package.reference) == 32
    assert read_key_package(PACKAGE).reference == read_key_package(wrapped(KEY_PACKAGE_MESSAGE, PACKAGE)).reference


def test_points_that_nobody_can_seal_to_are_those_that_the_library_refuses():
    points = [
        bytes(32),
        bytes([1]) + bytes(31),
        *(bytes([last]) + b"\xff" * 30 + b"\x7f" for last in (0xEC, 0xED, 0xEE)),
    ]
    points += [point[:-1] + bytes([point[-1] | 0x80]) for point in points]
    for point in points:
        with pytest.raises(RuntimeError):
            crypto_scalarmult(bytes(32), point)
        assert refused(lambda data: read_encryption_key(Reader(data), "a key"), opaque(point)) == Rule.KEY
    for near in (bytes([2]) + bytes(31), bytes([0xEB]) + b"\xff" * 30 + b"\x7f"):
        assert crypto_scalarmult(bytes(32), near)
        assert read_encryption_key(Reader(opaque(near)), "a key") == near
