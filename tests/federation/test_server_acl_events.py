"""Events of servers that a room keeps out, and lists that its hub does not take (decision 109)."""

import pytest

from linmatrix.protocol.server_acl import MAX_ENTRIES
from rooms.models import Event
from tests.federation.test_server_acl import DENIED, LET_IN, set_acl
from tests.support.hosted import snapshot
from tests.support.peers import Peer
from tests.support.reading import append_state

pytestmark = pytest.mark.django_db(transaction=True)


def test_row75_events_of_a_server_that_is_kept_out_are_refused_one_by_one(peer, joined):
    set_acl(joined, DENIED)
    before = snapshot(joined.room_id)
    lpdu = peer.lpdu(joined.room_id)
    answer = peer.send([lpdu.event]).json()
    assert answer["failed_pdus"] == {
        lpdu.lpdu_id: {"error": "rule server_acl: the room's server ACL keeps part.example.org out"}
    }
    assert snapshot(joined.room_id) == before
    set_acl(joined, LET_IN)
    assert peer.send([peer.lpdu(joined.room_id).event]).json() == {"failed_pdus": {}}


def test_row75_an_acl_counts_in_its_own_room_only(peer, joined, private):
    set_acl(private, DENIED)
    lpdu = peer.lpdu(joined.room_id)
    elsewhere = peer.lpdu(private.room_id)
    answer = peer.send([elsewhere.event, lpdu.event]).json()
    assert list(answer["failed_pdus"]) == [elsewhere.lpdu_id]
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).exists()


def test_an_acl_takes_effect_with_the_next_event_of_the_same_transaction(joined):
    moderator = Peer("part.example.org")
    append_state(
        joined,
        "m.room.power_levels",
        {"users": {"@creator:hub.example.org": 100, moderator.user("user"): 50}},
    )
    acl = moderator.lpdu(joined.room_id, type="m.room.server_acl", content=DENIED, state_key="")
    after = moderator.lpdu(joined.room_id)
    assert list(moderator.send([acl.event, after.event]).json()["failed_pdus"]) == [after.lpdu_id]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"allow": ["*"], "deny": ["hub.example.org"]}, "would keep the room's hub out"),
        ({"allow": ["*"], "deny": ["*.EXAMPLE.org"]}, "would keep the room's hub out"),
        ({"allow": ["part.example.org"]}, "would keep the room's hub out"),
        ({}, "would keep the room's hub out"),
        ({"allow": "*"}, "would keep the room's hub out"),
        ({"allow": ["*"] * (MAX_ENTRIES + 1)}, "at most 5000 are taken"),
    ],
    ids=["denied", "denied by a glob", "not allowed", "empty", "malformed", "too long"],
)
def test_a_list_that_nobody_could_live_with_is_refused(content, reason, peer, joined):
    append_state(joined, "m.room.power_levels", {"users": {"@creator:hub.example.org": 100, peer.user("user"): 50}})
    before = snapshot(joined.room_id)
    lpdu = peer.lpdu(joined.room_id, type="m.room.server_acl", content=content, state_key="")
    (failed,) = peer.send([lpdu.event]).json()["failed_pdus"].values()
    assert reason in failed["error"]
    assert snapshot(joined.room_id) == before
    most = peer.lpdu(joined.room_id, type="m.room.server_acl", content={"allow": ["*"] * MAX_ENTRIES}, state_key="")
    assert peer.send([most.event]).json() == {"failed_pdus": {}}
