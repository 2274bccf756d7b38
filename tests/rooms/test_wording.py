"""Events in words."""

import json

import pytest

from rooms.models import Event
from rooms.wording import happened, moment, shown

ALICE, BOB = "@alice:a.example", "@bob:b.example"


def event(type_, content, *, sender=ALICE, state_key=None):
    return Event(type=type_, sender=sender, state_key=state_key, json=json.dumps({"content": content}))


@pytest.mark.parametrize(
    ("type_", "state_key", "content", "words"),
    [
        ("m.room.create", "", {}, "created the room"),
        ("m.room.member", ALICE, {"membership": "join"}, "joined"),
        ("m.room.member", BOB, {"membership": "invite"}, f"invited {BOB}"),
        ("m.room.member", ALICE, {"membership": "leave", "reason": "train"}, "left (train)"),
        ("m.room.member", BOB, {"membership": "leave"}, f"removed {BOB}"),
        ("m.room.member", BOB, {"membership": "ban", "reason": "spam"}, f"banned {BOB} (spam)"),
        ("m.room.member", ALICE, {"membership": "knock"}, "asked to be let in"),
        ("m.room.member", BOB, {"membership": ["join"]}, f"set the membership of {BOB} to ['join']"),
        ("m.room.topic", "", {"topic": "Tea"}, 'changed the topic to "Tea"'),
        ("m.room.name", "", {"name": "Launch"}, 'named the room "Launch"'),
        ("m.room.join_rules", "", {"join_rule": "public"}, "set the join rule to public"),
        ("m.room.power_levels", "", {"users": {}}, "changed the power levels"),
        ("m.room.message", None, {"body": "Hello"}, "Hello"),
        ("m.room.message", None, {"body": 5}, "5"),
        ("m.room.message", None, {"m.mls": "x"}, '{"m.mls":"x"}'),
        ("m.room.message", None, {}, "m.room.message (its content was removed)"),
        ("org.example.vote", "tea", {"yes": True}, 'org.example.vote tea {"yes":true}'),
    ],
)
def test_every_event_has_words(type_, state_key, content, words):
    assert happened(event(type_, content, state_key=state_key)) == words


def test_what_could_steer_a_terminal_is_replaced():
    words = happened(event("m.room.message", {"body": "a\x1b[31mb\r\nc\u202ed\x00"}))
    assert words == "a\ufffd[31mb\ufffd\ufffdc\ufffdd\ufffd"


def test_long_texts_are_cut():
    assert shown("x" * 300, limit=10) == "x" * 9 + "…"
    assert shown("x" * 10, limit=10) == "x" * 10


@pytest.mark.parametrize("origin_server_ts", [2**53 - 1, -(2**53 - 1)])
def test_a_time_outside_of_the_calendar_is_none(origin_server_ts):
    assert moment(origin_server_ts) is None


def test_a_time_is_in_utc():
    assert f"{moment(1_700_000_000_123):%Y-%m-%d %H:%M:%S.%f %Z}" == "2023-11-14 22:13:20.123000 UTC"
