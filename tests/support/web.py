"""A web server for .well-known requests: real TLS on loopback, where tests cannot have port 443."""

import ssl
from collections.abc import Mapping
from dataclasses import replace

from linmatrix.transport.exchange import Exchange, Request, Response
from linmatrix.transport.target import Target
from linmatrix.transport.well_known import HTTPS_PORT
from tests.transport.peers import Script, ScriptedPeer, answer

WELL_KNOWN = "/.well-known/matrix/server"


def delegate(server_name: str, *headers: str) -> Script:
    """A valid answer."""
    return answer("200 OK", b'{"m.server": "%s"}' % server_name.encode(), *headers)


def redirect(location: str, status: str = "302 Found") -> Script:
    """An answer that says to look elsewhere."""
    return answer(status, b"", f"Location: {location}")


class Web(ScriptedPeer):
    """Serves pages by `host/path`; all else is not found. `pages` may be changed at any time, `visited` is in order."""

    def __init__(self, context: ssl.SSLContext, pages: Mapping[str, Script], *, address: str = "127.0.0.1") -> None:
        super().__init__(context, self._serve_page, address=address)
        self.pages = dict(pages)
        self.visited: list[str] = []

    def _serve_page(self, connection: ssl.SSLSocket, head: bytes) -> None:
        lines = head.decode().split("\r\n")
        host = next(line[6:] for line in lines if line.startswith("Host: "))
        page = host + lines[0].split(" ")[1]
        self.visited.append(page)
        self.pages.get(page, answer("404 Not Found", b"<p>Nothing here</p>"))(connection, head)


class AtPort443:
    """Sends as the exchange does, but to `port` what would go to 443; all other ports stay as they are."""

    def __init__(self, exchange: Exchange, port: int) -> None:
        self._exchange = exchange
        self._port = port

    def send(self, request: Request, *, target: Target, deadline: float) -> Response:
        """As `Exchange.send`."""
        endpoints = tuple(
            replace(endpoint, port=self._port) if endpoint.port == HTTPS_PORT else endpoint
            for endpoint in target.endpoints
        )
        return self._exchange.send(request, target=replace(target, endpoints=endpoints), deadline=deadline)
