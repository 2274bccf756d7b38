"""The one ciphersuite, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, as far as an observer needs it.

That is Ed25519 with MLS's labels (RFC 9420 section 5.1.2) and SHA-256 (5.2, 17.1). Nothing here has or needs a secret.
"""

import hashlib

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.tls import Reader, opaque

VERSION = 1
"""mls10, the only version of the protocol."""

CIPHERSUITE = 1
"""MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 in the registry (RFC 9420 section 17.1)."""

PUBLIC_KEY_BYTES = 32
"""A public key, of X25519 as of Ed25519."""

MAC_BYTES = 32
"""HMAC-SHA256: what confirmation and membership tags have."""

SEALED_SECRET_BYTES = 32 + 16
"""A path secret as HPKE with AES-128-GCM seals it: as long as a hash, and the tag."""

_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""Points of X25519 whose multiples say nothing, the first bit of the last byte left out (RFC 7748 section 6.1). HPKE
refuses to seal to them: with one in the tree, no member above could commit any more."""


def digest(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def reference(label: str, value: bytes) -> bytes:
    """`RefHash` (RFC 9420 section 5.2): the name of a key package or proposal, 32 bytes."""
    return digest(opaque(b"MLS 1.0 " + label.encode("ascii")) + opaque(value))


def check_signature(key: bytes, label: str, content: bytes, signature: bytes, *, rule: Rule, whose: str) -> None:
    """`VerifyWithLabel` (RFC 9420 section 5.1.2); raises `InvalidMls` with the rule of the one whose it is."""
    message = opaque(b"MLS 1.0 " + label.encode("ascii")) + opaque(content)
    try:
        crypto_sign_open(signature + message, key)
    except (BadSignatureError, ValueError):
        raise InvalidMls(rule, f"the signature of {whose} does not verify") from None


def read_encryption_key(reader: Reader, what: str) -> bytes:
    """A public key of X25519 that others can seal to."""
    key = reader.exactly(PUBLIC_KEY_BYTES, what)
    if key[:-1] + bytes((key[-1] & 0x7F,)) in _SMALL_ORDER:
        raise InvalidMls(Rule.KEY, f"{what} is a point of small order, to which nobody can seal")
    return key


def read_version(reader: Reader) -> None:
    """The version, which must be ours."""
    version = reader.u16()
    if version != VERSION:
        raise InvalidMls(Rule.VERSION, f"version {version} of MLS instead of {VERSION}")


def read_ciphersuite(reader: Reader) -> int:
    """The ciphersuite, which must be ours."""
    ciphersuite = reader.u16()
    if ciphersuite != CIPHERSUITE:
        raise InvalidMls(Rule.CIPHERSUITE, f"ciphersuite {ciphersuite} instead of {CIPHERSUITE}")
    return ciphersuite
