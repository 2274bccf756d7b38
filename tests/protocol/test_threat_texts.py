"""Texts that are made to be taken for others, and members that are made to be more than data (threats 51 and 52)."""

import pytest

from linmatrix.protocol import canonical_json
from linmatrix.protocol.identifiers import is_room_id, is_server_name, is_user_id
from linmatrix.protocol.state import StateEvent


@pytest.mark.parametrize(
    ("first", "second"),
    [("é", "e\u0301"), ("Å", "\u212b"), ("a", "а"), ("abc", "\u202ecba"), ("a", "A"), ("a", "a\u200b")],  # noqa: RUF001
    ids=["composed", "another sign", "another script", "another direction", "another case", "unseen"],
)
def test_texts_that_look_alike_are_different_state(first, second):
    state = {("x", text): StateEvent(f"${index}", "x", text, "@a:b", {}) for index, text in enumerate((first, second))}
    assert len(state) == 2
    body = canonical_json.dumps({first: 1, second: 2})
    assert canonical_json.loads(body) == {first: 1, second: 2}


@pytest.mark.parametrize("name", ["еxample.org", "exämple.org", "example。org", "example.org\u200b", "ｅxample.org"])  # noqa: RUF001
def test_names_are_ascii(name):
    assert not is_server_name(name)
    assert not is_user_id(f"@alice:{name}")
    assert not is_room_id(f"!room:{name}")


@pytest.mark.parametrize("member", ["__proto__", "__class__", "constructor", "__init__", "self", "keys", ""])
def test_a_member_is_data_whatever_it_is_called(member):
    body = b'{"%s":{"polluted":true}}' % member.encode()
    value = canonical_json.loads(body)
    assert type(value) is dict
    assert value == {member: {"polluted": True}}
    assert canonical_json.dumps(value) == body


def test_a_hundred_thousand_members_are_read_as_they_are():
    value = {f"m{number}": number for number in range(100_000)}
    assert canonical_json.loads(canonical_json.dumps(value)) == value
