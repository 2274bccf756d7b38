"""Unpadded base64 as the draft uses it (section "Unpadded Base64", decision 22)."""

import base64
import binascii

from linmatrix.protocol.errors import Malformed


def encode_base64(data: bytes) -> str:
    """Standard alphabet, no padding: signatures, keys and content hashes."""
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def encode_base64url(data: bytes) -> str:
    """URL-safe alphabet, no padding: event ids."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: object, *, length: int) -> bytes:
    """`length` bytes from standard base64, padded or not.

    Raises `Malformed` for another type, a character outside of the alphabet (a lenient decoder would
    skip it, and two texts would mean one signature), or another number of bytes.
    """
    if not isinstance(text, str):
        raise Malformed("base64 is not a string")
    try:
        data = binascii.a2b_base64(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise Malformed("invalid base64") from None
    if len(data) != length:
        raise Malformed(f"base64 holds {len(data)} bytes instead of {length}")
    return data


_URL_SAFE = str.maketrans("-_", "+/")


def decode_either_base64(text: object, *, at_most: int) -> bytes:
    """Up to `at_most` bytes from base64 of the standard or the URL-safe alphabet, padded or not.

    For what devices make and servers only look at: MLS messages, key packages and credentials, which clients encode
    as their libraries do. Raises `Malformed`.
    """
    if not isinstance(text, str):
        raise Malformed("base64 is not a string")
    if len(text) > at_most * 4 // 3 + 4:
        raise Malformed(f"base64 holds more than {at_most} bytes")
    bare = text.rstrip("=").translate(_URL_SAFE)
    try:
        data = binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise Malformed("invalid base64") from None
    if len(data) > at_most:
        raise Malformed(f"base64 holds more than {at_most} bytes")
    return data
