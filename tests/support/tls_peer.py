"""A peer that can be called: a real TLS server on loopback in front of a `Peer`.

It answers for its keys and records every request; a test adds the endpoints that it is about.
"""

import json
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from django.db import connections

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.hashes import event_id
from linmatrix.protocol.signing import sign_object
from linmatrix.stack.certificates import Authority
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import HOUR_MS, Peer, now_ms


@dataclass(frozen=True)
class Request:
    """One request: `parts` are the decoded path segments after the version, the endpoint's name first."""

    method: str
    target: str
    body: bytes
    headers: dict

    @property
    def parts(self):
        segments = [unquote(part) for part in urlsplit(self.target).path.split("/")]
        return segments[5:] if segments[3] == "unstable" else segments[4:]

    @property
    def query(self):
        return parse_qs(urlsplit(self.target).query)

    @property
    def content(self):
        return json.loads(self.body)


class TlsPeer(Peer):
    """A `Peer` whose name leads to a server of ours; use it as a context manager.

    `endpoints` maps (method, endpoint) to a function of the request that returns (status, JSON object).
    """

    def __init__(self, authority: Authority, folder: Path, *, host="peer.localhost"):
        self.requests: list[Request] = []
        self.endpoints = {("GET", "server"): lambda _request: (200, self.server_keys())}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        super().__init__(f"{host}:{self._http.server_address[1]}")
        certificate = authority.issue([host], folder=folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(certificate.certificate, certificate.key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    def __enter__(self):
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def server_keys(self):
        """The answer to GET key/v2/server."""
        answer = {
            "server_name": self.name,
            "valid_until_ts": now_ms() + 12 * HOUR_MS,
            "m.linearized": True,
            "verify_keys": {self.key.key_id: {"key": encode_base64(self.key.public_key)}},
            "old_verify_keys": {},
        }
        return sign_object(answer, server=self.name, key=self.key)

    def host(self, room: PeerRoom):
        """Answer as the hub of a room: templates, joins, leaves and history."""

        def make(membership):
            def template(request):
                user_id = request.parts[2]
                event = self.event(room.room_id, type="m.room.member", content={"membership": membership})
                event |= {"sender": user_id, "state_key": user_id}
                return 200, {"event": event, "room_version": room.version}

            return template

        def send_join(request):
            pdu = room.add(lpdu=lpdu_of_request(request.content))
            state = [item.event for item in room.state_before(len(room.line) - 1)]
            chain = [item.event for item in room.line[:-1] if "state_key" in item.event]
            return 200, {"state": state, "auth_chain": chain, "event": pdu.event}

        def send_leave(request):
            room.add(lpdu=lpdu_of_request(request.content))
            return 200, {}

        def backfill(request):
            query = request.query
            return 200, {"pdus": room.backfill(query["v"][0], int(query["limit"][0]))}

        self.endpoints |= {
            ("GET", "make_join"): make("join"),
            ("GET", "make_leave"): make("leave"),
            ("POST", "send_join"): send_join,
            ("POST", "send_leave"): send_leave,
            ("GET", "backfill"): backfill,
        }

    def _answer(self, request: Request):
        self.requests.append(request)
        endpoint = self.endpoints.get((request.method, request.parts[0]))
        if endpoint is None:
            return 404, {"errcode": "M_UNRECOGNIZED", "error": "Unknown endpoint."}
        try:
            return endpoint(request)
        finally:
            connections.close_all()  # a test's endpoint may have used the database, in this thread

    def _handler(peer):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, value = peer._answer(Request(self.command, self.path, body, dict(self.headers)))
                encoded = value if isinstance(value, bytes) else canonical_json.dumps(value)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                with suppress(OSError):  # who has had enough of it hangs up
                    self.wfile.write(encoded)

            do_GET = do_PUT = do_POST = serve

            def log_message(self, *_arguments):
                return

        return Handler


def lpdu_of_request(event):
    """The LPDU of a send request, as a hub that trusts it would take it."""
    return Lpdu(event, event_id(event))
