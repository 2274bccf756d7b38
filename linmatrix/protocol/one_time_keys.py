"""One-time keys: MLS key packages and Olm keys, checked when a device uploads them and when another server gives them.

Draft sections "Key Packages" and "One Time Key Claiming"; decision 113. A key is named `algorithm:key id`. What may be
given more than once says so itself, under its device's signature: a key package by its last-resort extension, an Olm
key by `"fallback": true`.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from linmatrix.protocol import canonical_json
from linmatrix.protocol.devices import ED25519, MLS_SUITE, CheckedDevice, check_device_signature, plain
from linmatrix.protocol.encoding import decode_base64, decode_either_base64
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.mls import read_key_package
from linmatrix.protocol.signing import KEY_LENGTH

KEY_PACKAGE = f"m.mls.v1.key_package.{MLS_SUITE}"
SIGNED_CURVE25519 = "signed_curve25519"
ALGORITHMS = (KEY_PACKAGE, SIGNED_CURVE25519)
"""Those whose keys can be checked; others are refused."""

MAX_KEY_BYTES = 16 * 1024
"""Canonical bytes of a key: an MLS key package has some 300, and more with extensions."""

CLOCK_ERROR_SECONDS = 3600
"""How far ahead of ours a device's clock may be when it says from when on its key package holds."""

_KEY_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,255}")
"""Devices number their keys in base64, or name them by their hashes."""


@dataclass(frozen=True, slots=True)
class CheckedKey:
    """A key that holds. `json` is the canonical text of its value, `identity` what makes it the same key under
    whatever id and in whatever spelling; `expires_at` is in seconds since the epoch, None for never."""

    algorithm: str
    key_id: str
    json: str
    identity: bytes
    reusable: bool
    expires_at: int | None


def split_key_id(name: str) -> tuple[str, str]:
    """Algorithm and id of a key from its name. Raises `Malformed` for another algorithm than those known here."""
    algorithm, _, key_id = name.partition(":")
    if algorithm not in ALGORITHMS:
        raise _unknown(algorithm)
    if not _KEY_ID.fullmatch(key_id):
        raise Malformed(f"a key of the algorithm {algorithm} has no usable id")
    return algorithm, key_id


def check_key(name: str, value: object, *, device: CheckedDevice, now: float, reusable: bool) -> CheckedKey:
    """Check the key `name` that a device uploads, at `now` (seconds), among those that may be reused or those that
    may not.

    Raises `Malformed` for what is no such key, is another device's or has expired, `BadSignature` where the device has
    not signed it, and what else `read_key_package` refuses.
    """
    algorithm, key_id = split_key_id(name)
    key = check_value(algorithm, key_id, value, device=device, now=now)
    if reusable and not key.reusable:
        raise Malformed(f"the key {name} does not say that it may be used more than once")
    if not reusable and key.reusable and algorithm == SIGNED_CURVE25519:
        raise Malformed(f"the key {name} is a fallback key, and not among those")
    return key


def check_value(algorithm: str, key_id: str, value: object, *, device: CheckedDevice, now: float) -> CheckedKey:
    """Check a key's value whatever its id, as a claim's answer has it. Raises as `check_key`."""
    content = plain(value)
    if isinstance(content, dict):
        content.pop("unsigned", None)
    text = canonical_json.dumps(content)
    if len(text) > MAX_KEY_BYTES:
        raise Malformed(f"the key has {len(text)} bytes; at most {MAX_KEY_BYTES} are taken")
    if algorithm == KEY_PACKAGE:
        return _key_package(key_id, content, text.decode(), device, now)
    if algorithm == SIGNED_CURVE25519:
        return _signed_curve25519(key_id, content, text.decode(), device)
    raise _unknown(algorithm)


def _unknown(algorithm: str) -> Malformed:
    return Malformed(f"keys of the algorithm {algorithm[:100]!r} are not known here")


def _key_package(key_id: str, content: Any, text: str, device: CheckedDevice, now: float) -> CheckedKey:
    if device.credential is None:
        raise Malformed("the device has no credential that its key package could carry")
    package = read_key_package(decode_either_base64(content, at_most=MAX_KEY_BYTES))
    if tuple(package.device) != (device.user_id, device.device_id):
        raise Malformed("the key package is another device's")
    if package.signature_key != device.credential.signature_key:
        raise Malformed("the key package has another signature key than its device")
    if package.not_after <= now:
        raise Malformed("the key package has expired")
    if package.not_before > now + CLOCK_ERROR_SECONDS:
        raise Malformed("the key package is not valid yet")
    return CheckedKey(KEY_PACKAGE, key_id, text, package.reference, package.last_resort, package.not_after)


def _signed_curve25519(key_id: str, content: Any, text: str, device: CheckedDevice) -> CheckedKey:
    if device.ed25519_key is None:
        raise BadSignature("the device has no ed25519 key that could have signed the key")
    if not isinstance(content, dict):
        raise Malformed("the key is not a JSON object")
    public = decode_base64(content.get("key"), length=KEY_LENGTH)
    fallback = content.get("fallback", False)
    if not isinstance(fallback, bool):
        raise Malformed("fallback is neither true nor false")
    signer = f"{ED25519}:{device.device_id}"
    check_device_signature(content, device.ed25519_key, user_id=device.user_id, key_id=signer)
    identity = hashlib.sha256(public).digest()
    return CheckedKey(SIGNED_CURVE25519, key_id, text, identity, fallback, None)
