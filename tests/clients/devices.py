"""What clients publish of a device: the signed objects, made as a client makes them and with none of our code."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import nacl.signing

from tests.clients.mls import ALGORITHM, Client, Device, credential

CREDENTIAL = "m.mls.v1.credential.ed25519"

Sign = Callable[[bytes], bytes]


def mls_device(client: Client) -> dict[str, Any]:
    """The device object of an MLS client (draft "Device Credentials")."""
    return device_object(
        client.device,
        algorithms=[ALGORITHM],
        keys={CREDENTIAL: unpadded(credential(client.device, client.signature_key))},
        signing=CREDENTIAL,
        sign=client.sign,
    )


def device_object(
    device: Device, *, algorithms: list[str], keys: Mapping[str, str], signing: str, sign: Sign
) -> dict[str, Any]:
    """Some algorithms and keys of a device, keys named without the device id, signed by the key named `signing`."""
    content = {
        "user_id": device.user_id,
        "device_id": device.device_id,
        "algorithms": algorithms,
        "keys": {f"{name}:{device.device_id}": key for name, key in keys.items()},
    }
    return signed(content, device, signing=signing, sign=sign)


def signed(content: Mapping[str, Any], device: Device, *, signing: str, sign: Sign) -> dict[str, Any]:
    """Matrix's signed JSON, by one key of a device."""
    signature = unpadded(sign(canonical(content)))
    return {**content, "signatures": {device.user_id: {f"{signing}:{device.device_id}": signature}}}


def canonical(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON of objects whose keys are ASCII and whose numbers are whole."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def unpadded(data: bytes) -> str:
    """Unpadded base64."""
    return base64.b64encode(data).decode().rstrip("=")


def padded(text: str) -> bytes:
    """Base64 with or without padding."""
    return base64.b64decode(text + "=" * (-len(text) % 4))


def plain_device(device: Device) -> dict[str, Any]:
    """A device with a key to sign by and nothing else, for messages that are not encrypted."""
    key = nacl.signing.SigningKey.generate()
    return device_object(
        device,
        algorithms=[],
        keys={"ed25519": unpadded(bytes(key.verify_key))},
        signing="ed25519",
        sign=lambda message: key.sign(message).signature,
    )
