"""`PUT send` as hub: LPDUs become the room's line."""

import pytest

from linmatrix.protocol import canonical_json, completion
from rooms.models import Event
from tests.support.hosted import snapshot
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)


def line(room):
    return [
        (event.position, canonical_json.loads(event.json.encode()), event.event_id)
        for event in Event.objects.filter(room=room).order_by("position")
    ]


def test_row28_an_lpdu_becomes_the_next_event_of_the_line(peer, joined):
    lpdu = peer.lpdu(joined.room_id, content={"body": "héllo 😀", "n": 1.5})
    response = peer.send([lpdu.event])
    assert (response.status_code, response.json()) == (200, {"failed_pdus": {}})
    *_, (_, _, previous), (position, event, event_id) = line(joined)
    assert event["prev_events"] == [previous]
    assert event["hashes"]["lpdu"] == lpdu.event["hashes"]["lpdu"]
    assert set(event["signatures"]) == {"hub.example.org", peer.name}
    assert Event.objects.get(event_id=event_id).lpdu_id == lpdu.lpdu_id
    assert [item[0] for item in line(joined)] == list(range(1, position + 1))


def test_fifty_lpdus_keep_their_order(peer, joined):
    lpdus = [peer.lpdu(joined.room_id, content={"n": number}) for number in range(50)]
    assert peer.send([lpdu.event for lpdu in lpdus]).json() == {"failed_pdus": {}}
    assert [event["content"]["n"] for _, event, _ in line(joined)[-50:]] == list(range(50))


def test_one_refused_lpdu_leaves_the_others_alone(peer, joined):
    good, bad, after = (
        peer.lpdu(joined.room_id),
        peer.lpdu(joined.room_id, type="m.room.name", content={"name": "mine"}, state_key=""),
        peer.lpdu(joined.room_id, content={"body": "after"}),
    )
    response = peer.send([good.event, bad.event, after.event])
    assert response.json() == {"failed_pdus": {bad.lpdu_id: {"error": "rule 7: sending m.room.name needs 50, has 0"}}}
    assert set(Event.objects.filter(room=joined).values_list("lpdu_id", flat=True)) >= {good.lpdu_id, after.lpdu_id}
    assert not Event.objects.filter(lpdu_id=bad.lpdu_id).exists()


def test_row72_who_lacks_the_level_cannot_set_power_levels(peer, joined):
    content = {"users": {peer.user("user"): 100}}
    lpdu = peer.lpdu(joined.room_id, type="m.room.power_levels", content=content, state_key="")
    before = snapshot(joined.room_id)
    reason = "rule 7: sending m.room.power_levels needs 50, has 0"
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {lpdu.lpdu_id: {"error": reason}}}
    assert snapshot(joined.room_id) == before


def test_an_lpdu_sent_twice_is_appended_once(peer, joined):
    lpdu = peer.lpdu(joined.room_id)
    peer.send([lpdu.event, lpdu.event])
    before = snapshot(joined.room_id)
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    assert snapshot(joined.room_id) == before
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).count() == 1


def test_a_transaction_repeated_gets_the_same_answer_and_is_not_processed_again(peer, joined):
    bad = peer.lpdu(joined.room_id, type="m.room.name", content={"name": "x"}, state_key="")
    first = peer.send([bad.event], txn_id="one")
    before = snapshot(joined.room_id)
    again = peer.send([bad.event], txn_id="one")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    other_body = peer.send([peer.lpdu(joined.room_id).event], txn_id="one")
    assert other_body.content == first.content
    assert snapshot(joined.room_id) == before


def test_on_the_unstable_path_another_body_is_another_transaction(peer, joined):
    first, second = peer.lpdu(joined.room_id), peer.lpdu(joined.room_id, content={"body": "second"})
    peer.send([first.event], txn_id="one", stable=False)
    peer.send([second.event], txn_id="one", stable=False)
    assert Event.objects.filter(lpdu_id__in=[first.lpdu_id, second.lpdu_id]).count() == 2


def test_a_changed_content_is_kept_as_its_redacted_copy(peer, joined):
    lpdu = peer.lpdu(joined.room_id, content={"body": "true"})
    response = peer.send([{**lpdu.event, "content": {"body": "false"}}])
    assert response.json() == {"failed_pdus": {}}
    stored = Event.objects.get(lpdu_id=lpdu.lpdu_id)
    assert canonical_json.loads(stored.json.encode())["content"] == {}
    assert stored.verdict == Event.Verdict.REDACTED


def test_signatures_by_others_are_taken_off(peer, joined):
    lpdu = peer.lpdu(joined.room_id)
    signatures = {**lpdu.event["signatures"], "junk.example.org": {"ed25519:1": "x" * 86}, "hub.example.org": {"a": 1}}
    peer.send([{**lpdu.event, "signatures": signatures, "unsigned": {"age": 1}}])
    stored = canonical_json.loads(Event.objects.get(lpdu_id=lpdu.lpdu_id).json.encode())
    assert set(stored["signatures"]) == {peer.name, "hub.example.org"}
    assert set(stored["signatures"]["hub.example.org"]) != {"a"}
    assert "unsigned" not in stored


def dropped(event):
    return event, {}


def refused(event, error):
    return event, {"error": error}


def bad_events(peer, room_id):
    """What a participant may send instead of its event, and what it is told: nothing, or a reason."""
    good = peer.lpdu(room_id)
    other = Peer("other.example.org")
    foreign = other.lpdu(room_id)
    elsewhere = peer.lpdu(room_id, hub="another.example.org")
    large = completion.make_lpdu(peer.event(room_id), hub_server="hub.example.org", key=peer.key).event
    room_left = 65537 - len(canonical_json.dumps({**large, "padding": ""}))
    pdu = {**good.event, "auth_events": [], "prev_events": [], "hashes": {**good.event["hashes"], "sha256": "x"}}
    return {
        "wrong signature": dropped({**good.event, "signatures": {peer.name: {"ed25519:1": "A" * 86}}}),
        "signature of another event": dropped({**good.event, "signatures": foreign.event["signatures"]}),
        "no signature": dropped({**good.event, "signatures": {}}),
        "signature by an unknown key": dropped(
            {**good.event, "signatures": {peer.name: {"ed25519:2": good.event["signatures"][peer.name]["ed25519:1"]}}}
        ),
        "foreign sender": refused(foreign.event, "part.example.org cannot send events of @user:other.example.org"),
        "another hub": refused(elsewhere.event, "the event is for the hub another.example.org"),
        "65537 bytes": refused({**large, "padding": "x" * room_left}, "the event is larger than 65536 bytes"),
        "a whole PDU": refused(pdu, "this server is the room's hub and takes LPDUs only"),
        "no room": refused({**good.event, "room_id": "room"}, "the event has no valid room_id"),
        "a room id that is an object": refused({**good.event, "room_id": {}}, "the event has no valid room_id"),
        "a room id that is a list": refused({**good.event, "room_id": [room_id]}, "the event has no valid room_id"),
        "another room": dropped({**good.event, "room_id": "!unknown:hub.example.org"}),
        "no type": dropped({key: value for key, value in good.event.items() if key != "type"}),
        "a sender of another grammar": dropped({**good.event, "sender": "@User:part.example.org"}),
        "a state key of null": dropped({**good.event, "state_key": None}),
        "a state key with NUL": dropped({**good.event, "state_key": "a\0"}),
        "a type with NUL": dropped({**good.event, "type": "a\0"}),
        "a type of 256 characters": dropped({**good.event, "type": "a" * 256}),
        "content that is no object": dropped({**good.event, "content": []}),
        "a boolean timestamp": dropped({**good.event, "origin_server_ts": True}),
        "hashes that are a list": dropped({**good.event, "hashes": []}),
        "no lpdu hash": dropped({**good.event, "hashes": {}}),
        "signatures that are a list": dropped({**good.event, "signatures": []}),
        "no hub server": dropped({key: value for key, value in good.event.items() if key != "hub_server"}),
        "half a PDU": dropped({**good.event, "auth_events": []}),
        "content nested too deep": dropped({**good.event, "content": {"a": nested(100)}}),
        "null": dropped(None),
        "a number": dropped(7),
        "a string": dropped("event"),
        "a list": dropped([]),
    }


def nested(depth):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


BAD_EVENT_NAMES = list(bad_events(Peer("part.example.org"), "!a:hub.example.org"))


@pytest.mark.parametrize("name", BAD_EVENT_NAMES)
def test_row78_a_bad_event_changes_nothing_and_spares_the_good_one_beside_it(name, peer, joined):
    Peer("other.example.org").publish()
    event, told = bad_events(peer, joined.room_id)[name]
    before = snapshot(joined.room_id)
    response = peer.send([event])
    assert response.status_code == 200
    assert list(response.json()["failed_pdus"].values()) == ([told] if told else [])
    assert snapshot(joined.room_id) == before
    good = peer.lpdu(joined.room_id)
    response = peer.send([event, good.event])
    assert good.lpdu_id not in response.json()["failed_pdus"]
    assert Event.objects.filter(lpdu_id=good.lpdu_id).exists()


def test_an_event_of_exactly_the_limit_is_taken_and_one_that_no_longer_fits_as_pdu_is_refused(peer, joined):
    def padded(extra):
        base = peer.event(joined.room_id, content={"body": ""})
        bare = len(canonical_json.dumps(completion.make_lpdu(base, hub_server="hub.example.org", key=peer.key).event))
        base["content"]["body"] = "x" * (65536 - bare - extra)
        return completion.make_lpdu(base, hub_server="hub.example.org", key=peer.key)

    fits, too_large = padded(700), padded(0)
    response = peer.send([fits.event, too_large.event])
    assert list(response.json()["failed_pdus"]) == [too_large.lpdu_id]
    assert Event.objects.filter(lpdu_id=fits.lpdu_id).exists()


BODIES = {
    "no JSON": (b"{", "M_NOT_JSON"),
    "empty": (b"", "M_NOT_JSON"),
    "invalid UTF-8": (b'{"pdus":["\xff"]}', "M_NOT_JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "M_NOT_JSON"),
    "a list": (b"[]", "M_BAD_JSON"),
    "a string": (b'"pdus"', "M_BAD_JSON"),
    "a member twice": (b'{"pdus":[],"pdus":[]}', "M_BAD_JSON"),
    "a member twice within": (b'{"pdus":[{"room_id":"a","room_id":"b"}]}', "M_BAD_JSON"),
    "NaN": (b'{"pdus":[NaN]}', "M_BAD_JSON"),
    "Infinity": (b'{"pdus":[-Infinity]}', "M_BAD_JSON"),
    "1e400": (b'{"pdus":[1e400]}', "M_BAD_JSON"),
    "2^53": (b'{"pdus":[9007199254740992]}', "M_BAD_JSON"),
    "2^53 written as a float": (b'{"pdus":[9007199254740992.0]}', "M_BAD_JSON"),
    "5000 digits": (b'{"pdus":[' + b"1" * 5000 + b"]}", "M_BAD_JSON"),
    "a lone surrogate": (b'{"pdus":["\\ud800"]}', "M_BAD_JSON"),
    "a lone surrogate as a name": (b'{"\\udfff":1}', "M_BAD_JSON"),
    "201 levels": (b'{"pdus":' + b"[" * 200 + b"]" * 200 + b"}", "M_BAD_JSON"),
    "100,000 brackets": (b"[" * 100_000, "M_BAD_JSON"),
    "pdus that are an object": (b'{"pdus":{}}', "M_BAD_JSON"),
    "edus that are a string": (b'{"edus":"x"}', "M_BAD_JSON"),
    "51 pdus": (b'{"pdus":[' + b",".join([b"{}"] * 51) + b"]}", "M_BAD_JSON"),
    "101 edus": (b'{"edus":[' + b",".join([b"{}"] * 101) + b"]}", "M_BAD_JSON"),
}


@pytest.mark.parametrize("name", BODIES)
def test_row77_a_bad_body_is_a_400_with_its_code(name, peer, joined):
    body, errcode = BODIES[name]
    before = snapshot(joined.room_id)
    target = "/_matrix/federation/v2/send/bad"
    try:
        header = peer.headers("PUT", target, body)
    except Exception:  # noqa: BLE001  what cannot be parsed cannot be signed either; parsing comes first
        header = peer.headers("PUT", target, b"")
    response = peer.request("PUT", target, raw=body, header=header)
    assert (response.status_code, response.json()["errcode"]) == (400, errcode)
    assert snapshot(joined.room_id) == before


def test_numbers_that_are_integers_are_read_as_integers(peer, joined):
    lpdu = peer.lpdu(joined.room_id, content={"a": 1, "b": 1000, "c": 0})
    body = canonical_json.dumps({"pdus": [lpdu.event]})
    body = body.replace(b'"a":1,', b'"a":1.0,').replace(b'"b":1000', b'"b":1e3').replace(b'"c":0', b'"c":-0')
    target = "/_matrix/federation/v2/send/numbers"
    response = peer.request("PUT", target, raw=body, header=peer.headers("PUT", target, body))
    assert response.json() == {"failed_pdus": {}}
    assert Event.objects.get(lpdu_id=lpdu.lpdu_id).verdict == Event.Verdict.ACCEPTED


def test_a_nul_within_content_is_carried(peer, joined):
    lpdu = peer.lpdu(joined.room_id, content={"body": "a\0b"})
    assert peer.send([lpdu.event]).json() == {"failed_pdus": {}}
    stored = Event.objects.get(lpdu_id=lpdu.lpdu_id)
    assert canonical_json.loads(stored.json.encode())["content"] == {"body": "a\0b"}


def test_an_event_older_than_the_senders_key_can_vouch_for_is_dropped(peer, joined):
    later = peer.lpdu(joined.room_id, ts=2**53 - 1)
    before = snapshot(joined.room_id)
    assert peer.send([later.event]).json() == {"failed_pdus": {}}
    assert snapshot(joined.room_id) == before


def test_row77_fifty_pdus_and_a_hundred_unknown_edus_are_no_error(peer, joined):
    response = peer.request(
        "PUT", "/_matrix/federation/v2/send/edus", {"pdus": [None] * 50, "edus": [{"type": "x"}] * 100}
    )
    assert (response.status_code, response.json()) == (200, {"failed_pdus": {}})


def test_a_message_is_judged_by_the_state_that_an_event_just_before_it_has_made(peer, joined):
    """Both are in one transaction, where messages of one sender that follow one another are judged once."""
    first, second = peer.lpdu(joined.room_id, content={"n": 1}), peer.lpdu(joined.room_id, content={"n": 2})
    gone = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "leave"}, state_key=peer.user("user"))
    late = peer.lpdu(joined.room_id, content={"n": 3})
    answer = peer.send([lpdu.event for lpdu in (first, second, gone, late)]).json()
    assert answer == {"failed_pdus": {late.lpdu_id: {"error": "rule 6: the sender's membership is leave, not join"}}}


def test_messages_of_several_types_and_senders_are_judged_each_by_themselves(peer, joined):
    stranger = peer.lpdu(joined.room_id, localpart="stranger")
    name = peer.lpdu(joined.room_id, type="m.room.name", content={"name": "x"}, state_key="")
    lpdus = [peer.lpdu(joined.room_id), stranger, name, peer.lpdu(joined.room_id, content={"body": "more"})]
    failed = peer.send([lpdu.event for lpdu in lpdus]).json()["failed_pdus"]
    assert set(failed) == {stranger.lpdu_id, name.lpdu_id}
