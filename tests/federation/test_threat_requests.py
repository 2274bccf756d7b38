"""Hostile requests: what they are told, and what they cannot reach (threats 6, 13, 15, 26, 54, 60, 66, 70, 79)."""

import logging
import os
import re
import subprocess
import sys

import pytest
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from federation.models import InboundTransaction
from keys.models import KeyFetch
from linmatrix.stack.server import PROJECT
from rooms.append import open_line
from rooms.hub import complete_own, member_event
from rooms.models import Event
from tests.support.hosted import CREATOR, is_error, send_join, snapshot
from tests.support.peers import FEDERATION, Peer
from tests.support.reading import append_event, reading

pytestmark = pytest.mark.django_db(transaction=True)

SEND = f"{FEDERATION}/v2/send/1"
EMPTY = b'{"edus":[],"pdus":[]}'


def routes(patterns=None, prefix="/"):
    """Every path below `/_matrix/federation/`, with a value for each parameter, and the methods of its view."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + re.sub(r"\(\?P<\w+>\[\^/\]\+\)", "x", str(pattern.pattern))
        path = path.replace("^", "").replace(r"\Z", "").replace("\\", "")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern) and path.startswith("/_matrix/federation/"):
            for method in pattern.callback.view_class.http_method_names:
                yield method.upper(), path


@pytest.mark.parametrize(("method", "path"), sorted(routes()))
def test_no_route_of_the_federation_is_open_to_an_unsigned_request(method, path, peer):
    content = None if method == "GET" else {}
    assert is_error(peer.request(method, path, content, header=""), 401, "M_FORBIDDEN")
    assert not InboundTransaction.objects.exists()


# What is odd about a request


@pytest.mark.parametrize("txn_id", ["\0", "a\0b"])
def test_a_transaction_id_with_a_nul_is_refused(txn_id, peer):
    assert is_error(peer.send([], txn_id=txn_id), 400, "M_INVALID_PARAM")


@pytest.mark.parametrize("txn_id", ["a/b", "../x", "%2F", "\n", "é", "\ud7ff", " "])
def test_a_transaction_id_may_hold_anything_else(txn_id, peer):
    assert peer.send([], txn_id=txn_id).json() == {"failed_pdus": {}}
    assert InboundTransaction.objects.get().txn_id == txn_id


def with_host(peer, host):
    return peer.client.generic(
        "PUT",
        "/",
        data=EMPTY,
        content_type="application/json",
        PATH_INFO=SEND,
        RAW_URI=SEND,
        HTTP_AUTHORIZATION=peer.headers("PUT", SEND, EMPTY),
        HTTP_HOST=host,
    )


@pytest.mark.parametrize("host", ["evil.example", "hub.example.org:9", "part.example.org", "localhost"])
def test_the_host_header_does_not_say_who_we_are(host, peer):
    assert with_host(peer, host).status_code == 200


@pytest.mark.parametrize("host", ["a b", "[", "\"'<>", "127.0.0.1:99999999"])
def test_a_host_header_that_is_none_is_refused_as_the_draft_has_it(host, peer):
    answer = with_host(peer, host)
    assert answer.status_code == 200 or is_error(answer, 400, "M_UNKNOWN")
    assert answer["Content-Type"] == "application/json"


def test_too_many_parameters_are_refused_as_the_draft_has_it(peer, hosted):
    def make_join(versions):
        query = "&".join(["ver=I.1"] * versions + [f"ver={hosted.version}"])
        return peer.get("make_join", hosted.room_id, peer.user("user"), version="v1", query=query)

    assert make_join(900).status_code == 200
    assert is_error(make_join(1100), 400, "M_UNKNOWN")


def test_a_fault_of_ours_tells_nothing_about_us(peer, caplog):
    """A column that is gone is such a fault: the log says which one, the answer does not."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE federation_inboundtransaction RENAME COLUMN body_sha256 TO gone")
    try:
        answer = peer.send([])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE federation_inboundtransaction RENAME COLUMN gone TO body_sha256")
    assert answer.status_code == 500
    assert answer.json() == {"errcode": "M_UNKNOWN", "error": "Internal error."}
    assert "body_sha256" in caplog.text
    assert peer.send([]).status_code == 200


def test_contents_of_events_are_not_in_the_log(peer, joined, caplog):
    """Whether an event is taken, dropped or refused."""
    secret = {"body": "a private word"}
    good, unsigned = (peer.lpdu(joined.room_id, content=secret).event for _ in range(2))
    powerless = peer.lpdu(joined.room_id, type="m.room.power_levels", content=secret, state_key="").event
    with caplog.at_level(logging.DEBUG):
        answer = peer.send([good, {**unsigned, "signatures": {}}, powerless, {**good, "room_id": secret}])
    assert len(answer.json()["failed_pdus"]) == 2
    assert "dropped an event" in caplog.text
    assert "private word" not in caplog.text
    assert "private word" not in answer.content.decode()


def test_a_refusal_is_no_traceback_in_the_log(peer, caplog):
    with caplog.at_level(logging.INFO):
        peer.request("PUT", SEND, raw=b"{", header="")
        peer.request("PUT", SEND, {"pdus": []}, header="")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(("debug", "shown"), [(None, "False"), ("1", "True")])
def test_debug_is_off_unless_it_is_set(debug, shown, tmp_path):
    """In a process of its own: a test's settings have it off in any case."""
    environment = {"PATH": os.environ["PATH"], "LINMATRIX_DATA_DIR": str(tmp_path)}
    environment |= {"LINMATRIX_DEBUG": debug} if debug else {}
    code = "import linmatrix.settings; print(linmatrix.settings.DEBUG)"
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, check=True)
    assert result.stdout.decode().strip() == shown


# Replay


@pytest.mark.parametrize("kept", [True, False], ids=["while it is remembered", "when it is forgotten"])
def test_a_request_that_is_sent_again_word_for_word_changes_nothing(kept, peer, hosted):
    join, message = peer.join(hosted.room_id), peer.lpdu(hosted.room_id)
    first = send_join(peer, join), peer.send([message.event], txn_id="t")
    before = snapshot(hosted.room_id)
    if not kept:
        InboundTransaction.objects.all().delete()
    again = send_join(peer, join), peer.send([message.event], txn_id="t")
    assert snapshot(hosted.room_id) == before
    assert again[1].json() == first[1].json() == {"failed_pdus": {}}
    assert again[0].json()["event"] == first[0].json()["event"]


def test_a_join_that_is_sent_again_after_the_leave_brings_nobody_back(peer, hosted):
    join = peer.join(hosted.room_id)
    assert send_join(peer, join).status_code == 200
    leave = {"type": "m.room.member", "content": {"membership": "leave"}, "state_key": peer.user("user")}
    assert peer.send([peer.lpdu(hosted.room_id, **leave).event]).json() == {"failed_pdus": {}}
    before = snapshot(hosted.room_id)
    InboundTransaction.objects.all().delete()
    assert send_join(peer, join).status_code == 200
    assert peer.send([join.event]).json() == {"failed_pdus": {}}
    assert snapshot(hosted.room_id) == before


# What an event can make us do


def test_servers_that_need_not_have_signed_an_event_are_not_asked_for_their_keys(peer, joined):
    """Fifty events, each with signatures of fifty strangers: known signatures are enough, and nobody is asked."""
    strangers = {f"s{number}.invalid": {"ed25519:1": "A" * 86} for number in range(50)}
    lpdus = [peer.lpdu(joined.room_id, content={"body": str(number)}) for number in range(50)]
    events = [{**lpdu.event, "signatures": {**lpdu.event["signatures"], **strangers}} for lpdu in lpdus]
    assert peer.send(events).json() == {"failed_pdus": {}}
    assert not KeyFetch.objects.exists()
    stored = Event.objects.get(lpdu_id=lpdus[0].lpdu_id).json
    assert ".invalid" not in stored


def test_a_stranger_is_asked_once(peer):
    """A server that must have signed and does not answer, named in fifty requests."""
    for number in range(50):
        assert is_error(Peer("s.localhost:1").send([], txn_id=str(number)), 401, "M_FORBIDDEN")
    assert list(KeyFetch.objects.values_list("server", "failures")) == [("s.localhost:1", 1)]


def test_refused_events_do_not_fill_the_pages_of_history(peer, joined):
    """A page has as many events as were asked for, however many refused ones lie between them."""
    first = append_event(joined, content={"body": "before"})
    with open_line(joined.room_id, now=timezone.now()) as line:
        events = [refused_event(joined, number) for number in range(300)]
        line.load_state_for(events)
        for event in events:
            line.append(complete_own(line, event), verdict=Event.Verdict.REJECTED, reason="refused")
    last = append_event(joined, content={"body": "after"})
    page = reading(peer, joined, last, limit=2)["backfill"].json()["pdus"]
    assert [event["content"]["body"] for event in page] == ["before", "after"]
    assert Event.objects.get(event_id=first).position + 301 == Event.objects.get(event_id=last).position


def refused_event(room, number):
    user_id = f"@u{number}:hub.example.org"
    return member_event(room_id=room.room_id, sender=CREATOR, user_id=user_id, membership="invite", now=timezone.now())


# What a stranger learns


@pytest.mark.parametrize("endpoint", ["event", "backfill", "state", "state_ids"])
def test_a_stranger_cannot_tell_an_event_that_is_there_from_one_that_is_not(endpoint, joined):
    stranger = Peer("outside.example.org").publish()
    there = Event.objects.get(room=joined, position=1).event_id
    answers = [reading(stranger, joined, event_id)[endpoint] for event_id in (there, "$nowhere")]
    assert is_error(answers[0], 404, "M_NOT_FOUND")
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize("endpoint", ["backfill", "state", "state_ids"])
def test_a_stranger_cannot_tell_a_room_that_is_there_from_one_that_is_not(endpoint, joined):
    stranger = Peer("outside.example.org").publish()
    event_id = Event.objects.get(room=joined, position=1).event_id
    there = reading(stranger, joined, event_id)[endpoint]
    joined.room_id = "!nowhere:hub.example.org"
    assert reading(stranger, joined, event_id)[endpoint].content == there.content


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "v2/user/%40creator%3Ahub.example.org/device/A"),
        ("GET", "v1/query/profile"),
        ("GET", "v1/query/directory"),
        ("GET", "v1/publicRooms"),
    ],
)
def test_nothing_tells_which_users_and_devices_there_are(method, path, peer):
    answer = peer.request(method, f"{FEDERATION}/{path}", None if method == "GET" else {})
    assert is_error(answer, 404, "M_UNRECOGNIZED")
