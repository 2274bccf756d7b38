"""What a server may read, endpoint by endpoint: the history visibility at an event, and the server's own history."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from linmatrix.protocol import canonical_json
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.receipt import receive_pdu
from rooms.models import Event
from rooms.visibility import View
from tests.support.hosted import keys_of, membership
from tests.support.peers import Peer
from tests.support.reading import (
    FULL,
    NOTHING,
    REDACTED,
    act,
    append_event,
    append_state,
    last_event,
    reading,
    room_with_visibility,
    shown,
)

pytestmark = pytest.mark.django_db(transaction=True)

# In the order of events; "here" is the event that is asked about afterwards.
HISTORIES = {
    "never in the room": ["here"],
    "joined then and now": ["join", "here"],
    "joined then, left, joined again": ["join", "here", "leave", "join"],
    "joined later only": ["here", "join"],
    "away just then": ["join", "leave", "here", "join"],
    "invited then, joined later": ["invite", "here", "join"],
    "knocking then, joined later": ["knock", "here", "invite", "join"],
    "left before": ["join", "leave", "here"],
    "left after": ["join", "here", "leave"],
    "joined later and left": ["here", "join", "leave"],
    "invited then, joined later and left": ["invite", "here", "join", "leave"],
    "invited": ["invite", "here"],
    "invited later": ["here", "invite"],
    "invited after leaving": ["join", "leave", "here", "invite"],
    "refused an invite": ["here", "invite", "leave"],
    "knocking": ["knock", "here"],
    "kicked before": ["join", "kick", "here"],
    "kicked after": ["join", "here", "kick"],
    "banned before": ["join", "ban", "here"],
    "banned after": ["join", "here", "ban"],
    "banned, and never in the room": ["here", "ban"],
}

KNOWS_NOTHING = {
    "never in the room", "left before", "invited", "invited later", "invited after leaving", "refused an invite",
    "knocking", "kicked before", "banned before", "banned, and never in the room",
}  # fmt: skip
WAS_JOINED = {
    "joined then and now", "joined then, left, joined again", "left after", "kicked after", "banned after",
}  # fmt: skip
WAS_INVITED = {"invited then, joined later", "invited then, joined later and left"}
IN_THE_ROOM_NOW = {
    "joined then and now", "joined then, left, joined again", "joined later only", "away just then",
    "invited then, joined later", "knocking then, joined later",
}  # fmt: skip

# The last two are read as "shared": enough to ask after some of the histories.
VISIBILITIES = ("world_readable", "shared", "invited", "joined", None, "unknown")
CELLS = [
    (visibility, history)
    for visibility in VISIBILITIES
    for number, history in enumerate(HISTORIES)
    if visibility in VISIBILITIES[:4] or number % 4 == 1
]


def content(visibility, history):
    """Whether the event is readable (decision 60)."""
    if history in KNOWS_NOTHING:
        return NOTHING
    if visibility not in ("invited", "joined") or history in WAS_JOINED:
        return FULL
    return FULL if visibility == "invited" and history in WAS_INVITED else REDACTED


def name_in_state(visibility, history):
    """Whether the room's name is, which is older than all of the histories (decision 61)."""
    if history in KNOWS_NOTHING:
        return NOTHING
    return FULL if history in IN_THE_ROOM_NOW or visibility not in ("invited", "joined") else REDACTED


@pytest.mark.parametrize(("visibility", "history"), CELLS)
def test_what_a_server_reads_depends_on_the_visibility_and_on_when_it_was_there(visibility, history, peer):
    steps = HISTORIES[history]
    room = room_with_visibility(visibility, join_rule="knock" if "knock" in steps else "public")
    for step in steps:
        if step == "here":
            event_id = append_event(room)
        else:
            act(peer, room, step)
    assert shown(reading(peer, room, event_id), event_id) == {
        "event": content(visibility, history),
        "backfill": content(visibility, history),
        "state": name_in_state(visibility, history),
        "state_ids": NOTHING if history in KNOWS_NOTHING else FULL,
    }


@pytest.mark.parametrize("step", ["invite", "knock"])
def test_a_server_whose_user_is_invited_or_knocks_reads_that_membership_and_nothing_else(step, peer):
    room = room_with_visibility("world_readable", join_rule="knock")
    act(peer, room, step)
    event = last_event(room)
    append_event(room)
    answers = reading(peer, room, event.event_id)
    assert shown(answers, event.event_id) == {
        "event": FULL,
        "backfill": FULL,
        "state": NOTHING,
        "state_ids": NOTHING,
    }
    assert len(answers["backfill"].json()["pdus"]) == 1


@pytest.mark.parametrize("end", ["leave", "ban"])
def test_an_invite_that_is_over_shows_nothing_any_more(end, peer):
    room = room_with_visibility("shared")
    act(peer, room, "invite")
    invite = last_event(room)
    assert peer.get("event", invite.event_id).status_code == 200
    act(peer, room, end)
    over = last_event(room)
    for event in (invite, over):
        assert set(shown(reading(peer, room, event.event_id), event.event_id).values()) == {NOTHING}


def test_an_invite_of_another_servers_user_shows_nothing(peer):
    other = Peer("other.example.org").publish()
    room = room_with_visibility("shared")
    act(other, room, "invite")
    assert peer.get("event", last_event(room).event_id).status_code == 404


def test_a_name_that_ends_like_a_servers_is_not_that_server():
    near = Peer("example.org").publish()
    Peer("part.example.org").publish()
    room = room_with_visibility("shared")
    membership(room, "@user:part.example.org", "invite")
    assert near.get("event", last_event(room).event_id).status_code == 404


def test_backfill_after_leaving_leaves_out_what_came_between_the_stay_and_a_new_invite(peer):
    room = room_with_visibility("shared")
    before = append_event(room)
    act(peer, room, "join")
    act(peer, room, "leave")
    left = last_event(room).event_id
    append_event(room)
    act(peer, room, "invite")
    invite = last_event(room).event_id
    pdus = reading(peer, room, invite, limit=4)["backfill"].json()["pdus"]
    ids = [pdu_id(pdu, peer) for pdu in pdus]
    assert ids[-2:] == [left, invite]
    assert ids[0] == before


def pdu_id(event, *peers):
    return receive_pdu(check_schema(event), hub="hub.example.org", keys=keys_of(*peers)).event_id


def test_a_redacted_copy_has_the_same_id_and_signature(peer):
    room = room_with_visibility("joined")
    event_id = append_event(room)
    act(peer, room, "join")
    copy = peer.get("event", event_id).json()
    assert copy["content"] == {}
    pdu = receive_pdu(check_schema(copy), hub="hub.example.org", keys=keys_of())
    assert (pdu.event_id, pdu.redacted) == (event_id, True)


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [("joined", "shared", FULL), ("shared", "joined", FULL), ("joined", "invited", REDACTED)],
)
def test_a_change_of_the_visibility_is_as_visible_as_the_more_open_of_both(before, after, seen, peer):
    room = room_with_visibility(before)
    content = {"history_visibility": after, "extra": "shows whether it is whole"}
    event_id = append_state(room, "m.room.history_visibility", content)
    act(peer, room, "join")
    served = peer.get("event", event_id).json()["content"]
    assert served == (content if seen == FULL else {"history_visibility": after})


def test_the_visibility_before_an_event_counts_and_not_a_later_one(peer):
    room = room_with_visibility("joined")
    hidden = append_event(room)
    append_state(room, "m.room.history_visibility", {"history_visibility": "shared"})
    open_ = append_event(room)
    append_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
    hidden_again = append_event(room)
    act(peer, room, "join")
    contents = {event_id: peer.get("event", event_id).json()["content"] for event_id in (hidden, open_, hidden_again)}
    assert [bool(content) for content in contents.values()] == [False, True, False]
    line = peer.get("backfill", room.room_id, query=f"v={last_event(room).event_id}&limit=100").json()["pdus"]
    messages = [bool(event["content"]) for event in line if event["type"] == "m.room.message"]
    assert messages == [False, True, False]


def test_a_commit_is_readable_whatever_the_visibility(peer):
    room = room_with_visibility("joined")
    commit, message = append_event(room, "m.mls.commit"), append_event(room)
    act(peer, room, "join")
    assert peer.get("event", commit).json()["content"] != {}
    assert peer.get("event", message).json()["content"] == {}


def test_a_server_reads_its_own_users_memberships_in_full_and_others_redacted(peer):
    other = Peer("other.example.org").publish()
    room = room_with_visibility("joined")
    ids = {}
    for server in (peer, other):
        user = server.user("user")
        ids[server] = append_state(
            room, "m.room.member", {"membership": "invite", "displayname": "Name"}, state_key=user
        )
    act(peer, room, "join")
    assert peer.get("event", ids[peer]).json()["content"] == {"membership": "invite", "displayname": "Name"}
    assert peer.get("event", ids[other]).json()["content"] == {"membership": "invite"}


def test_state_that_was_before_a_departed_servers_stay_comes_redacted_with_its_auth_chain(peer):
    room = room_with_visibility("joined")
    act(peer, room, "join")
    append_state(room, "m.room.topic", {"topic": "while it was there"})
    act(peer, room, "leave")
    leave = last_event(room)
    answer = reading(peer, room, leave.event_id)["state"].json()
    contents = {event["type"]: event["content"] for event in answer["pdus"]}
    assert contents["m.room.topic"] == {"topic": "while it was there"}
    assert contents["m.room.name"] == {}
    assert contents["m.room.create"]["room_version"] == room.version
    assert answer["auth_chain"][0]["type"] == "m.room.create"
    for event in (*answer["pdus"], *answer["auth_chain"]):
        assert receive_pdu(check_schema(event), hub="hub.example.org", keys=keys_of(peer))


def test_a_visibility_that_is_no_string_counts_as_shared(peer):
    room = room_with_visibility("joined")
    append_state(room, "m.room.history_visibility", {"history_visibility": ["joined"]})
    event_id = append_event(room)
    act(peer, room, "join")
    assert peer.get("event", event_id).json()["content"] != {}


def test_the_memberships_of_a_server_are_found_without_reading_those_of_all_others(peer):
    room = room_with_visibility("invited")
    act(peer, room, "invite")
    event = last_event(room)
    with CaptureQueriesContext(connection) as captured:
        assert View.of(room, peer.name).readable([event])
    statement = next(query["sql"] for query in captured if "STRPOS" in query["sql"])
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("DROP INDEX state_by_position, state_by_replacement, state_one_current")
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        transaction.set_rollback(True)
    assert "state_members_by_server" in plan
    assert "strpos" in plan.partition("Index Cond")[2].partition("\n")[0]


def test_what_a_server_reads_are_the_stored_bytes(peer):
    room = room_with_visibility("shared")
    append_event(room, content={"body": "é😀", "number": 1.5, "nul": "a\0b"})
    act(peer, room, "join")
    last = last_event(room)
    line = list(Event.objects.filter(room=room).order_by("position").values_list("json", flat=True))
    assert reading(peer, room, last.event_id)["backfill"].content == ('{"pdus":[' + ",".join(line) + "]}").encode()
    assert all(canonical_json.dumps(canonical_json.loads(text.encode())).decode() == text for text in line)
