"""`PUT send` as participant: the hub's events are checked again, and kept with what we think of them."""

import pytest

from federation import handshakes
from linmatrix.protocol.events import Pdu
from rooms.models import Event, Finding, StateEntry
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"


@pytest.fixture
def room(tls_peer):
    """A room on the peer that alice has joined."""
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    return room


def verdict_of(pdu: Pdu):
    return Event.objects.values_list("verdict", "reason").get(event_id=pdu.event_id)


def findings():
    return list(Finding.objects.values_list("kind", flat=True))


def test_an_event_that_the_rules_refuse_keeps_its_place_and_takes_no_effect(tls_peer, room):
    name = room.put(room.make(localpart="stranger", type="m.room.name", content={"name": "mine"}, state_key=""))
    after = room.add(content={"body": "after"})
    tls_peer.send([name.event, after.event])
    assert verdict_of(name) == ("rejected", "rule 6: the sender's membership is leave, not join")
    assert verdict_of(after)[0] == "accepted"
    assert not StateEntry.objects.filter(type="m.room.name").exists()
    assert findings() == ["rejected"]


def test_an_lpdu_used_twice_is_a_replay_and_rejected(tls_peer, room):
    other = Peer("third.example.org").publish()
    joined = room.add(lpdu=other.join(room.room_id, hub=tls_peer.name))
    lpdu = other.lpdu(room.room_id, hub=tls_peer.name)
    first, again = room.add(lpdu=lpdu), room.add(lpdu=lpdu)
    tls_peer.send([joined.event, first.event, again.event])
    assert [verdict_of(pdu)[0] for pdu in (joined, first, again)] == ["accepted", "accepted", "rejected"]
    assert findings() == ["replay"]


def test_a_content_that_the_hub_changed_is_kept_redacted(tls_peer, room):
    other = Peer("third.example.org").publish()
    joined = room.add(lpdu=other.join(room.room_id, hub=tls_peer.name))
    pdu = room.add(lpdu=other.lpdu(room.room_id, hub=tls_peer.name, content={"body": "yes"}))
    tls_peer.send([joined.event, {**pdu.event, "content": {"body": "no"}}])
    assert verdict_of(pdu)[0] == "redacted"
    assert '"no"' not in Event.objects.get(event_id=pdu.event_id).json
    assert findings() == ["edit"]


def test_a_fork_is_appended_in_order_of_arrival_and_recorded(tls_peer, room):
    before = room.line[-1]
    first = room.add(content={"body": "one"})
    fork = room.make(content={"body": "other"}, prev_event=before.event_id)
    tls_peer.send([first.event, fork.event])
    positions = dict(Event.objects.values_list("event_id", "position"))
    assert positions[fork.event_id] == positions[first.event_id] + 1
    assert findings() == ["fork"]


def test_an_auth_event_that_is_unknown_is_a_reason_to_reject(tls_peer, room):
    pdu = room.put(room.make(content={}, auth_events=["$unknown", room.line[0].event_id]))
    tls_peer.send([pdu.event])
    assert verdict_of(pdu)[0] == "rejected"
    assert verdict_of(pdu)[1].startswith("rule 4.unknown")


def test_a_second_create_event_is_rejected(tls_peer, room):
    create = room.make(type="m.room.create", content={"room_version": room.version}, state_key="")
    pdu = room.put(create)
    tls_peer.send([pdu.event])
    assert verdict_of(pdu)[0] == "rejected"


def test_events_from_any_other_server_are_dropped(tls_peer, room):
    other = Peer("third.example.org").publish()
    pdu = room.add(content={"body": "by the hub"})
    assert other.send([pdu.event]).json() == {"failed_pdus": {}}
    assert not Event.objects.filter(event_id=pdu.event_id).exists()
    assert tls_peer.send([pdu.event]).json() == {"failed_pdus": {}}
    assert verdict_of(pdu)[0] == "accepted"


def test_an_event_that_came_through_another_hub_is_dropped(tls_peer, room):
    impostor = Peer("third.example.org").publish()
    forged = PeerRoom(impostor, localpart="x")
    forged.room_id, forged.line, forged.state = room.room_id, list(room.line), dict(room.state)
    pdu = forged.make(content={"body": "forged"})
    tls_peer.send([pdu.event])
    assert not Event.objects.filter(event_id=pdu.event_id).exists()


def test_an_lpdu_to_a_participant_is_dropped(tls_peer, room):
    lpdu = tls_peer.lpdu(room.room_id, hub=tls_peer.name)
    assert tls_peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    assert not Event.objects.filter(lpdu_id=lpdu.lpdu_id).exists()


@pytest.mark.parametrize("signer", ["hub", "sender"])
def test_an_event_without_a_signature_is_dropped(signer, tls_peer, room):
    other = Peer("third.example.org").publish()
    joined = room.add(lpdu=other.join(room.room_id, hub=tls_peer.name))
    name = tls_peer.name if signer == "hub" else other.name
    signatures = {server: by_key for server, by_key in joined.event["signatures"].items() if server != name}
    tls_peer.send([{**joined.event, "signatures": signatures}])
    assert not Event.objects.filter(event_id=joined.event_id).exists()
    tls_peer.send([joined.event])
    assert verdict_of(joined)[0] == "accepted"


def test_an_event_sent_again_is_not_appended_again(tls_peer, room):
    pdu = room.add(content={"body": "once"})
    tls_peer.send([pdu.event])
    count = Event.objects.count()
    tls_peer.send([pdu.event, pdu.event])
    assert Event.objects.count() == count


def test_a_foreign_event_id_member_does_not_change_the_event(tls_peer, room):
    pdu = room.add(content={"body": "with an id"})
    tls_peer.send([{**pdu.event, "event_id": pdu.event_id}])
    assert Event.objects.get(event_id=pdu.event_id).json == pdu.encoded.decode()


def test_after_our_last_user_left_events_of_the_room_are_dropped(tls_peer, room):
    kick, after = room.member(ALICE, "leave"), room.add(content={"body": "behind our backs"})
    tls_peer.send([kick.event])
    tls_peer.send([after.event])
    assert verdict_of(kick)[0] == "accepted"
    assert not Event.objects.filter(event_id=after.event_id).exists()


def test_an_event_known_from_joining_that_comes_again_is_not_appended(tls_peer, room):
    create, levels = room.line[0], room.line[2]
    count = Event.objects.count()
    assert tls_peer.send([create.event, levels.event]).status_code == 200
    assert Event.objects.count() == count
    assert verdict_of(create)[0] == "accepted"


def test_a_replay_of_an_event_that_was_rejected_is_rejected_too(tls_peer, room):
    stranger = Peer("third.example.org").publish()
    lpdu = stranger.lpdu(room.room_id, hub=tls_peer.name)
    first, again, after = room.add(lpdu=lpdu), room.add(lpdu=lpdu), room.add(content={"body": "after"})
    assert tls_peer.send([first.event, again.event, after.event]).status_code == 200
    assert [verdict_of(pdu)[0] for pdu in (first, again, after)] == ["rejected", "rejected", "accepted"]
    assert sorted(findings()) == ["rejected", "replay"]


def test_two_gaps_in_one_transaction_are_both_filled(tls_peer, room):
    line = [room.add(content={"n": number}) for number in range(5)]
    assert tls_peer.send([line[1].event, line[4].event]).status_code == 200
    stored = Event.objects.filter(type="m.room.message", position__isnull=False).order_by("position")
    assert list(stored.values_list("event_id", flat=True)) == [pdu.event_id for pdu in line]
