"""The front of a deployment: Caddy with deploy/Caddyfile, before a real granian that answers with what it was given.

X-Matrix signs the request target byte for byte, so what is asked for must arrive as it was sent, whatever a URL means.
"""

import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from linmatrix.stack import commands
from linmatrix.stack.certificates import Authority
from linmatrix.stack.processes import Deadline, Process
from linmatrix.stack.server import PROJECT
from linmatrix.transport.exchange import Exchange, Request, Response
from linmatrix.transport.target import Endpoint, Target
from linmatrix.transport.trust import TrustStore
from tests.stack.granian import ECHO
from tests.support.front import Front, listens, needs_caddy

pytestmark = needs_caddy

HOST = "front.localhost"
WEB = "127.0.1.1"
SECONDS = 60.0


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    authority = Authority(folder / "ca")
    outsiders = {"LINMATRIX_ADMIN_NETWORKS": "192.0.2.0/24"}  # where no test comes from
    with Front(folder, host=HOST, authority=authority, **outsiders) as front:
        command = commands.web(host=WEB, port=front.web_port, workers=1, static=folder, stop_seconds=5)
        web = Process("web", [sys.executable, *command[:-1], ECHO], log=folder / "web.log", cwd=PROJECT)
        web.start()
        deadline = Deadline(SECONDS)
        while not listens(WEB, front.web_port):
            web.require_alive()
            assert deadline.pause(), web.last_lines()
        front.add(WEB)
        try:
            yield front
        finally:
            web.stop()


def ask(front: Front, target: str, *, method: str = "GET", body: bytes | None = None) -> Response:
    """As a server of ours asks another one."""
    trust = TrustStore(str(front.authority.certificate_file))
    exchange = Exchange(user_agent="test", trust=trust, allow_tls12=False)
    where = Target(HOST, f"{HOST}:{front.port}", (Endpoint("127.0.0.1", front.port),))
    headers = {"X-Forwarded-For": "203.0.113.9", "Authorization": "X-Matrix origin=a"}
    request = Request(method=method, target=target, headers=headers, body=body, max_response_bytes=1_000_000)
    return exchange.send(request, target=where, deadline=time.monotonic() + SECONDS)


def echoed(response: Response) -> dict[str, Any]:
    assert response.status == 200, response.body
    result: dict[str, Any] = json.loads(response.body)
    return result


TARGETS = [
    "/_matrix/federation/v3/event/%24a%2Fb",
    "/_matrix/federation/v3/event/%24a%2fb",
    "/_matrix/federation/v3/state/%21room%3Ahub.example.org?event_id=%24x",
    "/_matrix/federation/v3/state/!room:hub.example.org?event_id=$x",
    "/_matrix/federation/v3/make_join/%21a%3Ab/%40user%3Ac?ver=I.1&ver=x",
    "/_matrix/federation/v3/send/a%20b+c?x=%2F;y&z=a|b",
    "/_matrix/federation/v3/send/%C3%A4%00%ff",
    "/_matrix//federation/./v3/../send/x//",
    "/_matrix/federation/v3/event/%41%7e~",
    "/_matrix/federation/v3/send/x?",
    "/_matrix/federation/v3/send/a'(b)*,;=@",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_arrives_byte_for_byte(front: Front, target: str) -> None:
    assert echoed(ask(front, target))["RAW_URI"] == target.removesuffix("?")


def test_host_and_credentials_arrive_and_a_claim_about_the_client_does_not(front: Front) -> None:
    given = echoed(ask(front, "/_matrix/x", method="PUT", body=b"{}"))
    assert (given["HTTP_HOST"], given["HTTP_AUTHORIZATION"]) == (f"{HOST}:{front.port}", "X-Matrix origin=a")
    assert given["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert given["HTTP_X_FORWARDED_PROTO"] == "https"
    assert given["body"] == len(b"{}")


def test_a_large_body_arrives_whole(front: Front) -> None:
    assert echoed(ask(front, "/_matrix/federation/v3/send/x", method="PUT", body=b"x" * 5_000_000))["body"] == 5_000_000


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/health/ready", "/health/live", "/admin/", "/static/x.css"])
def test_what_is_for_the_inside_is_not_there_for_strangers(front: Front, path: str) -> None:
    assert ask(front, path).status == 404


def test_the_twin_of_those_is_there(front: Front) -> None:
    assert ask(front, "/_matrix/metrics").status == 200


def test_only_tls_1_3_is_spoken(front: Front) -> None:
    context = ssl.create_default_context(cafile=str(front.authority.certificate_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    plain = socket.create_connection(("127.0.0.1", front.port), timeout=SECONDS)
    with plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=HOST)


def test_clients_that_are_slow_hold_up_nobody(front: Front) -> None:
    """More of them, at each step, than granian has threads here (two): others are answered all the same."""
    context = ssl.create_default_context(cafile=str(front.authority.certificate_file))
    held: list[socket.socket] = []
    try:
        for _ in range(20):
            held.append(socket.create_connection(("127.0.0.1", front.port), timeout=SECONDS))  # no hello
            for begun in (
                b"PUT /_matrix/x HTTP/1.1\r\nHost: fr",
                b"PUT /_matrix/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1",
            ):
                plain = socket.create_connection(("127.0.0.1", front.port), timeout=SECONDS)
                tls = context.wrap_socket(plain, server_hostname=HOST)
                tls.sendall(begun.replace(b"Host: a", f"Host: {HOST}:{front.port}".encode()))
                held.append(tls)
        assert echoed(ask(front, "/_matrix/y", method="PUT", body=b"{}"))["RAW_URI"] == "/_matrix/y"
    finally:
        for connection in held:
            connection.close()
