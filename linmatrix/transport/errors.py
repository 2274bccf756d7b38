"""How an outbound request can fail, as few exceptions as callers treat differently.

`reason` is one line for the operator of this server. It may name internal addresses, so it belongs in logs and in
the admin pages, never in an answer to a peer.
"""


class TransportError(Exception):
    """Base of every failure of an outbound request that is not an HTTP response."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreachable(TransportError):
    """No usable response: no address, no connection, a bad certificate, a broken or late answer."""


class NotConnected(Unreachable):
    """No verified connection came about, so the peer has seen nothing of the request."""


class ResponseTooLarge(TransportError):
    """The response's headers or body passed the limit; the rest was not read."""
