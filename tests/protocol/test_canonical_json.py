"""Strict reading and canonical writing: one value, one text, whatever encoder makes it."""

import json

import canonicaljson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from linmatrix.protocol import canonical_json
from linmatrix.protocol.canonical_json import JsonFloat
from linmatrix.protocol.errors import Malformed, NotJson

SAFE = 2**53 - 1
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | texts


def trees(names, leaves):
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=20
    )


@given(trees(st.text(alphabet=st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=8), scalars))
def test_without_fractions_and_astral_names_three_encoders_agree(value):
    encoded = canonical_json.dumps(value)
    assert encoded == canonicaljson.encode_canonical_json(value)
    assert encoded == rfc8785.dumps(value)


fractions = st.floats(allow_nan=False, allow_infinity=False).map(float).filter(lambda x: not x.is_integer())


@given(trees(texts, scalars | fractions.map(JsonFloat)))
def test_with_them_the_rfc_8785_encoder_is_followed(value):
    assert canonical_json.dumps(value) == rfc8785.dumps(value)


@given(trees(texts, scalars | fractions.map(JsonFloat)))
def test_what_was_written_reads_as_it_was(value):
    encoded = canonical_json.dumps(value)
    assert canonical_json.loads(encoded) == value
    assert canonical_json.dumps(canonical_json.loads(encoded)) == encoded


@pytest.mark.parametrize(
    ("literal", "canonical"),
    [
        ("1.0", "1"),
        ("1e3", "1000"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1E-7", "1e-7"),
        ("0.00001", "0.00001"),
        ("1.50", "1.5"),
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991.0", "-9007199254740991"),
        ('"\\u00e9\\u000a\\u001f\\/"', '"é\\n\\u001f/"'),
        ('"\\ud83d\\ude00"', '"😀"'),
        ('{"\\ud83d\\ude00":1,"\\uff21":2}', '{"😀":1,"\uff21":2}'),
        (' { "b" : [ ] , "a" : null } ', '{"a":null,"b":[]}'),
    ],
)
def test_other_writings_of_a_value_become_the_canonical_one(literal, canonical):
    assert canonical_json.dumps(canonical_json.loads(literal.encode())).decode() == canonical


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", NotJson),
        (b"{", NotJson),
        (b"{} {}", NotJson),
        (b"{'a':1}", NotJson),
        (b"[01]", NotJson),
        (b'"\x01"', NotJson),
        (b"\xff", NotJson),
        (b'"\xed\xa0\x80"', NotJson),
        (b"\xef\xbb\xbf1", NotJson),
        (b"NaN", Malformed),
        (b"[Infinity]", Malformed),
        (b"1e309", Malformed),
        (b"9007199254740992", Malformed),
        (b"-9007199254740992", Malformed),
        (b"1e20", Malformed),
        (b"1" * 5000, Malformed),
        (b'{"a":1,"a":1}', Malformed),
        (b'{"a":1,"\\u0061":1}', Malformed),
        (b'"\\ud800"', Malformed),
        (b'{"\\udc00":0}', Malformed),
        (b'"\\ude00\\ud83d"', Malformed),
        (b"[" * 100_000, Malformed),
        (b'{"a":' * 201 + b"1" + b"}" * 201, Malformed),
    ],
)
def test_what_peers_would_read_differently_is_refused(body, error):
    with pytest.raises(error):
        canonical_json.loads(body)


def test_two_hundred_levels_are_read_and_no_more():
    assert canonical_json.loads(b"[" * 200 + b"]" * 200)
    with pytest.raises(Malformed, match="nested"):
        canonical_json.loads(b"[" * 201 + b"]" * 201)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(body):
    try:
        value = canonical_json.loads(body)
    except (NotJson, Malformed):
        return
    assert canonical_json.loads(canonical_json.dumps(value)) == value


@given(trees(texts, scalars))
def test_nesting_counts_containers(value):
    def depth(item):
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if children is None else 1 + max(map(depth, children), default=0)

    assert canonical_json.nesting(value, 1000) == depth(value)
    assert json.loads(canonical_json.dumps(value)) == value
