"""The transcript of a group: a chain of hashes over every commit and its confirmation (RFC 9420 section 8.2)."""

from linmatrix.protocol.mls.ciphersuite import digest
from linmatrix.protocol.mls.framing import WireFormat
from linmatrix.protocol.mls.tls import opaque, u16


def confirmed_hash(interim: bytes, content: bytes, signature: bytes) -> bytes:
    """The transcript with a commit in it, by its encoded FramedContent; `interim` is the one before."""
    return digest(interim + u16(WireFormat.PUBLIC_MESSAGE) + content + opaque(signature))


def interim_hash(confirmed: bytes, confirmation_tag: bytes) -> bytes:
    """The transcript with an epoch's confirmation, from which the next one goes on."""
    return digest(confirmed + opaque(confirmation_tag))
