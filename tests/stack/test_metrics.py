"""What a running server tells about itself, looked at from outside: two web processes, a worker and beat.

Its processes count for themselves, and a scrape reaches any of them: the sums are what is claimed here.
"""

import json
import os
import signal
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from linmatrix.monitoring import MIN_TOKEN_LENGTH
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline
from linmatrix.stack.server import Server

WITHIN_SECONDS = 3.0
"""Whatever hangs, /health/ready has answered by then."""
PATIENCE_SECONDS = 60.0
TOKEN = "t" * MIN_TOKEN_LENGTH
ELSEWHERE = {"X-Forwarded-For": "198.51.100.7"}
KEYS = "/_matrix/key/v2/server"


class Answer(NamedTuple):
    status: int
    text: str

    @property
    def content(self) -> Any:
        return json.loads(self.text)


class Watched:
    """The server, and who watches it from this machine: at the public address, or the one for metrics alone."""

    def __init__(self, server: Server, metrics_port: int) -> None:
        self.server = server
        self._metrics_port = metrics_port
        self._tls = ssl.create_default_context(cafile=str(server.authority.certificate_file))
        self._tls.check_hostname = False

    def get(
        self,
        path: str,
        *,
        metrics_port: bool = False,
        headers: Mapping[str, str] | None = None,
        version: str = "HTTP/1.1",
    ) -> Answer:
        """Over a new connection, which any of the processes may have."""
        if metrics_port:
            connection: HTTPConnection = HTTPConnection("127.0.0.1", self._metrics_port, timeout=30)
        else:
            connection = HTTPSConnection("127.0.0.1", self.server.port, timeout=30, context=self._tls)
        connection._http_vsn_str = version  # type: ignore[attr-defined]  # there is no public way
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read().decode())
        finally:
            connection.close()

    def value(self, name: str, *, metrics_port: bool = False, **labels: str) -> float:
        """The sum of a metric's values with these labels."""
        found = 0.0
        for family in text_string_to_metric_families(self.get("/metrics", metrics_port=metrics_port).text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    found += sample.value
        return found

    def asked_for_keys(self) -> float:
        return self.value("linmatrix_requests_total", endpoint="key_server", status="200")

    def web_processes(self) -> set[int]:
        """The processes that answer requests."""
        found = set()
        for process in psutil.process_iter(["cmdline", "environ"]):
            try:
                if process.environ().get("LINMATRIX_DATA_DIR") == str(self.server.folder):
                    maps = Path(f"/proc/{process.pid}/maps").read_text()
                    if f"counter_{process.pid}.db" in maps and "granian" in maps:
                        found.add(process.pid)
            except (psutil.Error, OSError):
                continue
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "metrics").mkdir()
    left_over(folder).touch()
    port = free_port()
    environment = {
        "LINMATRIX_LOG_FORMAT": "json",
        "LINMATRIX_METRICS_LISTEN": f"127.0.0.1:{port}",
        "LINMATRIX_METRICS_TOKEN_FILE": str(folder / "token"),
        "PYTHONWARNINGS": "ignore",  # Celery's, where the tests are run by root: it is no line of the log's
    }
    with Server(
        folder, server_name=f"hub.localhost:{free_port()}", web_workers=2, extra_environment=environment
    ) as server:
        watched = Watched(server, port)
        wait(lambda: watched.get("/health/ready").content["status"] == "ready", "the server is not ready")
        wait(lambda: len(watched.web_processes()) == 2, "there are not two web processes")
        yield watched


def left_over(folder: Path) -> Path:
    """What a process of an earlier start has left, whose id another one has now: ours."""
    return folder / "metrics" / f"gauge_livesum_{os.getpid()}.db"


def wait(reached: Any, otherwise: str) -> None:
    deadline = Deadline(PATIENCE_SECONDS)
    while not reached():
        assert deadline.pause(), otherwise


def test_a_scrape_of_any_process_tells_the_sum_of_all(watched: Watched) -> None:
    before = watched.asked_for_keys()
    for _ in range(12):  # new connections, which the kernel shares out
        assert watched.get(KEYS).status == 200
    for metrics_port in [False, True] * 4:
        labels = {"endpoint": "key_server", "status": "200"}
        assert watched.value("linmatrix_requests_total", metrics_port=metrics_port, **labels) == before + 12


def test_what_an_earlier_start_has_left_is_gone(watched: Watched) -> None:
    assert not left_over(watched.server.folder).exists()


def test_what_replaced_processes_have_counted_stays_and_their_gauges_go(watched: Watched) -> None:
    threads = watched.value("linmatrix_threads", kind="web")
    before, old = watched.asked_for_keys(), watched.web_processes()
    for pid in old:
        os.kill(pid, signal.SIGSTOP)  # so that none can put its affairs in order
    watched.server.kill("web")
    watched.server.start_part("web")  # which asks for the keys until it is answered
    wait(lambda: len(watched.web_processes()) == 2, "there are not two web processes")
    assert not old & watched.web_processes()
    since = watched.asked_for_keys()
    assert since > before
    assert watched.get(KEYS).status == 200
    assert watched.asked_for_keys() == since + 1
    assert watched.value("linmatrix_threads", kind="web") == threads == 32


def test_an_append_and_its_lock_are_measured_and_events_counted_by_verdict(watched: Watched) -> None:
    """A command is no process of the server's: what counts is what the server does."""
    assert watched.value("linmatrix_threads", kind="worker") == watched.server.worker_threads
    names = {family.name for family in text_string_to_metric_families(watched.get("/metrics").text)}
    assert {"linmatrix_append_seconds", "linmatrix_append_wait_seconds", "linmatrix_queue"} <= names
    assert watched.value("linmatrix_database_up") == watched.value("linmatrix_broker_up") == 1
    assert watched.value("linmatrix_database_connections", state="most") > 0


def test_a_path_that_somebody_makes_up_is_no_label(watched: Watched) -> None:
    watched.get("/_matrix/federation/v1/made-up-by-a-stranger")
    answer = watched.get("/metrics").text
    assert "made-up" not in answer
    assert watched.value("linmatrix_requests_total", endpoint="other", status="404", errcode="M_UNRECOGNIZED") >= 1


def test_what_is_refused_before_django_sees_it_is_counted(watched: Watched) -> None:
    before = watched.value("linmatrix_requests_total", endpoint="bridge", status="415")
    assert watched.get(KEYS, headers={"Content-Encoding": "gzip"}).status == 415
    assert watched.value("linmatrix_requests_total", endpoint="bridge", status="415") == before + 1


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"])
def test_metrics_are_not_for_who_comes_by_way_of_a_proxy(watched: Watched, header: str) -> None:
    assert watched.get("/metrics").status == 200
    by = {header: "for=198.51.100.7" if header == "Forwarded" else "198.51.100.7"}
    refused = watched.get("/metrics", headers=by)
    assert refused.status == 403
    assert "linmatrix_" not in refused.text


def test_metrics_are_not_for_a_proxy_that_adds_no_header_and_speaks_an_old_http(watched: Watched) -> None:
    """As nginx does unless it is told otherwise."""
    assert watched.get("/metrics", version="HTTP/1.0").status == 403


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 200), (TOKEN[:-1], 403), (TOKEN + "t", 403), ("", 403)])
def test_a_token_opens_them_from_anywhere(watched: Watched, token: str, status: int) -> None:
    answer = watched.get("/metrics", headers={**ELSEWHERE, "Authorization": f"Bearer {token}"})
    assert answer.status == status


def test_why_a_server_is_not_ready_is_not_for_everybody(watched: Watched) -> None:
    assert watched.get("/health/ready", headers=ELSEWHERE).content == {"status": "ready"}
    assert set(watched.get("/health/ready").content["checks"]) == {
        "database", "migrations", "clock", "signing_key", "broker", "worker", "beat",
    }  # fmt: skip


@pytest.mark.parametrize(("part", "status", "word"), [("postgres", 503, "not ready"), ("valkey", 200, "degraded")])
def test_ready_is_answered_in_time_when_a_service_hangs(watched: Watched, part: str, status: int, word: str) -> None:
    """Without the database nothing can be served; without the broker nothing is lost, only late."""
    watched.server.pause(part)
    try:
        wait(lambda: watched.get("/health/ready", metrics_port=True).status == status, f"{part} is not missed")
        wait(lambda: watched.get("/health/ready", metrics_port=True).content["status"] == word, f"{part} is not missed")
        assert watched.get("/health/live", metrics_port=True).status == 200
        assert watched.get("/metrics", metrics_port=True).status == 200
    finally:
        watched.server.resume(part)
    wait(lambda: watched.get("/health/ready", metrics_port=True).content["status"] == "ready", "it stays so")


def test_every_process_logs_one_json_object_per_line(watched: Watched) -> None:
    """granian's first process, which loads no Django, and Celery's own lines included."""
    watched.get(KEYS)
    watched.get(KEYS, headers={"Content-Encoding": "gzip"})  # refused before Django sees it
    loggers = {}
    for part in ("web", "worker", "beat"):
        lines = [json.loads(line) for line in watched.server.log(part).read_text().splitlines()]
        assert lines
        assert all({"timestamp", "level", "logger", "event"} <= line.keys() for line in lines)
        loggers[part] = {line["logger"] for line in lines}
        if part == "web":
            assert any(line.get("endpoint") == "bridge" and line["status"] == 415 for line in lines)
    assert {"_granian", "linmatrix.requests.strangers"} <= loggers["web"]
    assert {"celery.apps.worker", "linmatrix.metrics.process"} <= loggers["worker"]
    assert "linmatrix.metrics.process" in loggers["beat"]
