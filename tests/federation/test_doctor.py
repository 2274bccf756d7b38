"""The doctor says in plain words what is wrong with a server: each claim against a real server that has the fault.

What stands at our own name is a TLS server that publishes our keys, unless the test is about its doing otherwise.
"""

import json
import time
from datetime import UTC, datetime
from email.utils import formatdate
from io import StringIO
from pathlib import Path

import pytest
import trustme
from django.core.management import call_command

from federation.doctor import inside, names, peer
from federation.doctor.examination import outside
from keys.local import server_keys
from linmatrix.health import pulse
from linmatrix.stack.certificates import ServerCertificate
from linmatrix.transport.errors import NotConnected
from linmatrix.transport.exchange import Response
from tests.scenarios.waiting import eventually
from tests.settings import TEST_AUTHORITY
from tests.support.tls_peer import TlsPeer

UNKNOWN = (404, {"errcode": "M_NOT_FOUND", "error": "no such event"})


@pytest.fixture
def ours(settings, tmp_path):
    """Makes a TLS server, and our name the one that leads to it."""
    started = []

    def make(*, authority=TEST_AUTHORITY):
        server = TlsPeer(authority, tmp_path / "ours", host="ours.localhost")
        settings.SERVER_NAME = server.name
        server.endpoints["GET", "server"] = lambda _request: (200, server_keys(int(time.time() * 1000)))
        started.append(server.__enter__())
        return server

    yield make
    for server in started:
        server.__exit__()


def wrong(findings):
    """What has to be put right: subject, what is said, advice."""
    return [(found.subject, found.says, found.advice) for found in findings if not found.ok]


class Issuer:
    """An authority whose certificates have a fault."""

    def __init__(self, settings, tmp_path: Path, *, name="ours.localhost", **options):
        self.authority = trustme.CA()
        self.name, self.options = name, options
        self.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        settings.CA_FILE = str(tmp_path / "ca.pem")

    def issue(self, _names, *, folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = ServerCertificate(folder / "server.pem", folder / "server.key")
        leaf = self.authority.issue_cert(self.name, **self.options)
        leaf.cert_chain_pems[0].write_to_path(str(files.certificate))
        leaf.private_key_pem.write_to_path(str(files.key))
        return files


# From outside


def test_a_server_that_is_as_it_should_be_is_told_so(ours):
    ours()
    found = list(outside())
    assert wrong(found) == []
    assert {"certificate", "keys", "clock"} <= {item.subject.split()[0] for item in found}


def test_an_expired_certificate_is_told_with_its_day(settings, ours, tmp_path):
    ours(authority=Issuer(settings, tmp_path, not_after=datetime(2020, 1, 2, tzinfo=UTC)))
    (subject, says, advice), *_ = wrong(outside())
    assert subject.startswith("certificate at 127.0.0.1:")
    assert says == "it expired on 2020-01-02"
    assert advice.startswith("Renew it")


def test_a_certificate_for_another_name_is_told_with_both_names(settings, ours, tmp_path):
    ours(authority=Issuer(settings, tmp_path, name="other.localhost"))
    (_, says, advice), *_ = wrong(outside())
    assert says == "it is for other.localhost, not for ours.localhost"
    assert advice == "Get a certificate for ours.localhost."


def test_a_certificate_that_nobody_trusts_is_told(settings, ours, tmp_path):
    issuer = Issuer(settings, tmp_path)
    settings.CA_FILE = str(TEST_AUTHORITY.certificate_file)
    ours(authority=issuer)
    (_, says, advice), *_ = wrong(outside())
    assert "issued by" in says
    assert "that others trust" in advice


def test_a_key_that_is_not_ours_is_told(ours):
    server = ours()
    server.endpoints["GET", "server"] = lambda _request: (200, server.server_keys())
    ((subject, says, advice),) = wrong(outside())
    assert subject == f"keys that {server.name} publishes"
    assert "which signs here, is not among them" in says
    assert "Another server answers under our name" in advice


def test_keys_of_another_server_are_told(settings, ours):
    server = ours()
    answer = server_keys(int(time.time() * 1000)) | {"server_name": "somebody.example.org"}
    server.endpoints["GET", "server"] = lambda _request: (200, answer)
    ((_, says, _),) = wrong(outside())
    assert says == "they are those of 'somebody.example.org'"


def test_a_port_where_nobody_listens_is_told(settings, ours):
    server = ours()
    server.__exit__()
    server.__exit__ = lambda *_: None
    said = [says for _, says, _ in wrong(outside())]
    assert "no TLS connection" in said[0]
    assert "connection refused" in said[-1]


@pytest.mark.parametrize(("hours", "which"), [(-1, "ahead of"), (1, "behind")])
def test_clocks_that_differ_are_told(ours, hours, which):
    server = ours()
    handler = server._http.RequestHandlerClass
    handler.date_time_string = lambda _self, _timestamp=None: formatdate(time.time() + 3600 * hours, usegmt=True)
    ((subject, says, _),) = wrong(outside())
    assert subject == "clock"
    assert says.startswith("ours is 36") or says.startswith("ours is 35")
    assert which in says


# .well-known


class Web:
    """A web server that has this answer for everybody, or none."""

    def __init__(self, body: bytes | None):
        self.body = body

    def send(self, _request, *, target, deadline):
        if self.body is None:
            raise NotConnected("connection refused")
        return Response(200, {}, self.body)


@pytest.mark.parametrize(
    ("ours", "body", "said"),
    [
        ("matrix.example.org", b'{"m.server": "matrix.example.org"}', []),
        ("matrix.example.org", b'{"m.server": "old.example.org"}', ["it says old.example.org"]),
        ("matrix.example.org", b"<html>", ["it is not JSON"]),
        ("matrix.example.org", None, ["connection refused"]),
        ("", None, []),
        ("", b'{"m.server": "elsewhere.example.org"}', []),
    ],
)
def test_a_delegation_is_what_the_settings_say(settings, ours, body, said):
    settings.SERVER_NAME, settings.WELL_KNOWN_SERVER = "ours.localhost", ours
    found = [says for _, says, _ in wrong(names.look_at_well_known(web=Web(body)))]
    assert len(found) == len(said)
    assert all("LINMATRIX_WELL_KNOWN_SERVER is matrix.example.org" in text for text in found)
    if said and body != b"<html>":
        assert found[0].startswith(said[0])


def test_a_delegation_of_a_name_with_a_port_is_told_since_nobody_asks_for_it(settings):
    settings.SERVER_NAME, settings.WELL_KNOWN_SERVER = "ours.localhost:8448", "matrix.example.org"
    ((_, says, _),) = wrong(names.look_at_well_known(web=Web(None)))
    assert "has a port" in says


# From inside


def findings_about(subject):
    return [found for found in inside.look() if found.subject == subject]


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_down_is_told_and_one_that_lives_is_not(settings):
    settings.SERVER_NAME = f"doctor{time.time_ns()}.example.org"
    ((_, says, advice),) = eventually(lambda: wrong(findings_about("worker")), "the worker is missed")
    assert says.startswith("no sign of life")
    assert advice.startswith("Start a worker")
    pulse.give(pulse.WORKER)
    eventually(lambda: not wrong(findings_about("worker")), "the worker is seen")


@pytest.mark.django_db(transaction=True)
def test_a_key_file_that_others_may_read_is_told(settings, tmp_path):
    file = tmp_path / "elsewhere-secret"
    settings.SECRET_KEY_FILE = file
    file.write_text("x")
    for mode, expected in ((0o640, 1), (0o600, 0)):
        file.chmod(mode)
        assert len(wrong(findings_about("elsewhere-secret"))) == expected


# A peer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (UNKNOWN, None),
        ((403, {"errcode": "M_FORBIDDEN", "error": "not yours"}), None),
        ((401, {"errcode": "M_FORBIDDEN", "error": "bad signature"}), "cannot check our signature"),
        ((404, {"errcode": "M_UNRECOGNIZED", "error": "what?"}), "does not know this endpoint"),
        ((429, {"errcode": "M_LIMIT_EXCEEDED", "error": "slow down"}), "try again later"),
        ((502, {}), "not as a server should"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_a_peer_answers_to_a_signed_request_is_put_into_words(tls_peer, answer, said):
    tls_peer.endpoints["GET", "event"] = lambda _request: answer
    found = wrong(peer.look(tls_peer.name))
    assert [subject for subject, *_ in found] == ([] if said is None else [f"a signed request to {tls_peer.name}"])
    assert said is None or said in found[0][2]


def test_a_peer_that_there_is_not_ends_the_looking(db):
    ((subject, _, advice),) = wrong(peer.look("nobody.invalid"))
    assert subject == "where nobody.invalid leads"
    assert advice


# The command


def run(*arguments):
    out, status = StringIO(), 0
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as end:
        status = end.code
    return status, out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_the_command_ends_with_1_when_anything_is_wrong_and_says_what(ours):
    server = ours()
    server.endpoints["GET", "server"] = lambda _request: (200, server.server_keys())
    status, text = run()
    assert status == 1
    assert "Another server answers under our name" in text.replace("\n", " ")
    status, text = run("--json")
    assert status == 1
    rows = [json.loads(line) for line in text.splitlines()]
    assert {row["about"] for row in rows} == {"Inside", "Outside"}
    assert [row["subject"] for row in rows if not row["ok"] and row["about"] == "Outside"] == [
        f"keys that {server.name} publishes"
    ]


@pytest.mark.parametrize(
    ("name", "said"), [("no name", "cannot be a server's name"), ("hub.example.org", "is this server")]
)
def test_a_name_that_cannot_be_a_peer_s_is_refused(settings, capsys, name, said):
    settings.SERVER_NAME = "hub.example.org"
    assert run(name)[0] == 1
    assert said in capsys.readouterr().err
