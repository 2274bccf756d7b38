"""`event`, `state`, `state_ids`, `backfill`: what is served, to whom, and that it is what is stored."""

from urllib.parse import quote

import pytest
from django.utils import timezone

from linmatrix.protocol import canonical_json
from rooms.creation import create_room
from rooms.hub import append_own
from rooms.models import Event
from tests.support.hosted import CREATOR, is_error, membership, send_join
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)


def reading(peer, room, event_id):
    """Every endpoint that reads a room, asked about one event."""
    quoted = quote(event_id, safe="")
    return {
        "event": peer.get("event", event_id),
        "backfill": peer.get("backfill", room.room_id, query=f"v={quoted}&limit=10"),
        "state": peer.get("state", room.room_id, version="v1", query=f"event_id={quoted}"),
        "state_ids": peer.get("state_ids", room.room_id, version="v1", query=f"event_id={quoted}"),
    }


def last_event(room):
    return Event.objects.filter(room=room, position__isnull=False).order_by("-position").first()


def test_a_server_in_the_room_reads_events_as_they_are_stored(peer, joined):
    lpdu = peer.lpdu(joined.room_id)
    peer.send([lpdu.event])
    last = last_event(joined)
    answers = reading(peer, joined, last.event_id)
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert answers["event"].content == last.json.encode()
    line = Event.objects.filter(room=joined).order_by("position").values_list("json", flat=True)
    assert answers["backfill"].content == b'{"pdus":[' + ",".join(line).encode() + b"]}"
    assert [event["type"] for event in answers["state"].json()["pdus"]] == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.name",
        "m.room.member",
    ]
    ids = answers["state_ids"].json()
    assert len(ids["pdu_ids"]) == 7
    assert set(ids["auth_chain_ids"]) <= set(ids["pdu_ids"])


def test_state_is_that_before_the_event(peer, joined):
    join = last_event(joined)
    ids = reading(peer, joined, join.event_id)["state_ids"].json()["pdu_ids"]
    assert join.event_id not in ids
    assert len(ids) == 6


def test_a_server_that_never_was_in_the_room_finds_nothing_there(joined):
    outsider = Peer("outside.example.org").publish()
    for name, answer in reading(outsider, joined, last_event(joined).event_id).items():
        assert is_error(answer, 404, "M_NOT_FOUND"), name


def test_a_server_that_was_kicked_reads_up_to_the_kick_and_not_beyond(peer, joined):
    membership(joined, peer.user("user"), "leave")
    kick = last_event(joined)
    membership(joined, "@late:hub.example.org", "invite")
    assert peer.get("event", kick.event_id).status_code == 200
    for name, answer in reading(peer, joined, last_event(joined).event_id).items():
        assert is_error(answer, 404, "M_NOT_FOUND"), name


def test_backfill_stays_within_its_room_and_its_limit(peer, joined, private):
    quoted = quote(last_event(private).event_id, safe="")
    assert is_error(peer.get("backfill", joined.room_id, query=f"v={quoted}&limit=10"), 404, "M_NOT_FOUND")
    last = last_event(joined)
    quoted = quote(last.event_id, safe="")
    pdus = peer.get("backfill", joined.room_id, query=f"v={quoted}&limit=2").json()["pdus"]
    assert canonical_json.dumps(pdus[-1]) == last.json.encode()
    assert len(pdus) == 2
    for limit in ("0", "-1", "x", "1.5", "", "²"):
        answer = peer.get("backfill", joined.room_id, query=f"v={quoted}&limit={quote(limit)}")
        assert is_error(answer, 400, "M_INVALID_PARAM")
    assert is_error(peer.get("state", joined.room_id, version="v1"), 400, "M_INVALID_PARAM")


def test_history_that_only_members_may_read_is_served_redacted_to_those_who_came_later(peer, transactional_db):
    room = create_room(creator=CREATOR, now=timezone.now(), join_rule="public", history_visibility="joined")
    message = peer.event(room.room_id, content={"body": "before"}) | {"sender": CREATOR}
    (secret,) = append_own(room.room_id, [message], now=timezone.now())
    assert send_join(peer, peer.join(room.room_id)).status_code == 200
    (open_,) = append_own(room.room_id, [message | {"content": {"body": "after"}}], now=timezone.now())
    assert peer.get("event", secret.event_id).json()["content"] == {}
    assert peer.get("event", open_.event_id).json()["content"] == {"body": "after"}
