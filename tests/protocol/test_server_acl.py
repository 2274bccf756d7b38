"""Which servers an `m.room.server_acl` lets in (decision 109)."""

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linmatrix.protocol.server_acl import MAX_ENTRIES, Glob, ServerAcl, entries

EVIL = "evil.example.org"


@pytest.mark.parametrize(
    ("glob", "fitting", "other"),
    [
        ("evil.example.org", EVIL, "evil.example.com"),
        ("evil.example.org", EVIL, "xevil.example.org"),
        ("evil.example.org", EVIL, "evil.example.org.x"),
        ("evil?example.org", EVIL, "evilexample.org"),
        ("*.example.org", EVIL, "example.org"),
        ("*example.org", "example.org", "example.orgs"),
        ("evil.*", EVIL, "evil"),
        ("*evil*", EVIL, "good.example.org"),
        ("e*l.ex*e.org", EVIL, "el.exp.org"),
        ("*a*a*", "aa.org", "a.org"),
        ("*aba", "ababa", "abab"),
        ("ab*ba", "abba", "aba"),
        ("*.?x*", "a.bx", "a.x"),
        ("????", "abcd", "abc"),
        ("[a-z]*", "[a-z]b", "abc"),
        ("a.c", "a.c", "abc"),
        ("", "", "a"),
        ("EVIL.Example.ORG", EVIL, "good.example.org"),
        ("**", "anything", None),
        ("*", "", None),
    ],
)
def test_a_glob_fits_the_whole_name_and_knows_nothing_but_star_and_question_mark(glob, fitting, other):
    assert Glob.parse(glob).matches(fitting)
    assert other is None or not Glob.parse(glob).matches(other)


@given(st.text("ab.*?", max_size=8), st.text("ab.", max_size=10))
def test_globs_mean_what_pythons_own_mean(glob, host):
    expected = re.fullmatch(fnmatch.translate(glob), host) is not None
    assert Glob.parse(glob).matches(host) is expected


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        ({"allow": ["*"]}, True),
        ({"allow": ["*"], "deny": ["other.example.org"]}, True),
        ({"allow": ["*"], "deny": ["evil.example.org"]}, False),
        ({"allow": ["evil.example.org"], "deny": ["*.example.org"]}, False),
        ({"allow": ["other.example.org"]}, False),
        ({"allow": []}, False),
        ({"deny": []}, False),
        ({}, False),
        ({"allow": "*"}, False),
        ({"allow": {"*": True}}, False),
        ({"allow": [None, 7, ["*"], {}, "*"]}, True),
        ({"allow": ["*"], "deny": "evil.example.org"}, True),
        ({"allow": ["*"], "deny": [None, {}]}, True),
        ({"allow": ["*"], "deny": ["EVIL.example.ORG"]}, False),
        ({"allow": ["*"], "allow_ip_literals": False}, True),
    ],
)
def test_deny_comes_before_allow_and_who_is_in_neither_list_stays_outside(content, allowed):
    assert ServerAcl.parse(content).allows(EVIL) is allowed


@pytest.mark.parametrize("name", ["evil.example.org:8448", "EVIL.example.org", "Evil.Example.Org:1"])
def test_the_port_and_the_case_of_a_name_do_not_matter(name):
    assert not ServerAcl.parse({"allow": ["*"], "deny": ["evil.example.org"]}).allows(name)
    assert ServerAcl.parse({"allow": ["evil.example.org"]}).allows(name)
    assert not ServerAcl.parse({"allow": ["evil.example.org:8448"]}).allows(name)


def test_entries_of_both_lists_are_counted():
    assert entries({"allow": ["*"], "deny": ["a", "b", None]}) == 4
    assert entries({"allow": "***", "deny": 7}) == 0


EXPENSIVE = {
    "one glob of stars": ["*a" * 16_000 + "b"],
    "one glob of stars that a name could fit": ["*a" * 250 + "b"],
    "stars only": ["*" * 65_000 + "b"],
    "the most entries, each with a question mark": ["*?a*b"] * 2 + [f"*?a*{n}b" for n in range(MAX_ENTRIES - 3)],
    "long runs of question marks": [f"*{'?' * 60}b{n}*" for n in range(1000)],
}


@pytest.mark.parametrize("deny", EXPENSIVE.values(), ids=EXPENSIVE)
def test_no_list_is_expensive_to_apply(deny):
    host = ".".join(["a" * 63] * 3 + ["a" * 60])
    assert len(host) <= 253
    started = time.process_time()
    assert ServerAcl.parse({"allow": ["*"], "deny": deny}).allows(host)
    assert time.process_time() - started < 3
