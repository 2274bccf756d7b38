"""A whole server: it answers, its parts end and start one by one, and nothing is left of it at the end."""

import io
from pathlib import Path

import psutil
import pycurl
import pytest

from linmatrix.stack.errors import StackError
from linmatrix.stack.ports import free_port
from linmatrix.stack.processes import Deadline
from linmatrix.stack.run import server_from
from linmatrix.stack.server import PROCESSES, Server

# Services that are not embedded.
ELSEWHERE = {"DATABASE_URL": "postgres://me@db.example.org/linmatrix", "REDIS_URL": "redis://redis.example.org/0"}
EVERY_PART = ("postgres", "valkey", *PROCESSES)


def status(server: Server, path: str) -> int:
    """The status of a GET by its name, verified with its authority, over HTTP/2."""
    curl = pycurl.Curl()
    try:
        curl.setopt(pycurl.URL, server.base_url + path)
        curl.setopt(pycurl.CAINFO, str(server.authority.certificate_file))
        curl.setopt(pycurl.RESOLVE, [f"{server.hostname}:{server.port}:127.0.0.1"])
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.WRITEDATA, io.BytesIO())
        curl.perform()
        return int(curl.getinfo(pycurl.RESPONSE_CODE))
    finally:
        curl.close()


def test_the_life_of_a_server(tmp_path: Path) -> None:
    with Server(tmp_path, server_name=f"hub.localhost:{free_port()}") as server:
        assert all(server.alive(part) for part in EVERY_PART)
        assert status(server, "/_matrix/key/v2/server") == 200
        assert status(server, "/admin/login/") == 200
        assert status(server, "/static/admin/css/base.css") == 200

        server.kill("web")
        server.check()  # an end that was asked for is no failure
        assert not server.alive("web")
        server.start_part("web")
        assert status(server, "/_matrix/key/v2/server") == 200

        server.restart("postgres")
        server.restart("valkey")
        assert status(server, "/admin/login/") == 200

        with pytest.raises(StackError, match="in use by another linmatrix"):
            Server(tmp_path, server_name=server.server_name).start()
        with pytest.raises(StackError, match=f"Port {server.port} is taken"):
            Server(tmp_path / "other", server_name=server.server_name).start()
    left = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])]
    assert left == []


def test_a_part_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    server = Server(
        tmp_path, server_name=f"hub.localhost:{free_port()}", database_url="postgres://nobody@127.0.0.1:1/x"
    )
    try:
        server.start_part("valkey")
        server.start_part("beat")
        psutil.Process(_pid_with(str(tmp_path / "beat-schedule"))).kill()
        wait_until_ended(server, "beat")
        with pytest.raises(StackError, match="beat ended with signal 9"):
            server.watch()
    finally:
        server.stop()


def test_run_is_configured_by_the_environment(tmp_path: Path) -> None:
    server = server_from(
        {
            "LINMATRIX_DATA_DIR": str(tmp_path),
            "LINMATRIX_SERVER_NAME": "example.org:1234",
            **ELSEWHERE,
        }
    )
    environment = server.environment()
    assert (server.hostname, server.port) == ("example.org", 1234)
    assert {name: environment[name] for name in ELSEWHERE} == ELSEWHERE
    assert environment["LINMATRIX_ALLOW_PRIVATE_ADDRESSES"] == "0"


def test_development_names_may_reach_loopback(tmp_path: Path) -> None:
    server = server_from({"LINMATRIX_DATA_DIR": str(tmp_path), **ELSEWHERE})
    assert server.server_name == "linmatrix.localhost:8448"
    assert server.environment()["LINMATRIX_ALLOW_PRIVATE_ADDRESSES"] == "1"


def test_a_name_that_nobody_could_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="cannot be a server's name"):
        Server(tmp_path, server_name="1.2.3.4")


def wait_until_ended(server: Server, part: str) -> None:
    deadline = Deadline(30)
    while server.alive(part):
        assert deadline.pause(), f"{part} is still running"


def _pid_with(argument: str) -> int:
    processes = psutil.process_iter(["cmdline"])
    return next(process.pid for process in processes if argument in (process.info["cmdline"] or []))
