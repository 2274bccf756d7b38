"""Redactions in the lines of rooms: who may, what is left, and that nobody gets the original any more (decision 31)."""

import pytest
from django.utils import timezone

from federation import handshakes
from federation.gaps import fill_gap
from linmatrix.protocol import canonical_json
from linmatrix.protocol.redaction import redact
from rooms.append import open_line
from rooms.hub import append_own_to
from rooms.models import Event, Finding, Gap, Redaction
from rooms.state import members, stripped_state
from tests.support.hosted import CREATOR, send_join
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer
from tests.support.reading import append_event, append_state, last_event, reading, text_of

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"
OTHER = "third.example.org"


def redaction(peer, room_id, target, *, hub="hub.example.org", localpart="user", **content):
    return peer.lpdu(
        room_id, hub=hub, localpart=localpart, type="m.room.redaction", content={"redacts": target, **content}
    )


def said(peer, room, text="secret", localpart="user"):
    """A message of a peer's user in a room that we host; its event id."""
    lpdu = peer.lpdu(room.room_id, localpart=localpart, content={"body": text})
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    return Event.objects.get(lpdu_id=lpdu.lpdu_id).event_id


def is_redacted(event_id):
    event = Event.objects.get(event_id=event_id)
    whole = canonical_json.loads(event.json.encode())
    assert canonical_json.dumps(whole).decode() == event.json
    if whole["content"]:
        return False
    assert event.verdict == Event.Verdict.REDACTED
    return True


@pytest.fixture
def other(hosted):
    """A second server with a user in the room."""
    server = Peer(OTHER).publish()
    assert send_join(server, server.join(hosted.room_id)).status_code == 200
    return server


def test_a_redacted_event_is_served_as_its_redacted_copy_under_the_same_id(peer, joined):
    event_id = said(peer, joined)
    original = canonical_json.loads(text_of(event_id).encode())
    lpdu = redaction(peer, joined.room_id, event_id, reason="a mistake")
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    copy = canonical_json.dumps(redact(original))
    assert text_of(event_id) == copy.decode()
    assert peer.get("event", event_id).content == copy
    last = last_event(joined)
    assert copy in reading(peer, joined, last.event_id)["backfill"].content
    assert last.lpdu_id == lpdu.lpdu_id
    event = Event.objects.get(event_id=event_id)
    assert (event.verdict, event.reason) == ("redacted", f"redacted by {last.event_id}")
    assert not any("secret" in text for text in Event.objects.values_list("json", flat=True))


def test_who_has_the_level_redacts_what_others_sent(peer, joined):
    event_id = said(peer, joined)
    append_event(joined, "m.room.redaction", {"redacts": event_id})
    assert is_redacted(event_id)


def test_row62_a_redaction_by_another_server_without_the_level_is_an_event_and_nothing_more(peer, joined, other):
    event_id = said(peer, joined)
    lpdu = redaction(other, joined.room_id, event_id)
    assert other.send([lpdu.event]).json() == {"failed_pdus": {}}
    assert not is_redacted(event_id)
    assert Event.objects.get(lpdu_id=lpdu.lpdu_id).verdict == Event.Verdict.ACCEPTED


def test_row62_a_user_of_the_same_server_redacts_without_the_level(peer, joined):
    event_id = said(peer, joined)
    assert send_join(peer, peer.join(joined.room_id, "second"), "second").status_code == 200
    peer.send([redaction(peer, joined.room_id, event_id, localpart="second").event])
    assert is_redacted(event_id)


@pytest.mark.parametrize(("level", "redacted"), [(49, False), (50, True)])
def test_the_level_that_counts_is_the_senders_when_it_redacts(level, redacted, peer, joined, other):
    event_id = said(peer, joined)
    levels = {"users": {CREATOR: 100, other.user("user"): level}}
    append_state(joined, "m.room.power_levels", levels)
    other.send([redaction(other, joined.room_id, event_id).event])
    append_state(joined, "m.room.power_levels", {"users": {CREATOR: 100, other.user("user"): 99 - level}})
    assert is_redacted(event_id) is redacted


def test_the_redact_level_of_the_room_counts(peer, joined, other):
    event_id = said(peer, joined)
    append_state(joined, "m.room.power_levels", {"users": {CREATOR: 100}, "redact": 0})
    other.send([redaction(other, joined.room_id, event_id).event])
    assert is_redacted(event_id)


def test_row63_an_event_of_another_room_is_not_redacted(peer, joined, private):
    secret = append_event(private)
    append_event(joined, "m.room.redaction", {"redacts": secret})
    assert not is_redacted(secret)
    append_event(private, "m.room.redaction", {"redacts": secret})
    assert is_redacted(secret)


def test_row64_a_redaction_that_names_itself_is_an_event_and_nothing_more(peer, joined):
    """No event holds its own id, which is a hash over it: this one names the id that it would have without that."""
    lpdu = peer.lpdu(joined.room_id, type="m.room.redaction", content={})
    own = redaction(peer, joined.room_id, lpdu.lpdu_id)
    assert peer.send([own.event]).json() == {"failed_pdus": {}}
    assert Event.objects.get(lpdu_id=own.lpdu_id).verdict == Event.Verdict.ACCEPTED


def test_row64_redactions_are_not_redacted_so_that_there_are_no_loops(peer, joined):
    event_id = said(peer, joined)
    first = append_event(joined, "m.room.redaction", {"redacts": event_id})
    second = append_event(joined, "m.room.redaction", {"redacts": first})
    append_event(joined, "m.room.redaction", {"redacts": second})
    assert is_redacted(event_id)
    assert not is_redacted(first)
    assert not is_redacted(second)


def test_row65_a_redaction_of_an_unknown_event_is_in_the_line_for_everybody(peer, joined, other):
    lpdu = redaction(peer, joined.room_id, "$unknown")
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    event = Event.objects.get(lpdu_id=lpdu.lpdu_id)
    assert other.get("event", event.event_id).json()["content"] == {"redacts": "$unknown"}


@pytest.mark.parametrize("redacts", [None, 7, [], {}, "", "x", "$\0", "$" + "a" * 255, ["$a"], True], ids=repr)
def test_a_redaction_that_names_no_event_does_nothing(redacts, peer, joined):
    lpdu = redaction(peer, joined.room_id, redacts)
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).exists()
    assert not Redaction.objects.exists()


@pytest.mark.parametrize("type_", ["m.room.create", "m.room.server_acl"])
def test_what_a_room_needs_to_go_on_is_never_redacted(type_, peer, joined):
    append_state(joined, "m.room.server_acl", {"allow": ["*"]})
    event = Event.objects.get(room=joined, type=type_)
    append_event(joined, "m.room.redaction", {"redacts": event.event_id})
    assert text_of(event.event_id) == event.json
    assert peer.send([peer.lpdu(joined.room_id).event]).json() == {"failed_pdus": {}}


def test_redacted_state_stays_in_force_and_shows_its_content_to_nobody(peer, joined):
    name = Event.objects.get(room=joined, type="m.room.name")
    assert stripped_state(joined.room_id)[1]["content"] == {"name": "Test"}
    append_event(joined, "m.room.redaction", {"redacts": name.event_id})
    (shown,) = [event for event in stripped_state(joined.room_id) if event["type"] == "m.room.name"]
    assert shown["content"] == {}
    state = reading(peer, joined, last_event(joined).event_id)["state"].json()["pdus"]
    assert [event["content"] for event in state if event["type"] == "m.room.name"] == [{}]


def test_what_the_rules_read_of_redacted_state_is_still_there(peer, joined):
    for type_ in ("m.room.power_levels", "m.room.join_rules", "m.room.history_visibility", "m.room.member"):
        for event in Event.objects.filter(room=joined, type=type_):
            append_event(joined, "m.room.redaction", {"redacts": event.event_id})
    assert members(joined.room_id) == {CREATOR: "join", peer.user("user"): "join"}
    late = Peer("late.example.org").publish()
    assert send_join(late, late.join(joined.room_id), "late").status_code == 200
    name = peer.lpdu(joined.room_id, type="m.room.name", content={"name": "mine"}, state_key="")
    assert list(peer.send([name.event]).json()["failed_pdus"]) == [name.lpdu_id]
    append_state(joined, "m.room.name", {"name": "still mine"})


def test_a_second_redaction_changes_nothing(peer, joined):
    event_id = said(peer, joined)
    first = append_event(joined, "m.room.redaction", {"redacts": event_id})
    before = text_of(event_id)
    append_event(joined, "m.room.redaction", {"redacts": event_id})
    assert text_of(event_id) == before
    assert Event.objects.get(event_id=event_id).reason in (
        f"redacted by {first}",
        f"redacted by {last_event(joined).event_id}",
    )


def test_a_batch_of_redactions_is_applied_in_one_go(peer, joined):
    ids = [said(peer, joined, f"secret {number}") for number in range(5)]
    lpdus = [redaction(peer, joined.room_id, event_id) for event_id in ids]
    peer.send([lpdu.event for lpdu in lpdus])
    assert all(map(is_redacted, ids))


def test_an_event_and_its_redaction_in_one_append_are_both_in_the_line(joined):
    now = timezone.now()
    event = {"room_id": joined.room_id, "sender": CREATOR, "origin_server_ts": 1}
    with open_line(joined.room_id, now=now) as line:
        (pdu,) = append_own_to(line, [event | {"type": "m.room.message", "content": {"body": "secret"}}])
        append_own_to(line, [event | {"type": "m.room.redaction", "content": {"redacts": pdu.event_id}}])
    assert is_redacted(pdu.event_id)


# As participant: the hub decides the line, and we decide what a redaction in it does to our copy.


@pytest.fixture
def third():
    return Peer(OTHER).publish()


@pytest.fixture
def elsewhere(tls_peer, third):
    """A room on the peer with a user of a third server in it; nobody of ours yet."""
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    room.add(lpdu=third.join(room.room_id, hub=tls_peer.name))
    return room


def join(room):
    """Join alice; the hub's answer has the auth chain of all that it says."""
    hub = room.hub
    answer = hub.endpoints["POST", "send_join"]

    def with_auth_chain(request):
        status, content = answer(request)
        chain = [pdu.event for pdu in room.line if "state_key" in pdu.event]
        return status, {**content, "auth_chain": chain}

    hub.endpoints["POST", "send_join"] = with_auth_chain
    handshakes.join(room_id=room.room_id, user_id=ALICE)


def message_of(third, room, text="secret"):
    return room.add(lpdu=third.lpdu(room.room_id, hub=room.hub.name, content={"body": text}))


def test_a_participant_applies_redactions_to_its_copy(tls_peer, third, elsewhere):
    join(elsewhere)
    target = message_of(third, elsewhere)
    by_hub = elsewhere.add(type="m.room.redaction", content={"redacts": target.event_id})
    tls_peer.send([target.event])
    assert not is_redacted(target.event_id)
    tls_peer.send([by_hub.event])
    assert is_redacted(target.event_id)


def test_an_event_that_comes_redacted_already_is_no_edit_by_the_hub(tls_peer, third, elsewhere):
    join(elsewhere)
    target = message_of(third, elsewhere)
    by_hub = elsewhere.add(type="m.room.redaction", content={"redacts": target.event_id})
    tls_peer.send([redact(target.event), by_hub.event])
    assert is_redacted(target.event_id)
    assert not Finding.objects.exists()


def test_a_redaction_that_the_rules_refuse_has_no_effect_at_a_participant(tls_peer, third, elsewhere):
    join(elsewhere)
    target = message_of(third, elsewhere)
    stranger = elsewhere.add(localpart="stranger", type="m.room.redaction", content={"redacts": target.event_id})
    tls_peer.send([target.event, stranger.event])
    assert Event.objects.get(event_id=stranger.event_id).verdict == Event.Verdict.REJECTED
    assert not is_redacted(target.event_id)


def fetch_history(tls_peer, room, *, page):
    """Fill the gap before our stay, a few events at a time, newest first."""
    tls_peer.endpoints["GET", "backfill"] = lambda request: (
        200,
        {"pdus": room.backfill(request.query["v"][0], page)},
    )
    for gap in Gap.objects.values_list("pk", flat=True):
        fill_gap(gap)
    assert not Gap.objects.exists()


@pytest.mark.parametrize("page", [1, 2, 100])
@pytest.mark.parametrize("by", ["the hub's creator", "the author", "another server"])
def test_in_history_a_redaction_finds_its_target_that_comes_later(page, by, tls_peer, third, elsewhere):
    target = message_of(third, elsewhere)
    content = {"redacts": target.event_id}
    if by == "the hub's creator":
        elsewhere.add(type="m.room.redaction", content=content)
    elif by == "the author":
        elsewhere.add(lpdu=redaction(third, elsewhere.room_id, target.event_id, hub=tls_peer.name))
    else:
        fourth = Peer("fourth.example.org").publish()
        elsewhere.add(lpdu=fourth.join(elsewhere.room_id, hub=tls_peer.name))
        elsewhere.add(lpdu=redaction(fourth, elsewhere.room_id, target.event_id, hub=tls_peer.name))
    elsewhere.add(content={"body": "after"})
    join(elsewhere)
    fetch_history(tls_peer, elsewhere, page=page)
    assert is_redacted(target.event_id) is (by != "another server")


@pytest.mark.parametrize("page", [1, 100])
@pytest.mark.parametrize(("level", "redacted"), [(50, True), (49, False)])
def test_in_history_the_levels_of_that_time_count(level, redacted, page, tls_peer, third, elsewhere):
    fourth = Peer("fourth.example.org").publish()
    creator = tls_peer.user("user")
    elsewhere.add(lpdu=fourth.join(elsewhere.room_id, hub=tls_peer.name))
    elsewhere.add(
        type="m.room.power_levels", content={"users": {creator: 100, fourth.user("user"): level}}, state_key=""
    )
    target = message_of(third, elsewhere)
    elsewhere.add(lpdu=redaction(fourth, elsewhere.room_id, target.event_id, hub=tls_peer.name))
    elsewhere.add(type="m.room.power_levels", content={"users": {creator: 100}, "redact": 60}, state_key="")
    elsewhere.add(type="m.room.power_levels", content={"users": {creator: 100}, "redact": 70}, state_key="")
    join(elsewhere)
    fetch_history(tls_peer, elsewhere, page=page)
    assert is_redacted(target.event_id) is redacted


def test_a_redaction_of_today_finds_its_target_in_history_that_is_fetched_later(tls_peer, third, elsewhere):
    target = message_of(third, elsewhere)
    elsewhere.add(content={"body": "between"})
    join(elsewhere)
    by_hub = elsewhere.add(type="m.room.redaction", content={"redacts": target.event_id})
    tls_peer.send([by_hub.event])
    assert not Event.objects.filter(event_id=target.event_id).exists()
    fetch_history(tls_peer, elsewhere, page=100)
    assert is_redacted(target.event_id)
