"""Another server as our views see it: its key, the LPDUs and PDUs it signs, its signed requests.

`Peer.publish` puts its key where an answer of that server would have put it, so no request goes out.
"""

import hashlib
import time
from urllib.parse import quote

from django.test import Client

from keys.fetchers import parse_server_keys
from keys.history import store
from linmatrix.bridge import build_environ, call_wsgi
from linmatrix.protocol import canonical_json, completion
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.request_auth import authorization
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.protocol.signing import SigningKey, sign_object
from linmatrix.wsgi import application

US = "hub.example.org"
FEDERATION = "/_matrix/federation"
UNSTABLE = f"{FEDERATION}/unstable/{UNSTABLE_PREFIX}"
HOUR_MS = 3600 * 1000


def now_ms():
    return int(time.time() * 1000)


class Peer:
    """A server with a name and a key, that knows how to ask us."""

    def __init__(self, name, *, key_id="ed25519:1"):
        self.name = name
        self.key = SigningKey.from_seed(key_id, hashlib.sha256(name.encode()).digest())
        self.client = Client(raise_request_exception=False)
        self._txn = 0

    def user(self, localpart):
        return f"@{localpart}:{self.name}"

    def publish(self, *, valid_for_ms=12 * HOUR_MS, old_keys=None):
        """Let us know this server's key as if we had just asked for it."""
        answer = {
            "server_name": self.name,
            "valid_until_ts": now_ms() + valid_for_ms,
            "verify_keys": {self.key.key_id: {"key": encode_base64(self.key.public_key)}},
            "old_verify_keys": old_keys or {},
        }
        signed = canonical_json.dumps(sign_object(answer, server=self.name, key=self.key))
        store(parse_server_keys(signed, server=self.name, now_ms=now_ms()), now_ms=now_ms())
        return self

    def event(self, room_id, *, localpart="user", type="m.room.message", content=None, state_key=None, ts=None):
        """A new event of one of this server's users, not signed yet."""
        return completion.new_event(
            room_id=room_id,
            sender=self.user(localpart),
            type=type,
            content={"body": "hello"} if content is None else content,
            origin_server_ts=now_ms() if ts is None else ts,
            state_key=state_key,
        )

    def lpdu(self, room_id, *, hub=US, **fields) -> Lpdu:
        """A signed LPDU of one of this server's users."""
        return completion.make_lpdu(self.event(room_id, **fields), hub_server=hub, key=self.key)

    def join(self, room_id, localpart="user", *, hub=US) -> Lpdu:
        """A signed join."""
        member = self.user(localpart)
        return self.lpdu(
            room_id,
            hub=hub,
            localpart=localpart,
            type="m.room.member",
            content={"membership": "join"},
            state_key=member,
        )

    def headers(self, method, target, body, *, destination=US, key=None, origin=None):
        """The Authorization header of a request; `body` bytes are signed as they are."""
        content = canonical_json.loads(body) if body else {}
        return authorization(
            method=method,
            uri=target,
            origin=origin or self.name,
            destination=destination,
            content=content,
            key=key or self.key,
        )

    def request(self, method, target, content=None, *, raw=None, header=None):
        """Send a signed request; `raw` is a body that need not be JSON, `header` replaces the signature."""
        body = raw if raw is not None else b"" if content is None else canonical_json.dumps(content)
        if header is None:
            header = self.headers(method, target, body if raw is None else b"")
        path, _, query = target.partition("?")
        return self.client.generic(
            method,
            "/",
            data=body,
            content_type="application/json",
            PATH_INFO=path,
            QUERY_STRING=query,
            RAW_URI=target,
            HTTP_AUTHORIZATION=header,
        )

    def through_bridge(self, method, target, content):
        """Send a signed request as the web server's process gets it; the whole answer."""
        body = canonical_json.dumps(content)
        path, _, query = target.partition("?")
        headers = {"host": US, "authorization": self.headers(method, target, body), "content-type": "application/json"}
        scope = {
            "method": method,
            "http_version": "1.1",
            "raw_path": path.encode(),
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        return call_wsgi(application, build_environ(scope, body))

    def send(self, pdus, *, txn_id=None, stable=True, **request):
        """Send a transaction."""
        self._txn += 1
        target = f"{FEDERATION}/v2/send/" if stable else f"{UNSTABLE}/send/"
        target += quote(txn_id or f"{self.name}-{self._txn}", safe="")
        return self.request("PUT", target, {"pdus": pdus, "edus": []}, **request)

    def get(self, endpoint, *parts, version="v2", query=""):
        """Send a GET request with path parameters."""
        target = "/".join([FEDERATION, version, endpoint, *(quote(part, safe="") for part in parts)])
        return self.request("GET", target + (f"?{query}" if query else ""))
