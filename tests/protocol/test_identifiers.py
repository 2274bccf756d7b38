"""The grammars of identifiers: what is one, and what only looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linmatrix.protocol import identifiers
from linmatrix.protocol.errors import Malformed

SERVER_NAMES = ["example.org", "a", "A-b.C", "localhost:1", "x.example.org:65535", "1.example", "hub.localhost:8448"]
NOT_SERVER_NAMES = [
    "",
    ":8448",
    "example.org:",
    "example.org:0",
    "example.org:65536",
    "example.org:08448x",
    "example.org:8448:1",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "a.0x",
    "[::1]",
    "::1",
    "exa_mple.org",
    "example..org",
    ".example.org",
    "example.org.",
    "-example.org",
    "example-.org",
    "exämple.org",
    "example.org\n",
    "a" * 64 + ".org",
    "a." * 127 + "a",
    "example.org:٣",
]


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_a_server_name(name):
    assert identifiers.is_server_name(name)
    host, _, port = name.partition(":")
    assert identifiers.parse_server_name(name) == identifiers.ServerName(host, int(port) if port else None)


@pytest.mark.parametrize("name", [*NOT_SERVER_NAMES, None, 1, ["example.org"]])
def test_not_a_server_name(name):
    assert not identifiers.is_server_name(name)
    if isinstance(name, str):
        with pytest.raises(Malformed):
            identifiers.parse_server_name(name)


@pytest.mark.parametrize("localpart", ["a", "0", "a-b.c=d_e/f+g", "x" * 242])
def test_a_user_id(localpart):
    assert identifiers.is_user_id(f"@{localpart}:example.org")


@pytest.mark.parametrize(
    "value",
    [
        "@:example.org",
        "@A:example.org",
        "@a b:example.org",
        "@é:example.org",
        "a:example.org",
        "!a:example.org",
        "@a",
        "@a:",
        "@a:127.0.0.1",
        "@a:example.org\n",
        "@a\0:example.org",
        "@" + "x" * 243 + ":example.org",
        None,
        {},
    ],
)
def test_not_a_user_id(value):
    assert not identifiers.is_user_id(value)


@pytest.mark.parametrize("localpart", ["a", "A-b.c~d_9"])
def test_a_room_id(localpart):
    assert identifiers.is_room_id(f"!{localpart}:example.org:8448")


@pytest.mark.parametrize("value", ["!:example.org", "!a/b:example.org", "!a", "@a:example.org", "!a:b:c:d", "", 0])
def test_not_a_room_id(value):
    assert not identifiers.is_room_id(value)


def test_the_domain_of_an_id_has_its_port():
    assert identifiers.domain_of("@a:example.org:8448") == "example.org:8448"


@pytest.mark.parametrize(
    ("value", "valid"), [("$aZ_-9", True), ("$", False), ("a", False), ("$a+", False), ("$a\n", False)]
)
def test_event_ids(value, valid):
    assert identifiers.is_event_id(value) is valid


@pytest.mark.parametrize(
    ("value", "valid"),
    [("ed25519:1", True), ("ed25519:a_B9", True), ("ed25519:", False), ("ed25519:a-b", False), ("rsa:1", False)],
)
def test_key_ids(value, valid):
    assert identifiers.is_key_id(value) is valid


@pytest.mark.parametrize(
    ("value", "valid"), [("I.1", True), ("1", True), ("", False), ("a b", False), ("x" * 129, False)]
)
def test_room_versions(value, valid):
    assert identifiers.is_room_version(value) is valid


@given(st.text(max_size=300))
def test_no_text_makes_a_check_fail_in_another_way(text):
    for check in (identifiers.is_server_name, identifiers.is_user_id, identifiers.is_room_id, identifiers.is_event_id):
        assert check(text) in (True, False)
