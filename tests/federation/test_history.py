"""`event`, `state`, `state_ids`, `backfill`: what is served, to whom, and that it is what is stored."""

from urllib.parse import quote

import pytest
from django.utils import timezone

from linmatrix.protocol import canonical_json
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.receipt import receive_pdu
from rooms.models import Event, Gap, Room
from tests.support.hosted import is_error, keys_of, membership, snapshot
from tests.support.lines import append, make_room
from tests.support.peers import UNSTABLE, Peer
from tests.support.reading import append_event, last_event, reading

pytestmark = pytest.mark.django_db(transaction=True)

MAX_BACKFILL = 100


def test_row32_row38_row50_a_server_in_the_room_reads_events_as_they_are_stored(peer, joined):
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


def test_row50_state_is_that_before_the_event(peer, joined):
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


def stored_at_the_end(room, verdict, *, position=True, state_key=None):
    """An event as only a faulty hub or a participant has it: refused, or without a place."""
    head = Room.objects.get(pk=room.pk)
    event_id = "$" + "x" * 43
    Event.objects.create(
        event_id=event_id,
        room=room,
        position=head.head_position + 1 if position else None,
        type="m.room.message" if state_key is None else "m.room.name",
        state_key=state_key,
        sender="@creator:hub.example.org",
        origin_server_ts=1,
        json=canonical_json.dumps({"content": {"body": "refused"}, "auth_events": []}).decode(),
        verdict=verdict,
        received_at=timezone.now(),
    )
    return event_id


@pytest.mark.parametrize("state_key", [None, ""], ids=["message", "state"])
@pytest.mark.parametrize("verdict", ["rejected", "soft-failed"])
def test_row54_an_event_that_was_refused_is_not_found(verdict, state_key, peer, joined):
    event_id = stored_at_the_end(joined, verdict, state_key=state_key)
    for name, answer in reading(peer, joined, event_id).items():
        assert is_error(answer, 404, "M_NOT_FOUND"), name


def test_row53_an_event_without_a_place_in_the_line_is_not_found(peer, joined):
    event_id = stored_at_the_end(joined, "accepted", position=False)
    for name, answer in reading(peer, joined, event_id).items():
        assert is_error(answer, 404, "M_NOT_FOUND"), name


@pytest.mark.parametrize("type_", ["m.room.name", "m.room.power_levels"])
def test_row55_the_state_after_a_refused_event_is_the_same_as_before(type_, peer, joined):
    before = snapshot(joined.room_id)
    lpdu = peer.lpdu(joined.room_id, type=type_, content={"name": "mine", "users": {}}, state_key="")
    assert list(peer.send([lpdu.event]).json()["failed_pdus"]) == [lpdu.lpdu_id]
    assert snapshot(joined.room_id) == before
    state = reading(peer, joined, append_event(joined))["state"].json()["pdus"]
    assert [event["content"] for event in state if event["type"] == "m.room.name"] == [{"name": "Test"}]


@pytest.mark.parametrize("endpoint", ["state", "state_ids", "backfill"])
def test_row39_row58_an_event_of_another_room_is_not_found_here(endpoint, peer, joined, private):
    quoted = quote(last_event(private).event_id, safe="")
    membership(private, peer.user("user"), "invite")
    query = f"v={quoted}&limit=10" if endpoint == "backfill" else f"event_id={quoted}"
    version = "v2" if endpoint == "backfill" else "v1"
    assert is_error(peer.get(endpoint, joined.room_id, version=version, query=query), 404, "M_NOT_FOUND")


def test_row40_backfill_never_leads_into_another_room(peer, joined, private):
    for room in (private, joined, private):
        append_event(room)
    pdus = reading(peer, joined, last_event(joined).event_id)["backfill"].json()["pdus"]
    assert len(pdus) == Event.objects.filter(room=joined).count()
    assert {event["room_id"] for event in pdus} == {joined.room_id}
    assert pdus[0]["prev_events"] == []


@pytest.mark.parametrize("endpoint", ["state", "state_ids"])
@pytest.mark.parametrize("query", ["", "event_id=", "event=$a", "Event_id=$a"])
def test_row51_state_requires_an_event_id(query, endpoint, peer, joined):
    assert is_error(peer.get(endpoint, joined.room_id, version="v1", query=query), 400, "M_INVALID_PARAM")


@pytest.mark.parametrize("event_id", ["$unknown", "$%00", "x", "%24%F0%9F%98%80", "$" + "a" * 300, "%FF"])
def test_an_event_id_that_nobody_has_is_not_found_whatever_it_looks_like(event_id, peer, joined):
    answers = [
        peer.request("GET", f"/_matrix/federation/v2/event/{event_id}"),
        peer.get("state", joined.room_id, version="v1", query=f"event_id={event_id}"),
        peer.get("state_ids", joined.room_id, version="v1", query=f"event_id={event_id}"),
        peer.get("backfill", joined.room_id, query=f"v={event_id}&limit=1"),
    ]
    for answer in answers:
        assert is_error(answer, 404, "M_NOT_FOUND")


def test_row57_a_line_of_the_create_event_alone_has_an_empty_state_and_auth_chain(peer, joined):
    create = Event.objects.get(room=joined, position=1)
    answers = reading(peer, joined, create.event_id)
    assert answers["state_ids"].json() == {"pdu_ids": [], "auth_chain_ids": []}
    assert answers["state"].json() == {"pdus": [], "auth_chain": []}
    assert answers["backfill"].content == b'{"pdus":[' + create.json.encode() + b"]}"


def test_row50_the_auth_chain_is_complete_and_every_event_of_it_verifies(peer, joined):
    answer = reading(peer, joined, last_event(joined).event_id)["state"].json()
    pdus = [
        receive_pdu(check_schema(event), hub="hub.example.org", keys=keys_of(peer))
        for event in (*answer["pdus"], *answer["auth_chain"])
    ]
    known = {pdu.event_id for pdu in pdus}
    assert all(event_id in known for pdu in pdus for event_id in pdu.event["auth_events"])
    ids = reading(peer, joined, last_event(joined).event_id)["state_ids"].json()
    assert {*ids["pdu_ids"], *ids["auth_chain_ids"]} == known
    assert len(answer["auth_chain"]) == len(ids["auth_chain_ids"]) == len(set(ids["auth_chain_ids"]))


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "", "²", "+1", " 1", "1" * 16])
def test_a_limit_that_is_no_positive_integer_is_refused(limit, peer, joined):
    query = f"v={quote(last_event(joined).event_id, safe='')}&limit={quote(limit)}"
    assert is_error(peer.get("backfill", joined.room_id, query=query), 400, "M_INVALID_PARAM")


@pytest.mark.parametrize("query", ["limit=1", "v=&limit=1", "v=$a"])
def test_backfill_requires_both_of_its_parameters(query, peer, joined):
    assert is_error(peer.get("backfill", joined.room_id, query=query), 400, "M_INVALID_PARAM")


def test_of_a_repeated_parameter_the_first_counts(peer, joined):
    first, second = Event.objects.filter(room=joined).order_by("position")[1:3]
    query = f"v={first.event_id}&v={second.event_id}&limit=1&limit=2"
    pdus = peer.get("backfill", joined.room_id, query=query).json()["pdus"]
    assert [canonical_json.dumps(event).decode() for event in pdus] == [first.json]


def test_row38_backfill_gives_the_last_events_up_to_its_limit_oldest_first(peer, joined):
    line = list(Event.objects.filter(room=joined).order_by("position").values_list("json", flat=True))
    for limit in (1, 2, len(line), len(line) + 5):
        answer = reading(peer, joined, last_event(joined).event_id, limit=limit)["backfill"]
        assert answer.content == ('{"pdus":[' + ",".join(line[-limit:]) + "]}").encode()


@pytest.mark.parametrize("asked", [MAX_BACKFILL, MAX_BACKFILL + 1, 999_999_999_999_999])
def test_backfill_gives_no_more_than_its_own_limit(asked, peer):
    room = make_room("long", peer.name)
    append(room, *map(str, range(MAX_BACKFILL + 5)))
    last = last_event(room)
    pdus = reading(peer, room, last.event_id, limit=asked)["backfill"].json()["pdus"]
    assert [event["content"]["body"] for event in pdus] == [str(number) for number in range(5, MAX_BACKFILL + 5)]


def test_the_unstable_paths_answer_alike(peer, joined):
    event_id = quote(last_event(joined).event_id, safe="")
    room_id = quote(joined.room_id, safe="")
    for path in (f"event/{event_id}", f"backfill/{room_id}?v={event_id}&limit=3"):
        stable = peer.request("GET", f"/_matrix/federation/v2/{path}")
        assert stable.status_code == 200
        assert peer.request("GET", f"{UNSTABLE}/{path}").content == stable.content


# A participant serves what it has, to the servers that were there.

HUB = "hub.elsewhere.example.org"


@pytest.fixture
def elsewhere(peer):
    """A room of another hub, in which we and the peer are, from the third event on."""
    room = make_room("far", role=Room.Role.PARTICIPANT, hub=HUB)
    append(room, "one", "two")
    for server in ("hub.example.org", peer.name):
        room.servers.create(server=server, joined_position=3, sent_position=2, joined_users=1)
    append(room, "three", "four", "five")
    return room


def test_a_participant_serves_events_and_backfill_and_no_state(peer, elsewhere):
    last = last_event(elsewhere)
    answers = reading(peer, elsewhere, last.event_id)
    assert answers["event"].content == last.json.encode()
    assert [event["content"].get("body") for event in answers["backfill"].json()["pdus"]] == [
        None, None, "three", "four", "five",
    ]  # fmt: skip
    for endpoint in ("state", "state_ids"):
        assert is_error(answers[endpoint], 400, "M_WRONG_SERVER")
        assert answers[endpoint].json()["hub_server"] == HUB


def test_a_participant_shows_no_content_of_times_whose_state_it_does_not_know(peer, elsewhere):
    before = Event.objects.get(room=elsewhere, position=2)
    assert peer.get("event", before.event_id).json()["content"] == {}


def test_a_participants_backfill_ends_at_a_gap(peer, elsewhere):
    Gap.objects.create(room=elsewhere, before_position=4, missing_event_id="$missing")
    pdus = reading(peer, elsewhere, last_event(elsewhere).event_id)["backfill"].json()["pdus"]
    assert [event["content"]["body"] for event in pdus] == ["four", "five"]


def test_a_participant_has_nothing_for_servers_that_were_not_there(elsewhere):
    outsider = Peer("outside.example.org").publish()
    last = last_event(elsewhere)
    assert is_error(outsider.get("event", last.event_id), 404, "M_NOT_FOUND")
    query = f"v={last.event_id}&limit=1"
    assert is_error(outsider.get("backfill", elsewhere.room_id, query=query), 404, "M_NOT_FOUND")
