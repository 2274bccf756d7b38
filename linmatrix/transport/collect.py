"""Take in a response as libcurl hands it over, and stop it when it grows past what we are ready to hold."""

import pycurl


class Collector:
    """The headers and body of one response. `overflow` says what passed its limit, empty while nothing has."""

    def __init__(self, *, max_header_bytes: int, max_body_bytes: int) -> None:
        self.headers: dict[str, str] = {}
        self.overflow = ""
        self._chunks: list[bytes] = []
        self._header_room = max_header_bytes
        self._body_room = max_body_bytes
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._final = False
        self._complete = False

    def attach(self, handle: pycurl.Curl) -> None:
        """Have `handle` deliver its next response here."""
        handle.setopt(pycurl.HEADERFUNCTION, self._on_header)
        handle.setopt(pycurl.WRITEFUNCTION, self._on_body)

    def take_body(self) -> bytes:
        """The body; it is not kept here, since the handle keeps this object until its next request."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    # Both callbacks return the number of bytes taken; any other number makes libcurl abandon the transfer.

    def _on_header(self, line: bytes) -> int:
        self._header_room -= len(line)
        if self._header_room < 0:
            self.overflow = f"more than {self._max_header_bytes} bytes of headers"
            return 0
        if self._complete:
            return len(line)  # a trailer: nothing in the protocol uses one, and it must not pass for a header
        if line.startswith(b"HTTP/"):
            self.headers.clear()  # what came before belonged to an interim response (1xx)
            self._final = not line.partition(b" ")[2].startswith(b"1")
        elif line.strip():
            self._add(line)
        else:
            self._complete = self._final
        return len(line)

    def _add(self, line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            return
        name, value = name.strip().lower(), value.strip()
        self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value

    def _on_body(self, chunk: bytes) -> int:
        self._body_room -= len(chunk)
        if self._body_room < 0:
            self.overflow = f"more than {self._max_body_bytes} bytes of body"
            return 0
        self._chunks.append(chunk)
        return len(chunk)
