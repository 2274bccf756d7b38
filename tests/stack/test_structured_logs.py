"""One line per request and per delivery, tied together by ids, with nothing in it that is not for the log."""

import io
import json
import logging

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.log import log_response

from federation.client import Answer
from federation.models import OutboundTransaction
from linmatrix import logs
from linmatrix.logs import LINES_A_MINUTE, MAX_FIELD, MAX_RECORDS, BoundedFormatter, Sampling
from linmatrix.stack.server import PROJECT
from tests.support.lines import append, make_room
from tests.support.peers import FEDERATION
from tests.support.remote import Remote
from tests.support.stepping import PEER, run

SECRET = "a private word"


class Written:
    """What the root logger's lines are, as JSON."""

    def __init__(self):
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(BoundedFormatter("json"))

    @property
    def text(self):
        return self._stream.getvalue()

    def lines(self, logger=None):
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if logger in (None, line["logger"])]


@pytest.fixture
def written():
    root, written = logging.getLogger(), Written()
    before = root.level
    root.addHandler(written.handler)
    root.setLevel(logging.INFO)
    yield written
    root.setLevel(before)
    root.removeHandler(written.handler)


# Requests


def test_a_request_has_one_line_with_who_what_and_how_it_ended(peer, joined, written):
    peer.send([peer.lpdu(joined.room_id, content={"body": SECRET}).event], txn_id="a/b")
    (line,) = written.lines(logs.REQUESTS)
    assert {name: line[name] for name in ("event", "method", "endpoint", "origin", "txn_id", "status")} == {
        "event": "request",
        "method": "PUT",
        "endpoint": "send",
        "origin": peer.name,
        "txn_id": "a/b",
        "status": 200,
    }
    assert line["ms"] > 0
    assert "errcode" not in line


def test_all_that_is_logged_during_a_request_has_its_id_and_no_other_requests(peer, joined, written):
    for _ in range(2):
        event = peer.lpdu(joined.room_id).event
        peer.send([{**event, "signatures": {}}])
    ids = [line["request_id"] for line in written.lines()]
    assert [line["logger"] for line in written.lines()] == ["federation.inbound", logs.REQUESTS] * 2
    assert ids[0] == ids[1] != ids[2] == ids[3]
    logging.getLogger("afterwards").info("no request's")
    assert "request_id" not in written.lines("afterwards")[0]


@pytest.mark.parametrize(("header", "logger"), [(None, logs.REQUESTS), ("", logs.STRANGERS)], ids=["signed", "not"])
def test_a_stranger_has_lines_of_a_kind_of_its_own(header, logger, peer, written):
    """Of which there are fewer: anybody can have them written."""
    peer.request("PUT", f"{FEDERATION}/v2/send/1", {"pdus": []}, header=header)
    assert [line["logger"] for line in written.lines() if line["event"] == "request"] == [logger]
    assert LINES_A_MINUTE[logs.STRANGERS] < LINES_A_MINUTE[logs.REQUESTS]


def test_a_refusal_has_its_code_and_only_one_line(client, db, written):
    client.get("/_matrix/federation/v9/there-is-none")
    (line,) = written.lines()
    assert (line["endpoint"], line["status"], line["errcode"]) == ("other", 404, "M_UNRECOGNIZED")
    assert "there-is-none" not in written.text


def test_signatures_bodies_and_paths_are_in_no_line(peer, joined, written):
    lpdu = peer.lpdu(joined.room_id, content={"body": SECRET})
    peer.send([lpdu.event])
    peer.request("GET", f"{FEDERATION}/v1/state/{joined.room_id}?event_id=$x")
    signature = next(iter(lpdu.event["signatures"][peer.name].values()))
    assert written.lines()
    assert not any(word in written.text for word in (SECRET, signature, joined.room_id, "X-Matrix"))


def test_the_path_at_which_a_fault_of_ours_came_up_is_in_no_line(written):
    """Django's own record has it."""
    request = RequestFactory().get("/_matrix/federation/v1/state/!room:hub.example.org")
    log_response("%s: %s", "Service Unavailable", request.path, response=HttpResponse(status=503), request=request)
    (line,) = written.lines("django.request")
    assert line["event"] == "Service Unavailable"


def test_whoever_looks_at_the_login_page_is_a_stranger(client, db, written):
    """Of the console it is the page that anybody can have."""
    client.get("/admin/login/")
    assert [line["logger"] for line in written.lines() if line["event"] == "request"] == [logs.STRANGERS]


@pytest.mark.parametrize("page", ["/admin/", "/admin/room/!r:hub.example.org/state/"])
def test_a_page_of_the_console_is_counted_as_one_and_its_reader_is_known(page, admin_client, written):
    """A room's page has the name of an endpoint."""
    admin_client.get(page)
    (line,) = written.lines(logs.REQUESTS)
    assert line["endpoint"] == "console"


# Deliveries


@pytest.mark.django_db(transaction=True)
def test_a_delivery_has_one_line_per_attempt_under_one_transaction_id(written):
    append(make_room("a", PEER), SECRET)
    run(Remote.answering(Answer(500, None)))
    OutboundTransaction.objects.get().destination.__class__.objects.update(next_attempt=None)
    run(Remote())
    failed, delivered = written.lines(logs.DELIVERIES)
    row = OutboundTransaction.objects.get()
    assert failed["txn_id"] == delivered["txn_id"] == row.txn_id
    assert failed["destination"] == delivered["destination"] == PEER
    assert [(line["attempt"], line["outcome"], line["events"]) for line in (failed, delivered)] == [
        (1, "failed", 1),
        (2, "delivered", 1),
    ]
    assert "500" in failed["error"]
    assert "error" not in delivered
    assert SECRET not in written.text


@pytest.mark.django_db(transaction=True)
def test_what_is_logged_of_a_failed_delivery_carries_its_transaction(written):
    append(make_room("a", PEER), "one")
    run(Remote.answering(Answer(500, None)))
    (warning,) = written.lines("federation.acknowledgement")
    assert warning["txn_id"] == written.lines(logs.DELIVERIES)[0]["txn_id"]


# Lines


def rendered(form, message="refused", **extra):
    record = logging.makeLogRecord({"name": "peer", "levelname": "INFO", "msg": message, **extra})
    return BoundedFormatter(form).format(record)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", ["a\nb", "\x1b[2J", "\u202e", "\ud800", "x" * 100_000])
def test_no_field_is_longer_or_wider_than_a_line_bears(value, form):
    line = rendered(form, errcode=value)
    assert line.isprintable()
    assert len(line) < MAX_FIELD + 300


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_others_bring_along_is_not_rendered(form):
    """Django's own lines have the whole request with them."""
    assert "room" not in rendered(form, request="a path with a room")


def test_a_field_cannot_pass_for_two_in_the_console():
    assert rendered("console", errcode="a status=200").endswith(' errcode="a status=200"')


def test_a_json_line_has_the_traceback_within():
    try:
        raise ValueError("one\ntwo \ud800")
    except ValueError as error:
        line = rendered("json", exc_info=(ValueError, error, error.__traceback__))
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: one\ntwo ?")


def test_a_traceback_cannot_pass_for_lines_of_the_log_nor_steer_a_terminal():
    """It may quote what a peer has sent."""
    try:
        raise ValueError("one\n2026-01-02T03:04:05.678Z INFO peer: forged\x1b[2J\rforged")
    except ValueError as error:
        _, *below = rendered("console", exc_info=(ValueError, error, error.__traceback__)).split("\n")
    assert any("peer: forged" in line for line in below)
    assert all(line.startswith("    ") and line.isprintable() for line in below)


@pytest.mark.parametrize("logger", ["anything", *LINES_A_MINUTE])
def test_each_kind_of_line_has_its_bound(logger):
    sampling = Sampling(clock=lambda: 0.0)
    most = LINES_A_MINUTE.get(logger, MAX_RECORDS)
    record = logging.makeLogRecord({"name": logger, "pathname": "place.py", "lineno": 1})
    assert sum(sampling.filter(record) for _ in range(most + 500)) == most


def test_granian_writes_its_lines_as_we_do():
    """In a file of its own: its first process loads no settings."""
    config = json.loads((PROJECT / "linmatrix" / "granian-logging.json").read_text())
    assert {name: part["()"] for name, part in (config["formatters"] | config["filters"]).items()} == {
        "line": "linmatrix.logs.from_environment",
        "sampling": "linmatrix.logs.Sampling",
    }
