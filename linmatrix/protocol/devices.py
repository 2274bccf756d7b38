"""Device objects: what a device says of itself and signs, checked alike wherever it comes from.

Draft sections "Device Credentials" and "Device Info Publishing"; decisions 8, 110 and 112; threats T62 and T65. The
draft's device object and Matrix's DeviceKeys are one shape, so one check serves devices that speak MLS, Olm or both.
An object that passes can be stored, served and put into updates as it is: what only half fits is refused here, at the
door, and not when another server is to be told of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64, decode_either_base64
from linmatrix.protocol.errors import BadSignature, Malformed, ProtocolError
from linmatrix.protocol.identifiers import is_device_id, is_user_id
from linmatrix.protocol.mls.credential import Credential, read_credential
from linmatrix.protocol.signing import KEY_LENGTH, SIGNATURE_LENGTH, object_bytes

MAX_DEVICE_BYTES = 64 * 1024
"""Canonical bytes of a device object (threat T62); real ones have about 700."""

MAX_DEVICES = 500
"""Devices of one user that are kept and told of (threat T62)."""

MAX_ALGORITHMS = 64
"""Algorithms of a device, and keys of it: some dozens of ciphersuites could be told apart."""

MAX_NAME_LENGTH = 255
"""Characters in the name of an algorithm."""

MAX_CREDENTIAL_BYTES = 1024
"""Two ids of 255 characters, a key of 32 bytes and their lengths have 548."""

MLS_SUITE = "dhkemx25519-aes128gcm-sha256-ed25519"
MLS_ALGORITHM = f"m.mls.v1.{MLS_SUITE}"
MLS_CREDENTIAL = "m.mls.v1.credential.ed25519"
ED25519 = "ed25519"
CURVE25519 = "curve25519"

_ALGORITHM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REQUIRED = ("user_id", "device_id", "algorithms", "keys", "signatures")


@dataclass(frozen=True, slots=True)
class CheckedDevice:
    """A device object that holds. `json` is its canonical text without `unsigned`; the signing keys are those that
    signed it, None where the device has none of the kind."""

    user_id: str
    device_id: str
    algorithms: tuple[str, ...]
    credential: Credential | None
    ed25519_key: bytes | None
    json: str


def check_device(value: object, *, user_id: str, device_id: str) -> CheckedDevice:
    """Check a device object that stands, or is to stand, for `device_id` of `user_id`.

    Raises `Malformed` for what is no such object, or is another device's, and `BadSignature` where one of its signing
    keys has not signed it (decision 112): those of MLS and Olm can, a key for agreement cannot.
    """
    device = plain(value)
    if not isinstance(device, dict):
        raise Malformed("a device is not a JSON object")
    device.pop("unsigned", None)
    if missing := [name for name in _REQUIRED if name not in device]:
        raise Malformed(f"the device has no {missing[0]}")
    if not is_user_id(user_id) or device["user_id"] != user_id:
        raise Malformed("the device is another user's")
    if not is_device_id(device_id) or device["device_id"] != device_id:
        raise Malformed("the device has another id than its place says, or none that a device can have")
    text = canonical_json.dumps(device)
    if len(text) > MAX_DEVICE_BYTES:
        raise Malformed(f"the device has {len(text)} bytes; at most {MAX_DEVICE_BYTES} are taken")
    algorithms = _algorithms(device["algorithms"])
    keys = _keys(device["keys"], device_id)
    credential = _credential(keys, user_id, device_id)
    if MLS_ALGORITHM in algorithms and credential is None:
        raise Malformed(f"the device supports {MLS_ALGORITHM} and has no {MLS_CREDENTIAL} key")
    ed25519_key = decode_base64(keys[ED25519], length=KEY_LENGTH) if ED25519 in keys else None
    if CURVE25519 in keys:
        decode_base64(keys[CURVE25519], length=KEY_LENGTH)
    _check_signatures(device, {MLS_CREDENTIAL: credential and credential.signature_key, ED25519: ed25519_key})
    return CheckedDevice(user_id, device_id, algorithms, credential, ed25519_key, text.decode())


def plain(value: object) -> Any:
    """A copy of a JSON value, made by writing and reading it as everywhere: what cannot be sent is refused when it
    comes in (threat T65), and what is checked is what is stored. Raises `Malformed`."""
    try:
        return canonical_json.loads(canonical_json.dumps(value), max_depth=canonical_json.MAX_CONTENT_DEPTH)
    except ProtocolError as error:
        raise Malformed(error.reason) from None
    except (ValueError, TypeError, RecursionError):
        raise Malformed("it cannot be written as JSON") from None


def check_device_signature(value: Mapping[str, Any], key: bytes, *, user_id: str, key_id: str) -> None:
    """Check that the device's `key` signed an object, under its user and `key_id`. Raises `BadSignature`."""
    signatures = value.get("signatures")
    of_user = signatures.get(user_id) if isinstance(signatures, dict) else None
    text = of_user.get(key_id) if isinstance(of_user, dict) else None
    if text is None:
        raise BadSignature(f"there is no signature by {user_id} {key_id}")
    try:
        signature = decode_base64(text, length=SIGNATURE_LENGTH)
        VerifyKey(key).verify(object_bytes(dict(value)), signature)
    except Malformed:
        raise BadSignature(f"the signature by {user_id} {key_id} is not base64 of 64 bytes") from None
    except (BadSignatureError, ValueError):
        raise BadSignature(f"the signature by {user_id} {key_id} does not verify") from None


def _algorithms(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_ALGORITHMS:
        raise Malformed(f"algorithms is not a list of at most {MAX_ALGORITHMS}")
    if not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH for name in value):
        raise Malformed("algorithms holds something that is no algorithm's name")
    return tuple(value)


def _keys(value: object, device_id: str) -> dict[str, str]:
    """The keys by their algorithms; each key id is an algorithm, a colon and the device id."""
    if not isinstance(value, dict) or len(value) > MAX_ALGORITHMS:
        raise Malformed(f"keys is not an object of at most {MAX_ALGORITHMS} members")
    keys: dict[str, str] = {}
    for key_id, key in value.items():
        algorithm, _, version = key_id.partition(":")
        if not _ALGORITHM.fullmatch(algorithm) or len(algorithm) > MAX_NAME_LENGTH:
            raise Malformed("keys has a member whose name is no key id")
        if version != device_id:
            raise Malformed(f"the key {algorithm} is of another device")
        if not isinstance(key, str):
            raise Malformed(f"the key {algorithm} is not a string")
        keys[algorithm] = key
    return keys


def _credential(keys: Mapping[str, str], user_id: str, device_id: str) -> Credential | None:
    if MLS_CREDENTIAL not in keys:
        return None
    credential = read_credential(decode_either_base64(keys[MLS_CREDENTIAL], at_most=MAX_CREDENTIAL_BYTES))
    if (credential.user_id, credential.device_id) != (user_id, device_id):
        raise Malformed("the credential is another device's")
    return credential


def _check_signatures(device: dict[str, Any], keys: Mapping[str, bytes | None]) -> None:
    signatures = device["signatures"]
    well_formed = isinstance(signatures, dict) and all(
        isinstance(by_key, dict) and all(isinstance(text, str) for text in by_key.values())
        for by_key in signatures.values()
    )
    if not well_formed:
        raise Malformed("signatures is not an object of objects of strings")
    signing = {algorithm: key for algorithm, key in keys.items() if key is not None}
    if not signing:
        raise Malformed(f"the device has no key that signs: {MLS_CREDENTIAL} or {ED25519}")
    for algorithm, key in signing.items():
        key_id = f"{algorithm}:{device['device_id']}"
        check_device_signature(device, key, user_id=device["user_id"], key_id=key_id)
