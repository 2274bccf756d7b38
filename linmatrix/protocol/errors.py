"""What can be wrong with a peer's input, as few exceptions as the protocol distinguishes.

The HTTP answer to each is decided in one place, `federation.errors`. Messages are for people: they
carry the numbers and names involved and never echo more than a short part of the input.
"""


class ProtocolError(Exception):
    """Base of everything the protocol refuses; `reason` is one line for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotJson(ProtocolError):
    """The bytes are not JSON at all (M_NOT_JSON)."""


class Malformed(ProtocolError):
    """JSON, but not I-JSON or not of the required schema (M_BAD_JSON); decisions 33, 35, 37."""


class TooLarge(ProtocolError):
    """An event above its size limit (decision 36)."""


class BadSignature(ProtocolError):
    """A required signature is missing, by an unknown or expired key, or does not verify."""


class Rejected(ProtocolError):
    """An authorization rule refused the event.

    `rule` is the rule's number in the draft ("5.2.4"), the part that tests and operators read first.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.reason}"


class WrongHub(ProtocolError):
    """An LPDU that names another server as its hub than the one it was sent to (decisions 11, 79)."""
